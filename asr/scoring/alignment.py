"""Alignment of hypotheses with their references, step by step as each scorer does it.

`levenshtein` is jiwer's alignment with the fewest errors. `sclite` is NIST sclite's with -s (letter
case counts): substitutions cost 4, insertions and deletions 3; all utterances are aligned at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np
from rapidfuzz.distance import Levenshtein

from asr.scoring.counts import (
    CORRECT,
    DELETED,
    INSERTED,
    OPTIONAL,
    SUBSTITUTED,
    Array,
    ErrorCounts,
    errors_in,
    labels_of,
)
from asr.scoring.transcripts import KNOWN, Phones, Transcript, code_of

SCORERS = ("levenshtein", "sclite")

# Of a substitution, of an insertion or a deletion, and of the deletion of an optional phone:
# sclite 2 of 4/3/3 (word.c, wwd_WORD), levenshtein 0 of 1/1/1.
COSTS = {"sclite": (4, 3, 2), "levenshtein": (1, 1, 0)}

LETTERS = {"equal": CORRECT, "substitute": SUBSTITUTED, "delete": DELETED, "insert": INSERTED}
BLOCK = 1_000  # utterances that jiwer aligns together: its alignments are large
LENGTH_BIN = 8  # phones; utterances that are aligned together are about equally long

# A cell of the table of choices is a sum of these; none of the first two is a deletion.
INSERT, PAIR, DIFFERS, IS_OPTIONAL, STOP = 1, 2, 4, 8, 16
CELLS = 6_000_000  # of the tables of utterances that are aligned together, a byte each


class Alignment(NamedTuple):
    """One aligned utterance: folded phones of both sides and one letter of CSDIO per step."""

    reference: Transcript
    hypothesis: Transcript
    ops: str

    @property
    def counts(self) -> ErrorCounts:
        return ErrorCounts.of(self.ops)

    def phones(self) -> Iterator[tuple[str, str | None, str | None]]:
        """(operation, phone said or None, phone recognised or None)."""
        for op, i, j in self.steps():
            said = None if i is None else self.reference.phones[i]
            yield op, said, None if j is None else self.hypothesis.phones[j]

    def steps(self) -> Iterator[tuple[str, int | None, int | None]]:
        """(operation, index into the reference or None, index into the hypothesis or None)."""
        i = j = 0
        for op in self.ops:
            if op == INSERTED:
                yield op, None, j
                j += 1
            elif op in (DELETED, OPTIONAL):
                yield op, i, None
                i += 1
            else:
                yield op, i, j
                i, j = i + 1, j + 1


@dataclass(frozen=True)
class Pairs:
    """Phones of all utterances on both sides; those in `optional` may be left out."""

    said: Sequence[Sequence[str]]
    heard: Sequence[Sequence[str]]
    optional: frozenset[str] = frozenset()

    @cached_property
    def codes(self) -> tuple[list[str], list[str]]:
        """Both sides as `Phones.code`."""
        said, heard = ([Phones.of(one).code for one in side] for side in (self.said, self.heard))
        return said, heard


def align(pairs: Pairs, scorer: str) -> list[str]:
    """The scorer's alignment of every pair: one letter of CSDIO for each of its steps."""
    if scorer == "levenshtein" and not pairs.optional:
        return list(_fewest_errors(*pairs.codes))
    return _cheapest(pairs, COSTS[scorer])


def error_count(pairs: Pairs, scorer: str) -> int:
    """Errors in what `align` gives."""
    return sum(map(errors_in, align(pairs, scorer)))


def _fewest_errors(said: Sequence[str], heard: Sequence[str]) -> Iterator[str]:
    """jiwer's alignments of `Phones.code`, whose characters are its words."""
    import jiwer

    unchanged = jiwer.Compose([])
    for start in range(0, len(said), BLOCK):
        ours, theirs = (
            cast("Any", list(map(list, side[start : start + BLOCK]))) for side in (said, heard)
        )
        for chunks in jiwer.process_words(ours, theirs, unchanged, unchanged).alignments:
            yield "".join(
                LETTERS[one.type]
                * max(one.ref_end_idx - one.ref_start_idx, one.hyp_end_idx - one.hyp_start_idx)
                for one in chunks
            )


