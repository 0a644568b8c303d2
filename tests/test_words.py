"""Laws of the word search: full width is exhaustive; results, files and formats say the same."""

import itertools
import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from asr.criteria import CTC, CTCConfig
from asr.criteria import Path as Found
from asr.errors import DataError
from asr.search import SearchConfig
from asr.search.ngram import LanguageModel, estimate
from asr.search.word_model import WordGraph, load_words, save_words, word_graph, word_model

PHONES = ("aa", "b", "iy")
LEXICON = {
    "a": (("aa",),),
    "ab": (("aa", "b"), ("b",)),  # a variant, and a homophone of "b"
    "aba": (("aa", "b", "aa"),),
    "b": (("b",),),
    "bb": (("b", "b"),),  # needs a blank within
    "e": (("iy",),),
}
WIDE = SearchConfig(beam=3000, threshold=math.inf, lm_weight=0.7, word_bonus=0.3, unknown=math.inf)


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
        for one, score in scores.items():
            ends[one[-1][1][-1] if one else ""] += math.exp(score)
        assert math.exp(path.score) == pytest.approx(max(ends.values()), rel=1e-4)


def test_the_likeliest_words_are_found_with_a_small_beam() -> None:
    hits = 0
    for seed in range(20):
        log_probs = log_probs_of(seed, 5) * 2
        scores = expected(log_probs.log_softmax(2), WIDE, model())
        (path,) = search(log_probs.log_softmax(2), replace(WIDE, beam=20, threshold=10.0), graph())
        hits += spoken(path) == max(scores, key=scores.__getitem__)
    assert hits >= 18


def test_words_outside_the_lexicon_are_unknown_with_their_phones() -> None:
    frames = torch.full((1, 7, 4), -12.0)
    for t, v in enumerate((3, 0, 2, 0, 3, 0, 1)):  # iy b iy aa
        frames[0, t, v] = 0.0
    only = {"a": (("aa",),)}
    ngram = estimate([("a",), ("a", "a")], 2, ("a",))
    words = word_graph(word_model(only, ngram), PHONES)
    config = replace(WIDE, unknown=2.0, beam=50)
    (path,) = search(frames.log_softmax(2), config, words)
    assert path.words == (("<unk>", 3), ("a", 1))
    assert path.labels == (3, 2, 3, 1)
    score = -2.0 - 0.7 * 3 * math.log(3) + 0.3 * 2
    score += 0.7 * (ngram.log_prob((), "a") + ngram.log_prob(("a",), "</s>"))
    assert path.score == pytest.approx(score, abs=0.02)  # nearly all mass is one alignment's
    assert search(frames.log_softmax(2), replace(config, unknown=math.inf), words)[0].words != path


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
                word = words.model.words[tree.word[entry] - 1]
                reached[word, below] = tree.look_ahead[child]
    assert set(reached) == {(w, one) for w, variants in LEXICON.items() for one in variants}
    for (word, _), best in reached.items():
        assert best >= model().log_prob((), word) - 1e-9
    assert len(tree.label) == 2 * size + 6  # aa, aa b, aa b aa, b, b b, iy


def test_a_file_gives_the_same_words(tmp_path: Path) -> None:
    made = word_model(LEXICON, model(3), WIDE)
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
    save_words(path, word_model(LEXICON, model(), WIDE))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DataError, match="checksum"):
        load_words(path)
    path.write_bytes(data[:50])
    with pytest.raises(DataError, match="damaged"):
        load_words(path)
    save_file({"a": np.zeros(1)}, path)
    with pytest.raises(DataError, match="not one of words"):
        load_words(path)


def test_other_phones_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="'iy' is not in its vocabulary"):
        graph(phones=("aa", "b", "ix"))
    with pytest.raises(DataError, match="no word of the n-gram"):
        word_model({"x": (("aa",),)}, model())
