"""Alignments: no cheaper one exists, jiwer's are jiwer's, many at once equal each one alone."""

import random
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import jiwer
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.scoring import ErrorCounts, alignment, score
from asr.scoring.alignment import COSTS, Pairs, align, error_count

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
        result = sum(cost[op] for op in ops)
        arrays = np.array(reference, dtype=np.int64), np.array(hypothesis, dtype=np.int64)
        assert result == least(*arrays, 0, 0, substitution, gap), (reference, hypothesis)


@given(
    st.lists(st.tuples(*[st.lists(st.integers(0, 3), max_size=12)] * 2), max_size=4),
    st.sampled_from(SCORERS),
    st.frozensets(st.integers(0, 3), max_size=2),
)
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


def readable(
    reference: Sequence[str],
    hypothesis: Sequence[str],
    costs: tuple[int, int, int],
    optional: frozenset[str],
) -> str:
    """One alignment as sclite makes it (net_dp.c), cell by cell."""
    substitution, gap, optional_gap = costs
    above = [gap * j for j in range(len(hypothesis) + 1)]
    choices = ["I" * len(above)]
    for phone in reference:
        drop = optional_gap if phone in optional else gap
        row = [above[0] + drop]
        chosen = "D"
        for j, heard in enumerate(hypothesis):
            pair = above[j] + (0 if heard == phone else substitution)
            insert, delete = row[j] + gap, above[j + 1] + drop
            row.append(min(pair, insert, delete))
            is_pair = row[-1] == pair
            chosen += ("C" if heard == phone else "S") if is_pair else "DI"[row[-1] == insert]
        above = row
        choices.append(chosen)
    steps = ""
    i, j = len(reference), len(hypothesis)
    while i or j:
        choice = choices[i][j]
        steps += "O" if choice == "D" and reference[i - 1] in optional else choice
        i -= choice != "I"
        j -= choice != "D"
    return steps[::-1]


@pytest.mark.parametrize("cells", [1, 5_000, alignment.CELLS])
@pytest.mark.parametrize("optional", [(), (0,), (0, 1)])
@pytest.mark.parametrize("scorer", SCORERS)
def test_many_at_once_are_each_aligned_alone(
    scorer: str, optional: tuple[int, ...], cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alignment, "CELLS", cells)
    pairs = pairs_of(random_pairs(1000, longest=40, seed=2), *optional)
    expected = [
        readable(said, heard, COSTS[scorer], pairs.optional)
        for said, heard in zip(pairs.said, pairs.heard, strict=True)
    ]
    if scorer == "sclite" or optional:
        assert align(pairs, scorer) == expected
    errors = sum(op not in "CO" for ops in expected for op in ops)
    assert error_count(pairs, scorer) == errors


def test_long_transcripts_of_many_words() -> None:
    """Costs above 2**15, and more words than a byte can count."""
    said = [f"w{n % 3000}" for n in range(1500)]
    heard = [*said[300:], *(f"v{n}" for n in range(4000))]
    (ops,) = align(Pairs([said], [heard]), "sclite")
    counts = ErrorCounts.of(ops)
    assert counts.corr == 1200
    assert counts.ref == len(said)
    assert 4 * counts.sub + 3 * (counts.dele + counts.ins) == 3 * (300 + 4000)


def test_nothing_at_all_is_aligned_too() -> None:
    for pairs in (Pairs([], []), Pairs([()], [()])):
        aligned = [""] * len(pairs.said)
        assert align(pairs, "levenshtein") == align(pairs, "sclite") == aligned
        assert error_count(pairs, "levenshtein") == 0


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
    result = (total.corr, total.sub, total.dele, total.ins)
    assert result == (
        expected.hits,
        expected.substitutions,
        expected.deletions,
        expected.insertions,
    )
    assert total.per == pytest.approx(100.0 * expected.wer)


def test_errors_lie_where_jiwer_prints_them() -> None:
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


def test_utterances_without_phones() -> None:
    """jiwer's rate of an empty reference is a number."""
    said = {"a": [], "b": ["aa"], "c": []}
    heard = {"a": ["aa"], "b": [], "c": []}
    result = score(said, heard, "none")
    assert result.ops == {"a": "I", "b": "D", "c": ""}
    assert result.total == ErrorCounts(3, 1, 0, 0, 1, 1)
    nothing = score({"a": [], "b": []}, {"a": ["aa", "b"], "b": []}, "none").total
    assert (nothing.err, nothing.ref) == (2, 0)
