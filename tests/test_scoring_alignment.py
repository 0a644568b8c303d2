"""Alignments: no cheaper one exists, jiwer's are jiwer's, compiled ones equal the readable ones."""

import random
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import jiwer
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr import scoring
from asr.scoring import (
    ErrorCounts,
    Pairs,
    Transcript,
    Transcripts,
    align,
    alignment,
    error_count,
    kernels,
    protocol,
    score,
    score_transcripts,
)
from asr.scoring.alignment import COSTS

Pair = tuple[list[int], list[int]]
COST_OF = {
    "sclite": {"C": 0, "S": 4, "D": 3, "I": 3},
    "levenshtein": {"C": 0, "S": 1, "D": 1, "I": 1},
}
SCORERS = ["levenshtein", "sclite"]


def named(labels: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"p{label}" for label in labels)


def pairs_of(pairs: Sequence[Pair], *optional: int) -> Pairs:
    said, heard = ([named(pair[side]) for pair in pairs] for side in (0, 1))
    return Pairs(said, heard, frozenset(named(optional)))


def random_pairs(number: int, longest: int, seed: int) -> list[Pair]:
    """Unrelated pairs, and hypotheses made from their reference by random errors."""
    rng = random.Random(seed)
    pairs = []
    for _ in range(number):
        phones = rng.choice([1, 2, 3, 5, 39])
        reference = [rng.randrange(phones) for _ in range(rng.randrange(longest + 1))]
        if rng.random() < 0.5:
            hypothesis = [rng.randrange(phones) for _ in range(rng.randrange(longest + 1))]
        else:
            heard = (
                [[], [rng.randrange(phones)], [phone, rng.randrange(phones)], *[[phone]] * 7][
                    rng.randrange(10)
                ]
                for phone in reference
            )
            hypothesis = [phone for phones_ in heard for phone in phones_][:longest]
        pairs.append((reference, hypothesis))
    return pairs


@cache
def every_alignment() -> Any:
    """Walk every alignment of two short sequences, remember nothing, return the least cost."""

    @numba.njit("int64(int64[:], int64[:], int64, int64, int64, int64)")  # type: ignore[untyped-decorator]
    def least(ref: Any, hyp: Any, i: int, j: int, substitution: int, gap: int) -> int:
        if i == len(ref):
            return gap * (len(hyp) - j)
        if j == len(hyp):
            return gap * (len(ref) - i)
        pair = 0 if ref[i] == hyp[j] else substitution
        return min(
            pair + least(ref, hyp, i + 1, j + 1, substitution, gap),
            gap + least(ref, hyp, i + 1, j, substitution, gap),
            gap + least(ref, hyp, i, j + 1, substitution, gap),
        )

    return least


@pytest.mark.parametrize("scorer", SCORERS)
def test_no_alignment_is_cheaper(scorer: str) -> None:
    substitution, gap, _ = COSTS[scorer]
    cost = COST_OF[scorer]
    least = every_alignment()
    pairs = random_pairs(100_000, longest=5, seed=1)
    for (reference, hypothesis), ops in zip(pairs, align(pairs_of(pairs), scorer), strict=True):
        found = sum(cost[op] for op in ops)
        arrays = np.array(reference, dtype=np.int64), np.array(hypothesis, dtype=np.int64)
        assert found == least(*arrays, 0, 0, substitution, gap), (reference, hypothesis)


@given(
    st.lists(st.tuples(*[st.lists(st.integers(0, 3), max_size=12)] * 2), max_size=4),
    st.sampled_from(SCORERS),
    st.frozensets(st.integers(0, 3), max_size=2),
)
@settings(deadline=None)
def test_steps_spell_both_sides(pairs: list[Pair], scorer: str, optional: frozenset[int]) -> None:
    aligned = align(pairs_of(pairs, *optional), scorer)
    errors = 0
    for (reference, hypothesis), ops in zip(pairs, aligned, strict=True):
        said, heard = iter(reference), iter(hypothesis)
        for op in ops:
            if op == "C":
                assert next(said) == next(heard)
            elif op == "S":
                assert next(said) != next(heard)
            elif op == "I":
                next(heard)
            else:
                assert (next(said) in optional) == (op == "O")
            errors += op not in "CO"
        assert list(said) == list(heard) == []
    assert error_count(pairs_of(pairs, *optional), scorer) == errors


