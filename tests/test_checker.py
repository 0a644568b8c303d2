"""Which words of a transcript were not said, on tones, with mistakes of every kind."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import tones_of

from asr import checker
from asr.checker import Checker, clues
from asr.commands import checks
from asr.commands.texts import Pair
from asr.corpora.lexicon import Said
from asr.errors import DataError
from asr.records import Utterance, Word
from asr.search.evidence import agreement, evidence, words_of
from asr.transcriber import Transcriber, load_model

SPOKEN = ["aa s", "m iy", "s m aa", "iy s", "m aa", "s iy"]


def said(*words: str) -> tuple[Said, ...]:
    return tuple(Said(word, (tuple(word.split()),)) for word in words)


@pytest.fixture(scope="module")
def model(tone_model: Path) -> Checker:
    return Checker(Transcriber(load_model(tone_model)))


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return tones_of(" ".join(SPOKEN).split())


MISTAKES = {
    "wrong": ([*SPOKEN[:2], "iy m s", *SPOKEN[3:]], 2),
    "inserted": ([*SPOKEN[:2], "iy aa", *SPOKEN[2:]], 2),
    "missing": ([*SPOKEN[:3], *SPOKEN[4:]], 2),
    "missing at the start": (SPOKEN[1:], -1),
    "missing at the end": (SPOKEN[:-1], 4),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_mistake_is_the_most_suspicious(
    model: Checker, speech: np.ndarray, mistake: str
) -> None:
    words, place = MISTAKES[mistake]
    first, *_ = model.check("a", speech, said(*words)).suspects
    assert (first.kind, first.number) == (mistake.split()[0], place)
    assert first.probability < 0.5


def test_the_words_that_were_said_are_right(model: Checker, speech: np.ndarray) -> None:
    result = model.check("a", speech, said(*SPOKEN))
    assert [one.word for one in result.words] == SPOKEN
    assert result.agreement == pytest.approx(1.0, abs=0.05)
    assert not result.is_other
    assert result.suspects[0].probability > 0.8
    for n, one in enumerate(result.words):
        assert " ".join(one.heard) == one.word
        middle = 0.15 * (sum(len(word.split()) for word in SPOKEN[:n]) + len(one.heard) / 2)
        assert one.start_s < middle < one.end_s


@pytest.mark.parametrize("other", [["s s m", "aa aa iy", "m m s", "iy aa"], ["m"], ["iy s iy"] * 9])
def test_the_transcript_of_another_recording_is_named(
    model: Checker, speech: np.ndarray, other: list[str]
) -> None:
    result = model.check("a", speech, said(*other))
    assert result.is_other
    assert result.agreement < 0.3


def test_a_transcript_that_does_not_fit_is_anothers(model: Checker) -> None:
    result = model.check("a", tones_of(["aa", "s"]), said(*["aa s"] * 99))
    assert result.is_other
    assert max(one.probability for one in result.words) < 0.5


def test_agreement_is_a_share_of_the_way_from_chance_to_recognition() -> None:
    assert agreement(-10.0, -10.0, -90.0, 10) == (1.0, False)
    assert agreement(-50.0, -10.0, -90.0, 10) == (0.5, False)
    assert agreement(-90.0, -10.0, -90.0, 10) == (0.0, True)
    assert agreement(-90.0, -80.0, -90.0, 10) == (0.0, False)  # hardly worse than recognition
    assert agreement(-np.inf, -10.0, -np.inf, 10) == (0.0, True)


def test_a_mistake_is_the_word_s_that_explains_it_best() -> None:
    """A clue beyond those of the neighbours is none where a neighbour explains as much."""
    scores = np.full((9, 4), -9.0)
    scores[np.arange(9), [0, 1, 0, 2, 0, 3, 0, 1, 0]] = 0.0
    transcript = [[[1]], [[2]], [[1]]]
    of_words, of_places = clues(evidence(scores, words_of(transcript), 1.0), transcript)
    assert of_places[:, 2].argmax() == 2
    assert (of_words[:, 5] == 0).all()


def test_a_long_recording_is_judged_in_parts(
    model: Checker, tone_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the whole, for words that its aligner knows, and one that it does not."""
    words = [*SPOKEN * 4, "iy iy m", *SPOKEN * 4]
    speech = tones_of(" ".join(SPOKEN * 8).split())
    whole = model.check("a", speech, said(*words))
    placed, time_s = list[Word](), 0.0
    for word in SPOKEN * 8:
        end_s = time_s + 0.15 * len(word.split())
        placed.append(Word(word, time_s, end_s, 1.0, ()))
        time_s = end_s
    aligner = SimpleNamespace(transcript=lambda *_: SimpleNamespace(words=placed))
    monkeypatch.setattr(checker, "SHORTEST_S", 2.0)
    monkeypatch.setattr(checker, "LONGEST_S", 5.0)
    in_parts = Checker(model.recogniser, lambda: aligner).check("a", speech, said(*words))
    assert [one.word for one in in_parts.words] == words
    assert len(in_parts.missing) == len(words) + 1
    assert in_parts.suspects[0].number == whole.suspects[0].number == 24
    for one, other in zip(in_parts.words, whole.words, strict=True):
        assert one.start_s == pytest.approx(other.start_s, abs=0.1)
    placed.clear()
    with pytest.raises(DataError, match="none of its words from 0 to 5 s"):
        Checker(model.recogniser, lambda: aligner).check("a", speech, said(*words))


def test_the_table_has_mistakes_and_the_file_all(
    model: Checker,
    tones: list[Utterance],
    tone_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(checks, "MODEL", tone_model)
    own, other, gone = (
        Pair(tmp_path / one.id, one.audio, None, one.id, one.phones, one)
        for one in (tones[0], tones[1], replace(tones[2], audio="gone.wav"))
    )
    swapped = said(*[phone for phone in ("s", "iy", "aa", "m") if phone != tones[1].phones[0]] * 5)
    jobs = {n: (pair, said(*pair.phones)) for n, pair in enumerate((own, other, gone))}
    jobs[1] = other, swapped
    spoken: list[tuple[str, Pair]] = []
    results = checks.run(
        jobs, lambda kind, pair, _: spoken.append((kind, pair)), tmp_path / "a.jsonl", None, "cpu"
    )
    assert spoken == [("doubt", other), ("error", gone)]
    assert [one.is_other for one in results] == [False, True]
    shown = capsys.readouterr().out
    assert other.id not in shown
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [own.utterance.id, other.utterance.id]
    assert [one["word"] for one in rows[0]["words"]] == list(tones[0].phones)
