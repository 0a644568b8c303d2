"""Goodness of pronunciation: likelihoods of variants, judgements, scores, files."""

import itertools
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr import assessment
from asr.assessment import AssessedWord, Assessment, Assessor, Extra, Sound, judge, likeliest
from asr.commands.assess import in_format
from asr.corpora.lexicon import Said
from asr.corpora.spoken import Pronouncer
from asr.errors import DataError
from asr.labels.textgrid import read_tiers
from asr.phones import Vocabulary, phone_set
from asr.records import Segment, Transcript, Word
from asr.search.substitutions import variants
from asr.transcriber import MODEL, Transcriber, load_model

SHARED = Path(os.environ.get("ASR_SHARED", Path(__file__).parents[2] / "shared"))
SPEECH = SHARED / "corpora" / "timit-sample" / "dr6-fapb0"


def log_likelihood(log_probs: np.ndarray, labels: Sequence[int]) -> float:
    loss = torch.nn.functional.ctc_loss(
        torch.from_numpy(log_probs)[:, None],
        torch.tensor([[*labels] or [1]]),
        torch.tensor([len(log_probs)]),
        torch.tensor([len(labels)]),
        reduction="none",
    )
    return -float(loss)


def random_log_probs(frames: int, size: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(3 * rng.standard_normal((frames, size)))
    return np.asarray(scores.log_softmax(1))


@pytest.mark.parametrize("labels", [[1], [2, 2], [1, 2, 1], [3, 3, 1, 3], [1, 2, 3, 4, 4, 2]])
@pytest.mark.parametrize("frames", [6, 8, 13])
def test_variants_are_those_of_ctc(labels: list[int], frames: int) -> None:
    log_probs = random_log_probs(frames, 5, frames)
    total, replaced, inserted = variants(log_probs, np.array(labels))
    assert total == pytest.approx(log_likelihood(log_probs, labels), abs=1e-6)
    if total == -math.inf:
        assert np.isneginf(replaced).all()
        assert np.isneginf(inserted).all()
        return
    for u, v in itertools.product(range(len(labels)), range(5)):
        changed = labels[:u] + ([v] if v else []) + labels[u + 1 :]
        assert total + replaced[u, v] == pytest.approx(log_likelihood(log_probs, changed), abs=1e-6)
    for u, v in itertools.product(range(len(labels) + 1), range(1, 5)):
        changed = [*labels[:u], v, *labels[u:]]
        assert total + inserted[u, v] == pytest.approx(log_likelihood(log_probs, changed), abs=1e-6)


def test_very_unlikely_frames_leave_numbers() -> None:
    log_probs = np.full((400, 4), -1e4)
    log_probs[:, 0] = 0.0
    total, replaced, inserted = variants(log_probs, np.array([1, 2, 3]))
    assert total == pytest.approx(-3e4, abs=30)
    assert replaced[:, 0] == pytest.approx(1e4, abs=30)
    assert not np.isnan(inserted).any()


def spoken(labels: Sequence[int], size: int = 6, frames: int = 3) -> np.ndarray:
    """Log-probabilities of a network that is sure of the labels, `frames` for each."""
    probs = np.full((frames * len(labels), size), 0.001)
    for n, label in enumerate(labels):
        probs[frames * n, label] = probs[frames * n + 1 : frames * (n + 1), 0] = 1.0
    return np.log(probs / probs.sum(axis=1, keepdims=True))


PRIOR = np.full((6, 6), -4.0)


@pytest.mark.parametrize(
    ("written", "heard", "extra"),
    [
        ([1, 2, 3], [1, 2, 3], [0, 0, 0, 0]),
        ([1, 4, 3], [1, 2, 3], [0, 0, 0, 0]),
        ([1, 2, 4, 3], [1, 2, 0, 3], [0, 0, 0, 0, 0]),
        ([1, 3], [1, 3], [0, 2, 0]),
        ([2, 3], [2, 3], [1, 0, 0]),
        ([1, 2], [1, 2], [0, 0, 3]),
    ],
)
def test_what_was_said_instead_is_heard(
    written: list[int], heard: list[int], extra: list[int]
) -> None:
    judged = judge(spoken([1, 2, 3]), np.array(written), PRIOR)
    assert judged.heard.tolist() == heard
    assert judged.extra.tolist() == extra
    assert ((judged.odds > 0) == (judged.heard == written)).all()
    assert ((judged.extra_odds < 0) == (judged.extra > 0)).all()


def test_a_long_phone_is_no_second_one() -> None:
    judged = judge(spoken([1, 2, 2, 3]), np.array([1, 2, 3]), PRIOR)
    assert judged.extra.tolist() == [0, 0, 0, 0]


def test_the_prior_excuses_what_natives_do() -> None:
    lenient = PRIOR.copy()
    lenient[4, 2] = -20.0
    strict, excused = (judge(spoken([1, 2]), np.array([1, 4]), one) for one in (PRIOR, lenient))
    assert strict.odds[1] < 0 < excused.odds[1]
    assert excused.heard.tolist() == [1, 4]


def test_too_many_phones_are_refused() -> None:
    with pytest.raises(DataError, match="3 frames of the network are too few for 4 phones"):
        judge(spoken([1]), np.array([1, 2, 3, 4]), PRIOR)


def test_scores_rise_with_the_odds_through_50() -> None:
    scores = assessment.score_of(np.array([-1e9, -3.0, 0.0, 3.0, 1e9]))
    assert (np.diff(scores) > 0).all()
    assert scores[[0, 2, 4]] == pytest.approx([0, 50, 100])


def test_the_table_is_for_the_phones_of_cmudict() -> None:
    phones = phone_set("arpabet39")
    prior = assessment.prior_of(phones)
    assert prior.shape == (40, 40)
    assert (np.diag(prior) == 0).all()
    label = {phone: n for n, phone in enumerate(("-", *phones))}
    assert prior[label["ah"], 0] < prior[label["aa"], 0]  # natives leave a reduced vowel out
    assert np.array_equal(assessment.prior_of(phones[:5]), prior[:6, :6])
    with pytest.raises(DataError, match="phone 'dx', expected those of CMUdict"):
        assessment.prior_of(("aa", "dx"))


def test_the_likeliest_pronunciation_is_that_of_ctc() -> None:
    vocabulary = Vocabulary(("a", "b", "c"))
    said = [Said("x", (("a",), ("a", "b"))), Said("y", (("c",), ("b", "c"), ("b",)))]
    for seed in range(5):
        log_probs = random_log_probs(8, 4, seed).astype(np.float32)
        chosen = likeliest(log_probs, said, vocabulary)
        for n, one in enumerate(said):
            first = [way.pronunciations[0] for way in said]
            losses = {}
            for way in one.pronunciations:
                text = [*first[:n], way, *first[n + 1 :]]
                labels = vocabulary.encode([phone for word in text for phone in word])
                losses[way] = -log_likelihood(log_probs, labels)
            assert chosen[n] == min(losses, key=lambda way: losses[way])


class Even:
    """An aligner that gives every phone the same time, and words pauses between them."""

    def transcript(
        self, name: str, blocks: Any, said: Sequence[Said], warn: Any, between: Any
    ) -> Transcript:
        duration_s = sum(map(len, blocks)) / 16_000
        count = sum(len(one.pronunciations[0]) for one in said) + len(said)
        step, at = duration_s / count, 0
        phones, words = list[Segment](), list[Word]()
        for one in said:
            own = [
                Segment(phone, round(step * (at + n), 4), round(step * (at + n + 1), 4), 0.5)
                for n, phone in enumerate(one.pronunciations[0])
            ]
            at += len(own) + 1
            phones += own
            names = one.pronunciations[0]
            words.append(Word(one.word, own[0].start_s, own[-1].end_s, 0.5, names))
        return Transcript(name, duration_s, tuple(phones), tuple(words))


@pytest.fixture(scope="module")
def assessor() -> Assessor:
    loaded = load_model(MODEL, language_model=False)
    return Assessor(Transcriber(loaded), Even())  # type: ignore[arg-type]


def test_a_native_is_praised_and_another_text_is_not(assessor: Assessor) -> None:
    if not SPEECH.is_dir():
        pytest.skip("needs ../shared")
    waveform = assessor.recogniser.waveform(SPEECH / "sa1.wav")
    right = "she had your dark suit in greasy wash water all year"
    result = assessor.assess("sa1", waveform, Pronouncer().said(right))
    assert result.score > 85
    assert result.completeness == 100
    flagged = [one for word in result.words for one in word.phones if one.score < 50]
    assert len(flagged) <= 2
    said = Pronouncer().said(right)
    wrong = [Said("dark", (("th", "aa", "r", "k"),)) if one.word == "dark" else one for one in said]
    word = assessor.assess("sa1", waveform, wrong).words[3]
    assert [one.heard for one in word.phones] == ["d", "aa", "r", "k"]
    assert word.phones[0].score < 30 < 80 < word.phones[1].score
    longer = assessor.assess("sa1", waveform, [*said[:4], *Pronouncer().said("bicycle"), *said[4:]])
    assert [one.word for one in longer.words if one.left_out] == ["bicycle"]
    assert longer.completeness == pytest.approx(100 * 11 / 12, abs=0.1)
    warnings: list[str] = []
    other = Pronouncer().said("biology is a fascinating subject for most of us")
    assert assessor.assess("sa1", waveform, other, warnings.append).score < 40
    assert any("is this what was said" in one for one in warnings)


def test_long_transcripts_are_cut_in_their_pauses() -> None:
    words = [Word("a", float(n), n + 0.9, 1.0, ("ah",)) for n in range(5, 75)]
    words[20] = words[20]._replace(start_s=25.5)
    words[45] = words[45]._replace(start_s=50.5)
    parts = list(assessment.parts_of(words, 0.1))
    assert parts == [
        (0, 20, slice(40, 252)),
        (20, 45, slice(252, 502)),
        (45, 70, slice(502, 759)),
    ]


THINK = AssessedWord(
    *("think", 0.1, 0.5, 60.0, False),
    phones=(
        Sound("th", 0.1, 0.2, 12.0, "s"),
        Sound("ih", 0.2, 0.3, 97.0, "ih"),
        Sound("ng", 0.3, 0.4, 30.0, "-"),
        Sound("k", 0.4, 0.5, 95.0, "k"),
    ),
    extra=(Extra("ah", 0.5, 5.0, 4),),
)


def test_results_are_written_in_each_format(tmp_path: Path) -> None:
    result = assessment.summary("a.wav", 1.0, [THINK])
    assert result == Assessment("a.wav", 1.0, result.score, result.score, 100.0, (THINK,))
    assert result.score == pytest.approx((12 + 1.5 * 97 + 30 + 95 + 1.5 * 5) / 6, abs=0.1)
    record = json.loads(in_format(result, "json"))
    assert record["words"][0]["phones"][0] == vars(THINK.phones[0])
    assert record["words"][0]["extra"] == [vars(THINK.extra[0])]
    text = in_format(result, "text")
    assert "th→s(12) ih ng→-(30) k +ah(5)" in text
    (tmp_path / "a.TextGrid").write_text(in_format(result, "textgrid"), "utf-8")
    tiers = {tier.name: tier.intervals for tier in read_tiers(tmp_path / "a.TextGrid")}
    assert [*tiers] == ["words", "phones", "scores", "heard"]
    labelled = {
        name: [(one.start, one.end, one.phone) for one in rows or () if one.phone]
        for name, rows in tiers.items()
    }
    assert labelled["words"] == [(0.1, 0.5, "think")]
    assert [one[2] for one in labelled["scores"]] == ["12", "97", "30", "95"]
    heard = [(0.1, 0.2, "th→s(12)"), (0.3, 0.4, "ng→-(30)"), (0.4, 0.5, "k+ah(5)")]
    assert labelled["heard"] == heard
