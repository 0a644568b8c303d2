"""Laws of the word search: full width is exhaustive; results, files and formats say the same."""

import itertools
import json
import math
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import tones_of
from safetensors.numpy import save_file

from asr.commands import score, transcribe
from asr.commands.words import main as make_words
from asr.criteria import CTC, CTCConfig
from asr.criteria import Path as Found
from asr.errors import DataError
from asr.labels import textgrid
from asr.records import Hypothesis, Utterance, read_jsonl, write_jsonl
from asr.scoring import read_transcripts
from asr.search import SearchConfig
from asr.search.arpa import write_arpa
from asr.search.ngram import LanguageModel, estimate
from asr.search.word_model import WordGraph, load_words, save_words, word_graph, word_model
from asr.transcriber import load

PHONES = ("aa", "b", "iy")
LEXICON = {
    "a": (("aa",),),
    "ab": (("aa", "b"), ("b",)),  # a variant, and a homophone of "b"
    "aba": (("aa", "b", "aa"),),
    "b": (("b",),),
    "bb": (("b", "b"),),  # needs a blank within
    "e": (("iy",),),
}
WIDE = SearchConfig(
    beam=3000, threshold=math.inf, lm_weight=0.7, word_bonus=0.3, variant=0.5, unknown=math.inf
)


def model(order: int = 2) -> LanguageModel:
    draw = np.random.default_rng(order)
    text = [tuple(draw.choice([*LEXICON], draw.integers(1, 6))) for _ in range(60)]
    return estimate(text, order, tuple(LEXICON))


def graph(order: int = 2, phones: tuple[str, ...] = PHONES) -> WordGraph:
    return word_graph(word_model(LEXICON, model(order)), phones)