def _cheapest(pairs: Pairs, costs: tuple[int, int, int]) -> list[str]:
    """The cheapest alignment of every pair, with sclite's choice among equal costs.

    Utterances of about equal length and number of errors are aligned together, as many as make
    `CELLS`. Only a band of the table is computed: every cheapest alignment lies in it.
    """
    (said, heard), (substitution, gap, optional_gap) = pairs.codes, costs
    n, m = (np.array(list(map(len, side)), np.int64) for side in (said, heard))
    # With I insertions there are I + n - m deletions. No cheapest alignment costs more than the one
    # with the fewest errors may.
    least = optional_gap if pairs.optional else gap
    most = max(substitution, gap) * np.array(list(map(Levenshtein.distance, said, heard)), np.int64)
    ins = np.minimum((most - least * (n - m)) // (gap + least), m)
    dele = np.minimum(ins + n - m, n)
    optional = np.zeros(len(KNOWN) + len(pairs.optional) + 1, np.bool_)
    optional[[ord(code_of(phone)) for phone in pairs.optional]] = True
    order = np.lexsort((-ins - dele, -(np.maximum(n, m) // LENGTH_BIN)))
    aligned = [""] * len(order)
    while len(order):
        first = order[: max(CELLS // ((n[order[0]] + 1) * (ins + dele + 1)[order[0]]), 1)]
        rows, right, left = (np.maximum.accumulate(x[first]) for x in (n + 1, ins + 1, dele))
        cells = rows * (right + left) * np.arange(1, len(first) + 1)
        chosen = first[: max(int(np.searchsorted(cells, CELLS)), 1)]
        order = order[len(chosen) :]
        band = int(dele[chosen].max()), int(ins[chosen].max())
        reference, hypothesis = (_columns([side[k] for k in chosen]) for side in (said, heard))
        choices = _choices(reference, hypothesis, band, optional, costs)
        letters = _letters(choices, band[0], n[chosen], m[chosen])
        for utterance, steps in zip(chosen.tolist(), letters, strict=True):
            aligned[utterance] = steps
    return aligned


def _columns(codes: Sequence[str]) -> Array:
    """(longest, N): the labels of N utterances, one in each column, -1 behind them."""
    lengths = np.array(list(map(len, codes)), np.int64)
    within = np.arange(lengths.max(initial=0)) < lengths[:, None]
    padded = np.full(within.shape, -1, np.int32)
    padded[within] = labels_of(codes)
    return np.ascontiguousarray(padded.T)


def _choices(
    reference: Array,
    hypothesis: Array,
    band: tuple[int, int],
    optional: Array,
    costs: tuple[int, int, int],
) -> Array:
    """(n + 1, W, N): the last step of the cheapest alignment of the first i and j phones.

    W are the j from i - `band[0]` to i + `band[1]`.
    Dynamic programming with sclite's tie-break (net_dp.c, calculate_internal_cells): of equal
    costs a pair (match or substitution) wins, then an insertion, then a deletion. Costs are kept
    plus those of i gaps less those of j, so that an insertion, and a match, add nothing.
    """
    (substitution, gap, optional_gap), (before, after) = costs, band
    (n, size), width = reference.shape, before + after + 1
    far = 2 * max(costs) * (n + 1)  # more than any alignment costs
    dtype = np.int16 if 2 * far < 2**15 else np.int32
    choices = np.empty((n + 1, width, size), np.uint8)
    choices[0] = INSERT
    choices[0, before] = STOP
    above, row = np.full((2, width, size), far, dtype)
    above[before:] = 0
    window = np.full((n + width, size), -1, np.int32)
    window[before:][: len(hypothesis)] = hypothesis[: n + after + 1]
    differs, is_pair = np.empty((2, width, size), np.bool_)
    is_inserted = np.empty((width - 1, size), np.bool_)
    pair = np.empty((width, size), dtype)
    for i, (phone, chosen) in enumerate(zip(reference, choices[1:], strict=True)):
        np.not_equal(window[i : i + width], phone, out=differs)
        np.multiply(differs, dtype(substitution), out=pair)
        pair += above
        forgiven = optional[phone]
        drop = np.where(forgiven, optional_gap + gap, 2 * gap)
        np.add(above[1:], drop.astype(dtype), out=row[:-1])
        row[-1] = far
        np.minimum(row, pair, out=row)
        if size < 200:
            np.minimum.accumulate(row, axis=0, out=row)
        else:  # the same, faster
            for left, now in pairwise(row):
                np.minimum(left, now, out=now)
        np.equal(row, pair, out=is_pair)
        np.equal(row[1:], row[:-1], out=is_inserted)
        chosen[:] = forgiven * np.uint8(IS_OPTIONAL)
        chosen[1:] += is_inserted
        for mark, where in ((PAIR, is_pair), (DIFFERS, differs)):
            chosen += where.view(np.uint8) * np.uint8(mark)
        above, row = row, above
    return choices


def _letters(choices: Array, before: int, n: Array, m: Array) -> list[str]:
    """The letters of N alignments, followed from (n, m) back to the beginning."""
    _, width, size = choices.shape
    letters, moves = np.zeros(STOP + 1, np.uint8), np.zeros(STOP + 1, np.int64)
    for choice in range(STOP):
        if choice & PAIR:
            letter, move = SUBSTITUTED if choice & DIFFERS else CORRECT, width
        elif choice & INSERT:
            letter, move = INSERTED, 1
        else:
            letter, move = OPTIONAL if choice & IS_OPTIONAL else DELETED, width - 1
        letters[choice], moves[choice] = ord(letter), move * size
    table = choices.reshape(-1)
    at = (n * width + m - n + before) * size + np.arange(size)
    steps = np.empty((int((n + m).max(initial=0)), size), np.uint8)
    for step in reversed(range(len(steps))):
        steps[step] = table[at]
        at -= moves[steps[step]]
    steps = letters[steps]
    first = np.sum(steps == 0, axis=0).tolist()
    rows = np.ascontiguousarray(steps.T).tobytes().decode("ascii")
    return [rows[k * len(steps) + start : (k + 1) * len(steps)] for k, start in enumerate(first)]
