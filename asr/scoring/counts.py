"""Error counts of alignments: in all, by utterance, by group of utterances and by phone.

Rates are derived from counts and never stored.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import add
from typing import Any, TypeVar

import numpy as np

from asr.errors import DataError
from asr.scoring.transcripts import KNOWN

# One letter for each step of an alignment. O is a phone of the reference that its protocol lets
# the hypothesis leave out: it counts as correct, as in sclite -D.
CORRECT, SUBSTITUTED, DELETED, INSERTED, OPTIONAL = "CSDIO"

BLOCK = 10_000  # utterances that are counted together
SHIFT = 21  # bits of a character

Array = np.ndarray[Any, np.dtype[Any]]
Group = TypeVar("Group", str, int)
Confusions = dict[tuple[str | None, str | None], int]


@dataclass(frozen=True)
class ErrorCounts:
    """Counts over one or more alignments; `ref` phones = `corr` + `sub` + `dele`."""

    utterances: int = 0
    ref: int = 0
    corr: int = 0
    sub: int = 0
    dele: int = 0
    ins: int = 0

    @classmethod
    def of(cls, *ops: str) -> "ErrorCounts":
        """Counts of alignments, each given as a string of C, S, D, I and O."""
        steps = "".join(ops)
        sub, dele, ins = (steps.count(step) for step in (SUBSTITUTED, DELETED, INSERTED))
        ref = len(steps) - ins
        return cls(len(ops), ref, ref - sub - dele, sub, dele, ins)

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(*map(add, vars(self).values(), vars(other).values()))

    @property
    def err(self) -> int:
        return self.sub + self.dele + self.ins

    @property
    def per(self) -> float:
        """Phone error rate in percent; `DataError` when the reference holds no phones."""
        if self.ref == 0:
            raise DataError(
                f"PER is undefined: the reference holds no phones ({self.ins} insertions)"
            )
        return 100.0 * self.err / self.ref

    def rate(self) -> str:
        """`17.70`, or `undefined` when the reference holds no phones."""
        return f"{self.per:.2f}" if self.ref else "undefined"

    def kaldi_line(self) -> str:
        """`%PER 17.70 [ 1277 / 7215, 133 ins, 412 del, 732 sub ]`, in the order of Kaldi."""
        return (
            f"%PER {self.rate()} [ {self.err} / {self.ref}, "
            f"{self.ins} ins, {self.dele} del, {self.sub} sub ]"
        )


def by_utterance(ops: Sequence[str]) -> Array:
    """(N, 6): the fields of `ErrorCounts` for each of N alignments."""
    sub, dele, ins = (
        np.array([one.count(letter) for one in ops], np.int64)
        for letter in (SUBSTITUTED, DELETED, INSERTED)
    )
    ref = np.array([len(one) for one in ops], np.int64) - ins
    return np.stack([np.ones_like(ref), ref, ref - sub - dele, sub, dele, ins], axis=1)


def errors_in(ops: str) -> int:
    """The errors among steps of an alignment."""
    return len(ops) - ops.count(CORRECT) - ops.count(OPTIONAL)


def by_group(groups: Iterable[Group | None], counts: Array) -> dict[Group, ErrorCounts]:
    """Sums of rows of `by_utterance` by the group of each, sorted; None is no group."""
    places: dict[Group | None, int] = {}
    place = [places.setdefault(group, len(places)) for group in groups]
    sums = np.zeros((len(places), counts.shape[1]), np.int64)
    np.add.at(sums, place, counts)
    known = sorted(group for group in places if group is not None)
    return {group: ErrorCounts(*sums[places[group]].tolist()) for group in known}


def labels_of(codes: Sequence[str]) -> Array:
    """The characters of several `Phones.code` as numbers, which index `KNOWN`."""
    return np.frombuffer("".join(codes).encode("utf-32-le", "surrogatepass"), np.int32)


def confusions(said: Sequence[str], heard: Sequence[str], ops: Sequence[str]) -> Confusions:
    """How often each phone was heard for each one said; None is nothing, O is left out.

    `said` and `heard` are the `Phones.code` of utterances.
    """
    sums: Counter[tuple[int, int]] = Counter()
    for start in range(0, len(ops), BLOCK):
        block = slice(start, start + BLOCK)
        letters = np.frombuffer("".join(ops[block]).encode("ascii"), np.uint8)
        cells = np.zeros(len(letters), np.int64)
        cells[letters != ord(INSERTED)] = labels_of(said[block]).astype(np.int64) << SHIFT
        is_heard = (letters != ord(DELETED)) & (letters != ord(OPTIONAL))
        cells[is_heard] += labels_of(heard[block])
        for cell, number in zip(
            *map(Array.tolist, np.unique(cells[letters != ord(OPTIONAL)], return_counts=True)),
            strict=True,
        ):
            sums[cell >> SHIFT, cell & ((1 << SHIFT) - 1)] += number
    return {(KNOWN[a] or None, KNOWN[b] or None): number for (a, b), number in sorted(sums.items())}
