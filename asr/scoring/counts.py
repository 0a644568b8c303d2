"""Counts over many alignments: by speaker, by length, and of what was heard for what was said.

This file aligns nothing and derives no rates.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from asr.scoring.base import (
    CORRECT,
    DELETED,
    INSERTED,
    LENGTH_BIN,
    OPTIONAL,
    Alignment,
    ErrorCounts,
    Pairs,
    Transcript,
)

Groups = dict[tuple[str | None, int], ErrorCounts]


def grouped(alignments: Iterable[Alignment]) -> tuple[Groups, Counter[tuple[int, int]]]:
    """Counts by (speaker, length in tens), and numbers of utterances by (ref, err)."""
    groups: defaultdict[tuple[str | None, int], list[str]] = defaultdict(list)
    sizes: Counter[tuple[int, int]] = Counter()
    for reference, _, ops in alignments:
        ref = len(ops) - ops.count(INSERTED)
        err = len(ops) - ops.count(CORRECT) - ops.count(OPTIONAL)
        sizes[ref, err] += 1
        groups[speaker_of(reference), ref // LENGTH_BIN * LENGTH_BIN].append(ops)
    return {group: ErrorCounts.of(*ops) for group, ops in groups.items()}, sizes


def by_speaker(groups: Groups) -> dict[str, ErrorCounts]:
    """Counts by speaker, sorted; utterances of none are left out."""
    sums: dict[str, ErrorCounts] = {}
    for (speaker, _), counts in groups.items():
        if speaker is not None:
            sums[speaker] = sums.get(speaker, ErrorCounts()) + counts
    return dict(sorted(sums.items()))


def by_length(groups: Groups) -> dict[int, ErrorCounts]:
    """Counts by the length of the reference, rounded down to tens."""
    sums: dict[int, ErrorCounts] = {}
    for (_, length), counts in groups.items():
        sums[length] = sums.get(length, ErrorCounts()) + counts
    return sums


def speaker_of(transcript: Transcript) -> str | None:
    """As its file says, or else its id before the first "-", or before the first "_"."""
    if transcript.speaker is not None:
        return transcript.speaker
    for separator in "-_":
        place = transcript.id.find(separator, 1)
        if place > 0:
            return transcript.id[:place]
    return None


def confusions(pairs: Pairs, ops: Sequence[str]) -> dict[tuple[str | None, str | None], int]:
    """How often each phone was heard for each one said; None is nothing, O is left out."""
    import numpy as np

    (said, _), (heard, _) = pairs.labels
    steps = np.frombuffer("".join(ops).encode("ascii"), np.uint8)
    phones: list[str | None] = [*pairs.phones, None]
    size = len(phones)
    rows, columns = np.full((2, len(steps)), size - 1, dtype=np.int32)
    rows[steps != ord(INSERTED)] = said
    columns[(steps != ord(DELETED)) & (steps != ord(OPTIONAL))] = heard
    cells = (rows.astype(np.int64) * size + columns)[steps != ord(OPTIONAL)]
    cells, numbers = np.unique(cells, return_counts=True)
    return {
        (phones[cell // size], phones[cell % size]): number
        for cell, number in zip(cells.tolist(), numbers.tolist(), strict=True)
    }
