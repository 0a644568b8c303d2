"""Alignment of hypotheses with their references, step by step as each scorer does it.

`levenshtein` is jiwer's alignment with the fewest errors. `sclite` is NIST sclite's with -s (letter
case counts): substitutions cost 4, insertions and deletions 3; all utterances are aligned at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from typing import Any, NamedTuple, cast

import numpy as np

from asr.scoring.counts import (
    CORRECT,
    DELETED,
    INSERTED,
    OPTIONAL,
    SUBSTITUTED,
    Array,
    ErrorCounts,
    errors_in,
)
from asr.scoring.transcripts import Transcript

SCORERS = ("levenshtein", "sclite")

# Of a substitution, of an insertion or a deletion, and of the deletion of an optional phone:
# sclite 2 of 4/3/3 (word.c, wwd_WORD), levenshtein 0 of 1/1/1.
COSTS = {"sclite": (4, 3, 2), "levenshtein": (1, 1, 0)}

LETTERS = {"equal": CORRECT, "substitute": SUBSTITUTED, "delete": DELETED, "insert": INSERTED}
BLOCK = 1_000  # utterances that jiwer aligns together: its alignments are large

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


class Coded(NamedTuple):
    """Phones of N utterances, each phone as one character: N strings, and all of them as labels.

    `lengths` (N,) are numbers of phones; `labels` ends with -1, which is no phone.
    """

    strings: list[str]
    labels: Array
    lengths: Array

    def padded(self, utterances: Array) -> Array:
        """(length, N): the labels of N of the utterances, one in each column, -1 behind them."""
        starts = (np.cumsum(self.lengths) - self.lengths)[utterances]
        lengths = self.lengths[utterances]
        positions = np.arange(lengths.max(initial=0))[:, None]
        return self.labels[np.where(positions < lengths, starts + positions, -1)]


@dataclass(frozen=True)
class Pairs:
    """Phones of all utterances on both sides; those in `optional` may be left out.

    At most 1,114,112 different phones, as there are characters in Unicode.
    """

    said: Sequence[Sequence[str]]
    heard: Sequence[Sequence[str]]
    optional: frozenset[str] = frozenset()

    @cached_property
    def coded(self) -> tuple[Coded, Coded, list[str]]:
        """Both sides, and the phone of each label."""
        phones = list(dict.fromkeys(chain.from_iterable((*self.said, *self.heard))))
        characters = {phone: chr(label) for label, phone in enumerate(phones)}

        def code(side: Sequence[Sequence[str]]) -> Coded:
            strings = ["".join(map(characters.__getitem__, each)) for each in side]
            text = "".join(strings).encode("utf-32-le", "surrogatepass")
            labels = np.append(np.frombuffer(text, np.int32), np.int32(-1))
            return Coded(strings, labels, np.array(list(map(len, strings)), np.int64))

        return code(self.said), code(self.heard), phones


def align(pairs: Pairs, scorer: str) -> list[str]:
    """The scorer's alignment of every pair: one letter of CSDIO for each of its steps."""
    if scorer == "levenshtein" and not pairs.optional:
        return _fewest_errors(pairs)
    return _cheapest(pairs, COSTS[scorer])


def error_count(pairs: Pairs, scorer: str) -> int:
    """Errors in what `align` gives."""
    return errors_in("".join(align(pairs, scorer)))


def _fewest_errors(pairs: Pairs) -> list[str]:
    """jiwer's alignments; phones are its words, left as they are."""
    import jiwer

    unchanged = jiwer.Compose([])
    letters = []
    for start in range(0, len(pairs.said), BLOCK):
        said, heard = (
            cast("Any", [list(phones) for phones in side[start : start + BLOCK]])
            for side in (pairs.said, pairs.heard)
        )
        for chunks in jiwer.process_words(said, heard, unchanged, unchanged).alignments:
            letters.append(
                "".join(
                    LETTERS[c.type]
                    * max(c.ref_end_idx - c.ref_start_idx, c.hyp_end_idx - c.hyp_start_idx)
                    for c in chunks
                )
            )
    return letters