def log_probs_of(seed: int, frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (1.5 * torch.randn(1, frames, 4, generator=generator)).log_softmax(dim=2)


def search(log_probs: torch.Tensor, config: SearchConfig, words: WordGraph) -> list[Found]:
    lengths = torch.tensor([log_probs.shape[1]])
    return CTC(CTCConfig(), 1, 4).search(log_probs, lengths, config, words)[0]


Spoken = tuple[tuple[str, tuple[str, ...]], ...]  # words, each with one of its pronunciations


def sentences(frames: int) -> list[Spoken]:
    """Every sequence of pronunciations of at most as many phones as frames."""
    entries = [(word, one) for word, variants in LEXICON.items() for one in variants]
    result: list[Spoken] = []
    for count in range(frames + 1):
        for spoken in itertools.product(entries, repeat=count):
            if sum(len(one) for _, one in spoken) <= frames:
                result.append(spoken)
    return result


def masses(log_probs: torch.Tensor) -> dict[tuple[str, ...], float]:
    """Σ over alignments of every phone sequence."""
    frames = log_probs[0].double().exp().numpy()
    result: dict[tuple[str, ...], float] = defaultdict(float)
    for path in itertools.product(range(4), repeat=len(frames)):
        phones = tuple(PHONES[v - 1] for v, _ in itertools.groupby(path) if v)
        result[phones] += math.prod(frames[t, v] for t, v in enumerate(path))
    return result


def expected(
    log_probs: torch.Tensor, config: SearchConfig, ngram: LanguageModel
) -> dict[Spoken, float]:
    by_phones, result = masses(log_probs), {}
    for spoken in sentences(log_probs.shape[1]):
        phones = tuple(phone for _, one in spoken for phone in one)
        if phones in by_phones:
            words = [word for word, _ in spoken]
            result[spoken] = (
                math.log(by_phones[phones])
                + config.lm_weight * ngram.log_prob_of(words)
                + config.word_bonus * len(words)
                - config.variant * sum(one != LEXICON[word][0] for word, one in spoken)
                + config.bonus * len(phones)
            )
    return result


def spoken(path: Found) -> Spoken:
    assert path.words is not None
    phones = iter(PHONES[label - 1] for label in path.labels)
    return tuple((word, tuple(itertools.islice(phones, n))) for word, n in path.words)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_full_beam_is_exhaustive_where_histories_stay_apart(order: int) -> None:
    config = replace(WIDE, n_best=2000, bonus=0.4)
    for seed, frames in ((1, 1), (2, 3), (3, 4)):
        log_probs = log_probs_of(seed, frames)
        scores = expected(log_probs, config, model(order))
        paths = search(log_probs, config, graph(order))
        assert {spoken(path) for path in paths} == set(scores)
        assert len(paths) == len(scores)
        assert [path.score for path in paths] == sorted((p.score for p in paths), reverse=True)
        for path in paths:
            assert path.score == pytest.approx(scores[spoken(path)], abs=1e-4)


def test_histories_that_the_ngram_does_not_tell_apart_share_their_mass() -> None:
    """With unigrams there is one state: the score is that of all sentences with the same end."""
    for seed in (4, 5):
        log_probs = log_probs_of(seed, 4)
        scores = expected(log_probs, WIDE, model(1))
        (path,) = search(log_probs, WIDE, graph(1))
        ends: dict[str, float] = defaultdict(float)
        for one, total in scores.items():
            ends[one[-1][1][-1] if one else ""] += math.exp(total)
        assert math.exp(path.score) == pytest.approx(max(ends.values()), rel=1e-4)


def test_a_small_beam_finds_what_a_full_one_finds() -> None:
    for seed in range(20):
        log_probs = (2 * log_probs_of(seed, 8)).log_softmax(2)
        small, full = (
            search(log_probs, replace(WIDE, beam=beam, threshold=limit), graph())[0]
            for beam, limit in ((30, 12.0), (3000, math.inf))
        )
        assert spoken(small) == spoken(full)
        assert small.score == pytest.approx(full.score, abs=0.01)


def test_words_outside_the_lexicon_are_unknown_with_their_phones() -> None:
    frames = torch.full((1, 7, 4), -12.0)
    for t, v in enumerate((3, 0, 2, 0, 3, 0, 1)):  # iy b iy aa
        frames[0, t, v] = 0.0
    only = {"a": (("aa",),)}
    ngram = estimate([("a",), ("a", "a")], 2, ("a",))
    words = word_graph(word_model(only, ngram), PHONES)
    config = replace(WIDE, unknown=9.0, beam=50)
    (path,) = search(frames.log_softmax(2), config, words)
    assert path.words == (("<unk>", 3), ("a", 1))
    assert path.labels == (3, 2, 3, 1)
    score = -9.0 - 0.7 * 3 * math.log(3) + 0.3 * 2
    score += 0.7 * (ngram.log_prob((), "a") + ngram.log_prob(("a",), "</s>"))
    assert path.score == pytest.approx(score, abs=0.02)  # nearly all mass is one alignment's
    known = search(frames.log_softmax(2), replace(config, unknown=math.inf), words)[0]
    assert known.words is not None
    assert {word for word, _ in known.words} == {"a"}


def test_the_tree_has_each_pronunciation_once_below_its_prefix() -> None:
    words = graph()
    tree, size = words.tree, len(PHONES) + 1
    reached = {}
    stack = [(0, ())]
    while stack:
        node, path = stack.pop()
        for child in range(tree.first_child[node], tree.last_child[node]):
            below = (*path, PHONES[tree.label[child] - 1])
            stack.append((child, below))
            for entry in range(tree.first_entry[child], tree.last_entry[child]):
                word = words.vocabulary[tree.word[entry] - 1]
                reached[word, below] = tree.look_ahead[child]
    assert set(reached) == {(w, one) for w, variants in LEXICON.items() for one in variants}
    for (word, _), best in reached.items():
        assert best >= model().log_prob((), word) - 1e-9
    assert len(tree.label) == 2 * size + 6  # aa, aa b, aa b aa, b, b b, iy


def test_a_file_gives_the_same_words(tmp_path: Path) -> None:
    made = word_model(LEXICON, model(3), replace(WIDE, threshold=1e3, unknown=1e3))
    save_words(tmp_path / "words.safetensors", made)
    read = load_words(tmp_path / "words.safetensors")
    assert (read.words, read.phones, read.search) == (made.words, made.phones, made.search)
    for seed in range(5):
        log_probs = log_probs_of(seed, 6)
        (one,), (other,) = (search(log_probs, WIDE, word_graph(m, PHONES)) for m in (made, read))
        assert one.words == other.words
        assert one.score == pytest.approx(other.score, abs=0.02)


def test_damage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "words.safetensors"
    with pytest.raises(DataError, match="no such file of words"):
        load_words(path)
    save_words(path, word_model(LEXICON, model()))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DataError, match="checksum"):
        load_words(path)
    path.write_bytes(data[:50])
    with pytest.raises(DataError, match="damaged"):
        load_words(path)
    save_file({"a": np.zeros(1)}, path)
    with pytest.raises(DataError, match="not one that `asr words` wrote"):
        load_words(path)


def test_other_phones_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="'iy' is not in its vocabulary"):
        graph(phones=("aa", "b", "ix"))
    with pytest.raises(DataError, match="no word of the n-gram"):
        word_model({"x": (("aa",),)}, model())


# ── recordings, files and scores ─────────────────────────────────────────────────────────────

TONES = "me M IY\nsee S IY\nma M AA\nma(2) M AA AA\n"


