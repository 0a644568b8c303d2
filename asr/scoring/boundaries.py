"""Times of a forced alignment against hand-made ones: boundaries, and labels of 10 ms frames.

Both sides have the same phones in the same order and differ in their times. Recognised phones are
compared in time by `analysis`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from asr.errors import DataError
from asr.phones import fold_to_39
from asr.records import Segment
from asr.scoring import intervals
from asr.scoring.counts import ErrorCounts
from asr.scoring.intervals import Interval

TOLERANCES_S = (0.010, 0.020, 0.030, 0.050)
FRAME_S = 0.010
REPLICATES = 1000  # of the bootstrap
ROUNDING_S = 1e-9  # 0.31 − 0.30 is a little more than 0.01 in binary

BySpeaker = Mapping[str, ErrorCounts]
Errors = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class TimedPair:
    """The times of one utterance's phones, by hand (`reference`) and by an aligner (`aligned`)."""

    id: str
    speaker: str
    reference: Sequence[Segment]
    aligned: Sequence[Segment]


@dataclass(frozen=True)
class Timing:
    """Shares of correct boundaries and frames, and the errors of all boundaries in seconds.

    `rates` are boundaries within a tolerance, and frames with the correct label; the others count
    as substituted. `errors_s` are the aligner's times minus the hand-made ones.
    """

    utterances: int
    errors_s: Errors
    rates: Mapping[str, BySpeaker]
    intervals: Mapping[str, Interval] = field(default_factory=dict)  # of `rates`, by speaker

    def percent(self, name: str) -> float:
        """The share that is right; there must be a boundary or frame."""
        total = sum(self.rates[name].values(), ErrorCounts())
        return 100.0 * total.corr / total.ref

    def text(self) -> str:
        """A table for people."""
        speakers = len(next(iter(self.rates.values())))
        off_ms = 1000.0 * np.abs(self.errors_s)
        lines = [
            f"{len(self.errors_s)} boundaries in {self.utterances} utterances of {speakers} "
            f"speakers: mean absolute error {off_ms.mean():.1f} ms, median {np.median(off_ms):.1f} "
            f"ms, found {1000.0 * self.errors_s.mean():+.1f} ms late on average"
        ]
        for name in self.rates:
            interval = self.intervals.get(name)
            by_speaker = f"  95 % by speaker {interval}" if interval else ""
            lines.append(f"{name:<36} {self.percent(name):6.2f} %{by_speaker}")
        return "\n".join(lines)


def compare_times(pairs: Iterable[TimedPair]) -> Timing:
    """Errors of an aligner's times against hand-made ones, with 95 % intervals by speaker.

    The outer edges of an utterance are no boundaries. A boundary that two phones share on both
    sides counts once. The count of frames with folded labels is made where all labels are TIMIT's;
    it leaves out frames without label, or with one that the folding deletes (q). Raises `DataError`
    where the phones are not the same.
    """
    pairs = list(pairs)
    errors: list[Errors] = []
    rates: dict[str, dict[str, ErrorCounts]] = {}

    def add(name: str, speaker: str, right: Any) -> None:
        correct = int(np.sum(right))
        counts = ErrorCounts(1, len(right), correct, len(right) - correct)
        by_speaker = rates.setdefault(name, {})
        by_speaker[speaker] = by_speaker.get(speaker, ErrorCounts()) + counts

    fold = fold_to_39().target
    is_timit = all(segment.phone in fold for pair in pairs for segment in pair.reference)
    for pair in pairs:
        errors.append(_errors(pair))
        for tolerance in TOLERANCES_S:
            right = np.abs(errors[-1]) <= tolerance + ROUNDING_S
            add(f"boundaries within {1000 * tolerance:.0f} ms", pair.speaker, right)
        end_s = max((segment.end_s for segment in pair.reference), default=0.0)
        times = (np.arange(round(end_s / FRAME_S)) + 0.5) * FRAME_S
        said, heard = _labels_at(pair.reference, times), _labels_at(pair.aligned, times)
        add("frames of 10 ms, labels as they are", pair.speaker, said == heard)
        if is_timit:
            said, heard = (np.array([fold.get(x) for x in side], object) for side in (said, heard))
            counted = np.array([label is not None for label in said], bool)
            add("frames of 10 ms, 39 labels", pair.speaker, (said == heard)[counted])
    if not sum(map(len, errors)):
        raise DataError("no boundary to compare: no utterance has two phones with times")
    right_in = {}
    for name, speakers in rates.items():
        if wrong := intervals.by_speaker(speakers, REPLICATES, seed=0):
            right_in[name] = Interval(100.0 - wrong.high, 100.0 - wrong.low)
    return Timing(len(pairs), np.concatenate(errors), rates, right_in)


def _errors(pair: TimedPair) -> Errors:
    """Aligned minus labelled, in seconds: of the ends but the last, and of starts that differ."""
    said, heard = ([segment.phone for segment in side] for side in (pair.reference, pair.aligned))
    if said != heard:
        raise DataError(
            f"{pair.id}: the labelled phones are {' '.join(said)!r}, those with times "
            f"{' '.join(heard)!r}; boundaries can only be compared between the same phones"
        )
    errors = []
    neighbours = pairwise(zip(pair.reference, pair.aligned, strict=True))
    for (labelled, aligned), (next_labelled, next_aligned) in neighbours:
        errors.append(aligned.end_s - labelled.end_s)
        if (next_labelled.start_s, next_aligned.start_s) != (labelled.end_s, aligned.end_s):
            errors.append(next_aligned.start_s - next_labelled.start_s)
    return np.array(errors)


def _labels_at(segments: Sequence[Segment], times: Any) -> Any:
    """The label at each time, "" where there is none."""
    starts = np.array([segment.start_s for segment in segments])
    ends = np.array([segment.end_s for segment in segments])
    at = np.searchsorted(starts, times, side="right") - 1
    phones = np.array([*(segment.phone for segment in segments), ""], dtype=object)
    return phones[np.where((at >= 0) & (times < ends[at]), at, -1)]