@pytest.mark.parametrize("optional", [(), (0,), (0, 1)])
@pytest.mark.parametrize("scorer", SCORERS)
def test_compiled_equals_readable(scorer: str, optional: tuple[int, ...]) -> None:
    pairs = pairs_of(random_pairs(1500, longest=90, seed=2), *optional)
    assert kernels.cheapest(pairs, COSTS[scorer]) == alignment.cheapest(pairs, COSTS[scorer])


def test_nothing_at_all_is_aligned_too() -> None:
    for pairs in (Pairs([], []), Pairs([()], [()])):
        aligned = [""] * len(pairs.said)
        assert align(pairs, "levenshtein") == align(pairs, "sclite") == aligned
        assert kernels.cheapest(pairs, COSTS["sclite"]) == aligned


@pytest.mark.parametrize("name", ["none", "strict", "sil-optional"])
@pytest.mark.parametrize("scorer", SCORERS)
def test_large_sets_take_compiled_code(
    scorer: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(6)
    sides = []
    for n in (0, 1):
        said = {
            f"s{k % 5}-{k}": rng.choices(["sil", "sil", "aa", "b", "q", "zh"], k=rng.randrange(50))
            for k in range(120)
        }
        items = {id_: Transcript(id_, tuple(side)) for id_, side in said.items()}
        sides.append(Transcripts(str(n), items))
    small = score_transcripts(*sides, protocol(name), scorer, both_scorers=True)
    with monkeypatch.context() as patched:
        patched.setattr(kernels, "cheapest", lambda *_: pytest.fail("compiled"))
        assert score_transcripts(*sides, protocol(name), scorer, both_scorers=True) == small
    monkeypatch.setattr(scoring, "MANY_CELLS", 0)
    monkeypatch.setattr(alignment, "cheapest", lambda *_: pytest.fail("not compiled"))
    assert score_transcripts(*sides, protocol(name), scorer, both_scorers=True) == small


def test_totals_equal_jiwer() -> None:
    pairs = random_pairs(400, longest=40, seed=5)
    assert [] in [said for said, _ in pairs]
    assert [] in [heard for _, heard in pairs]
    names = [f"s-{n}" for n in range(len(pairs))]
    sides = [
        {name: named(pair[side]) for name, pair in zip(names, pairs, strict=True)}
        for side in (0, 1)
    ]
    expected = jiwer.process_words(*([" ".join(p) for p in side.values()] for side in sides))
    total = score(*sides, "none").total
    found = (total.corr, total.sub, total.dele, total.ins)
    assert found == (
        expected.hits,
        expected.substitutions,
        expected.deletions,
        expected.insertions,
    )
    assert total.per == pytest.approx(100.0 * expected.wer)


def test_errors_lie_where_jiwer_prints_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "BLOCK", 7)
    pairs = pairs_of([pair for pair in random_pairs(100, longest=20, seed=8) if all(pair)])
    for said, heard, ops in zip(pairs.said, pairs.heard, align(pairs, "levenshtein"), strict=True):
        output = jiwer.process_words(" ".join(said), " ".join(heard))
        printed = jiwer.visualize_alignment(output, show_measures=False, skip_correct=False)
        reference, _, marks = printed.splitlines()[2:5]
        words = [m.start() for m in re.finditer(r"\S+", reference)][1:]
        ends = [m.end() for m in re.finditer(r"\S+", reference)][1:]
        assert ops == "".join(
            marks[start:end].strip() or "C" for start, end in zip(words, ends, strict=True)
        )


def test_utterances_without_phones_and_phones_with_spaces() -> None:
    """jiwer alone would split the second, and its rate of an empty reference is a number."""
    said = {"a": [], "b": ["aa"], "c": [], "d": ["sil b"], "e": [" "]}
    heard = {"a": ["aa"], "b": [], "c": [], "d": ["sil", "b"], "e": [" "]}
    found = score(said, heard, "none")
    assert found.ops == {"a": "I", "b": "D", "c": "", "d": "SI", "e": "C"} or found.ops["d"] == "IS"
    assert found.total == ErrorCounts(5, 3, 1, 1, 1, 2)
    nothing = score({"a": [], "b": []}, {"a": ["aa", "b"], "b": []}, "none").total
    assert (nothing.err, nothing.ref) == (2, 0)