def _cheapest(pairs: Pairs, costs: tuple[int, int, int]) -> list[str]:
    """The cheapest alignment of every pair, with sclite's choice among equal costs.

    Utterances of about equal length are aligned together, as many as make `CELLS`.
    """
    said, heard, phones = pairs.coded
    optional = np.array([*(phone in pairs.optional for phone in phones), False])
    longer = np.maximum(said.lengths, heard.lengths)
    order = np.argsort(-longer, kind="stable")
    aligned = [""] * len(order)
    while len(order):
        number = max(CELLS // (int(longer[order[0]]) + 1) ** 2, 1)
        chosen, order = order[:number], order[number:]
        choices = _choices(said.padded(chosen), heard.padded(chosen), optional, costs)
        letters = _letters(choices, said.lengths[chosen], heard.lengths[chosen])
        for utterance, steps in zip(chosen.tolist(), letters, strict=True):
            aligned[utterance] = steps
    return aligned


def _choices(
    reference: Array, hypothesis: Array, optional: Array, costs: tuple[int, int, int]
) -> Array:
    """(n + 1, m + 1, N): the last step of the cheapest alignment of the first i and j phones.

    Dynamic programming with sclite's tie-break (net_dp.c, calculate_internal_cells): of equal
    costs a pair (match or substitution) wins, then an insertion, then a deletion. Costs are kept
    plus those of i gaps less those of j, so that an insertion, and a match, add nothing.
    """
    substitution, gap, optional_gap = costs
    (n, size), m = reference.shape, len(hypothesis)
    dtype = np.int16 if 2 * (n + m) * max(costs) < 2**15 else np.int32
    choices = np.empty((n + 1, m + 1, size), np.uint8)
    choices[0] = INSERT
    choices[0, 0] = STOP
    above, row = np.zeros((2, m + 1, size), dtype)
    differs, is_pair, is_inserted = np.empty((3, m, size), np.bool_)
    pair = np.empty((m, size), dtype)
    for phone, chosen in zip(reference, choices[1:], strict=True):
        np.not_equal(hypothesis, phone, out=differs)
        np.multiply(differs, dtype(substitution), out=pair)
        pair += above[:-1]
        forgiven = optional[phone]
        drop = np.where(forgiven, optional_gap + gap, 2 * gap)
        np.add(above, drop.astype(dtype), out=row)
        np.minimum(row[1:], pair, out=row[1:])
        if size < 200:
            np.minimum.accumulate(row, axis=0, out=row)
        else:  # the same, faster
            for before, now in pairwise(row):
                np.minimum(before, now, out=now)
        np.equal(row[1:], pair, out=is_pair)
        np.equal(row[1:], row[:-1], out=is_inserted)
        chosen[:] = forgiven * np.uint8(IS_OPTIONAL)
        chosen[1:] += is_inserted
        for mark, where in ((PAIR, is_pair), (DIFFERS, differs)):
            chosen[1:] += where.view(np.uint8) * np.uint8(mark)
        above, row = row, above
    return choices


def _letters(choices: Array, n: Array, m: Array) -> list[str]:
    """The letters of N alignments, followed from (n, m) back to the beginning."""
    _, width, size = choices.shape
    letters, moves = np.zeros(STOP + 1, np.uint8), np.zeros(STOP + 1, np.int64)
    for choice in range(STOP):
        if choice & PAIR:
            letter, move = SUBSTITUTED if choice & DIFFERS else CORRECT, width + 1
        elif choice & INSERT:
            letter, move = INSERTED, 1
        else:
            letter, move = OPTIONAL if choice & IS_OPTIONAL else DELETED, width
        letters[choice], moves[choice] = ord(letter), move * size
    table = choices.reshape(-1)
    at = (n * width + m) * size + np.arange(size)
    steps = np.empty((int((n + m).max(initial=0)), size), np.uint8)
    for step in reversed(range(len(steps))):
        steps[step] = table[at]
        at -= moves[steps[step]]
    steps = letters[steps]
    first = np.sum(steps == 0, axis=0).tolist()
    rows = np.ascontiguousarray(steps.T).tobytes().decode("ascii")
    return [rows[k * len(steps) + start : (k + 1) * len(steps)] for k, start in enumerate(first)]