@pytest.fixture(scope="module")
def tone_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of words over the phones of `tone_model`, made by the command."""
    folder = tmp_path_factory.mktemp("words")
    (folder / "lexicon.txt").write_text(TONES)
    ngram = estimate([("me", "see"), ("see", "ma"), ("me", "ma", "other")], 2)
    write_arpa(folder / "words.arpa", ngram)
    tuned = {"search": asdict(replace(WIDE, beam=50, unknown=3.0)), "dev_per": 1.0}
    (folder / "search.json").write_text(json.dumps(tuned).replace("Infinity", "1e3"))
    path = folder / "words.safetensors"
    command = [str(folder / "lexicon.txt"), str(folder / "words.arpa"), "--output", str(path)]
    make_words([*command, "--search", str(folder / "search.json")])
    return path


def test_a_recording_has_words_with_their_phones_and_times(
    tone_model: Path, tone_words: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phones = ("m", "iy", "s", "iy", "aa", "s", "aa")  # and two that fit no word
    waveform = tones_of(phones)
    transcript = load(tone_model, words=tone_words).transcribe(waveform, 16_000)
    assert transcript.words is not None
    assert [one.word for one in transcript.words][:2] == ["me", "see"]
    assert transcript.words[-1].word == "<unk>"
    assert tuple(p for one in transcript.words for p in one.phones) == phones
    for word, first, last in zip(transcript.words[:2], (0, 2), (1, 3), strict=True):
        assert word.start_s == transcript.phones[first].start_s
        assert word.end_s == transcript.phones[last].end_s
        assert 0.5 < word.confidence <= 1
    path = tmp_path / "tones.wav"
    soundfile.write(path, waveform, 16_000)
    flags = [str(path), "--checkpoint", str(tone_model), "--words-file", str(tone_words)]
    for name in ("tones.json", "tones.txt", "tones.TextGrid"):
        assert transcribe.main([*flags, "--output", str(tmp_path / name)]) == 0
        read = read_transcripts(tmp_path / name)
        assert next(iter(read.items.values())).phones == phones
        if name == "tones.json":
            said = next(iter(read.items.values())).words
            assert (said or "").split()[:2] == ["me", "see"]
    assert "  me see" in (tmp_path / "tones.txt").read_text()
    tiers = [tier.name for tier in textgrid.read_tiers(tmp_path / "tones.TextGrid")]
    assert tiers == ["words", "phones", "confidences"]
    capsys.readouterr()


@pytest.mark.filterwarnings("ignore:the array. silent")
@pytest.mark.parametrize("level", [0.0, 0.005])
def test_without_speech_there_are_no_words(
    level: float, tone_model: Path, tone_words: Path, tmp_path: Path
) -> None:
    waveform = (level * np.random.default_rng(1).standard_normal(16_000)).astype(np.float32)
    transcript = load(tone_model, words=tone_words).transcribe(waveform, 16_000)
    assert (transcript.phones, transcript.words) == ((), ())
    soundfile.write(tmp_path / "quiet.wav", waveform, 16_000)
    flags = [str(tmp_path / "quiet.wav"), "--checkpoint", str(tone_model)]
    for name in ("quiet.json", "quiet.txt", "quiet.TextGrid"):
        output = tmp_path / name
        assert (
            transcribe.main([*flags, "--words-file", str(tone_words), "--output", str(output)]) == 0
        )
    assert json.loads((tmp_path / "quiet.json").read_text())["words"] == []
    assert (tmp_path / "quiet.txt").read_text().endswith("s: no speech found\n")
    tiers = [tier.name for tier in textgrid.read_tiers(tmp_path / "quiet.TextGrid")]
    assert tiers == ["words", "phones", "confidences"]


def test_without_words_transcripts_have_none(tone_model: Path) -> None:
    assert load(tone_model).transcribe(tones_of(("m", "iy")), 16_000).words is None


def test_words_need_their_file(tone_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.safetensors: no such file of words"):
        load(tone_model, words=tmp_path / "absent.safetensors")


def test_word_error_rate_counts_words(tmp_path: Path) -> None:
    said = Utterance("a", "a.wav", 1.0, "a", ("m", "iy", "s", "iy"), words="ME SEE")
    heard = Hypothesis("a", ("m", "iy", "m", "aa"), words=(("me", 2), ("ma", 2)))
    write_jsonl(tmp_path / "ref.jsonl", [said])
    write_jsonl(tmp_path / "hyp.jsonl", [heard])
    assert read_jsonl(tmp_path / "hyp.jsonl", Hypothesis) == [heard]
    (report,) = score.run(tmp_path / "ref.jsonl", [tmp_path / "hyp.jsonl"], protocol="words")
    assert (report.score.total.err, report.score.total.ref) == (1, 2)
    assert report.score.line().startswith("%WER 50.00")
    write_jsonl(tmp_path / "phones.jsonl", [Hypothesis("a", ("m",))])
    with pytest.raises(DataError, match="a has no words"):
        score.run(tmp_path / "ref.jsonl", [tmp_path / "phones.jsonl"], protocol="words")
    (tmp_path / "bad.jsonl").write_text(json.dumps(heard.to_dict() | {"words": [["me", 2]]}) + "\n")
    with pytest.raises(DataError, match="4 phones in all"):
        read_jsonl(tmp_path / "bad.jsonl", Hypothesis)
