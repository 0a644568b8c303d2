"""Times of a forced alignment against hand-made ones: boundaries, and labels of 10 ms frames.

Where both sides have the same phones, every boundary is compared. Otherwise the phones are matched:
of all alignments with the fewest errors, the one with the least distance in time. A boundary
between two phones is compared if both are matched, to themselves or to another phone, and those are
adjacent too. Recognised phones are compared in time by `analysis`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from asr.errors import DataError
from asr.phones import SILENCES, fold_to_39, fold_to_arpabet
from asr.records import Segment
from asr.scoring import intervals
from asr.scoring.counts import ErrorCounts
from asr.scoring.intervals import Interval

TOLERANCES_S = (0.010, 0.020, 0.030, 0.050)
FRAME_S = 0.010
REPLICATES = 1000  # of the bootstrap
ROUNDING_S = 1e-9  # 0.31 − 0.30 is a little more than 0.01 in binary
ERROR = 10**12  # cost of an error in µs: more than all distances in time together
CELLS = 2_500_000  # of a table of alignments; longer transcripts are halved in time

BySpeaker = Mapping[str, ErrorCounts]
Errors = np.ndarray[Any, np.dtype[np.float64]]
Segments = Sequence[Segment]


@dataclass(frozen=True)
class TimedPair:
    """The times of one utterance's phones, by hand (`reference`) and by an aligner (`aligned`).

    Words are compared likewise.
    """

    id: str
    speaker: str
    reference: Segments
    aligned: Segments


class Boundary(NamedTuple):
    """Between two phones of the reference, of which "" is silence; aligned minus hand-made time."""

    left: str
    right: str
    time_s: float
    error_s: float


@dataclass(frozen=True)
class Timing:
    """Shares of correct boundaries and frames, and the errors of all boundaries in seconds.

    `rates` are boundaries within a tolerance, and frames with the correct label; the others count
    as substituted. `errors_s` are the aligner's times minus the hand-made ones. `missed` boundaries
    of the reference have no counterpart; `untimed` utterances have no reference.
    """

    utterances: int
    errors_s: Errors
    rates: Mapping[str, BySpeaker]
    intervals: Mapping[str, Interval] = field(default_factory=dict)  # of `rates`, by speaker
    missed: int = 0
    untimed: int = 0

    def percent(self, name: str) -> float:
        """The share that is right; there must be a boundary or frame."""
        total = sum(self.rates[name].values(), ErrorCounts())
        return 100.0 * total.corr / total.ref

    @property
    def comparable(self) -> float:
        """The share of the boundaries of the reference that could be compared, in percent."""
        return 100.0 * len(self.errors_s) / (len(self.errors_s) + self.missed)

    def text(self) -> str:
        """A table for people."""
        speakers = len(next(iter(self.rates.values())))
        off_ms = 1000.0 * np.abs(self.errors_s)
        lines = [
            f"{len(self.errors_s)} boundaries in {self.utterances} utterances of {speakers} "
            f"speakers: mean absolute error {off_ms.mean():.1f} ms, median {np.median(off_ms):.1f} "
            f"ms, found {1000.0 * self.errors_s.mean():+.1f} ms late on average"
        ]
        more = f"{self.missed} more have no counterpart: {self.comparable:.1f} % are compared"
        lines += [more] * bool(self.missed)
        total = self.utterances + self.untimed
        if self.untimed:
            lines.append(f"{self.untimed} of {total} utterances have no times: not compared")
        for name in self.rates:
            interval = self.intervals.get(name)
            by_speaker = f"  95 % by speaker {interval}" if interval else ""
            lines.append(f"{name:<36} {self.percent(name):6.2f} %{by_speaker}")
        return "\n".join(lines)


def compare_times(pairs: Iterable[TimedPair]) -> Timing:
    """Errors of an aligner's times against hand-made ones, with 95 % intervals by speaker.

    Utterances without reference are counted and left out. Where the phones differ, and all are
    TIMIT's or CMUdict's, both sides are folded by `in_arpabet`. The count of frames with folded
    labels is made where all labels are TIMIT's; it leaves out frames without label, or with one
    that the folding deletes (q). Raises `DataError` where there is no boundary to compare.
    """
    given = list(pairs)
    timed = [_alike(pair) for pair in given if pair.reference]
    errors: list[Errors] = []
    missed = 0
    rates: dict[str, dict[str, ErrorCounts]] = {}

    def add(name: str, speaker: str, right: Any) -> None:
        correct = int(np.sum(right))
        counts = ErrorCounts(1, len(right), correct, len(right) - correct)
        by_speaker = rates.setdefault(name, {})
        by_speaker[speaker] = by_speaker.get(speaker, ErrorCounts()) + counts

    fold = fold_to_39().target
    is_timit = all(segment.phone in fold for pair in timed for segment in pair.reference)
    for pair in timed:
        compared, without = boundaries(pair)
        errors.append(np.array([one.error_s for one in compared]))
        missed += without
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
    untimed = len(given) - len(timed)
    return Timing(len(timed), np.concatenate(errors), rates, right_in, missed, untimed)


def in_arpabet(segments: Segments) -> list[Segment]:
    """TIMIT's labels as CMUdict's 39 phones, with their times.

    A closure is part of the stop or affricate that follows, and a stop where none does. Pauses stay
    as `sil`. Half of the time of q goes to each of its neighbours. `KeyError`: an unknown label.
    """
    fold = fold_to_arpabet()
    folded: list[Segment] = []
    begins: float | None = None
    for one, following in pairwise((*segments, Segment("", 0.0, 0.0))):
        phone = "sil" if one.phone in SILENCES else fold.target[one.phone]
        start_s = one.start_s if begins is None else begins
        begins = None
        if following.phone in fold.releases.get(one.phone, ()):
            begins = start_s
        elif phone is not None:
            folded.append(Segment(phone, start_s, one.end_s))
        elif one.phone == "q":
            begins = (start_s + one.end_s) / 2
            if folded and folded[-1].end_s == start_s:
                folded[-1] = folded[-1]._replace(end_s=begins)
    return folded


def boundaries(pair: TimedPair) -> tuple[list[Boundary], int]:
    """Those that can be compared, and the number of those that cannot.

    Labels of silence, and gaps, are silence. Phones that adjoin have one boundary, and two, the end
    of the first and the start of the second, where they do not on either side. The outer edges of
    an utterance are none, unless the reference has a label of silence there.
    """
    said, heard = (
        [one for one in side if one.phone not in SILENCES]
        for side in (pair.reference, pair.aligned)
    )
    edge = Segment("", np.nan, np.nan)
    first, last = (
        [edge] * (bool(said) and pair.reference[end].phone in SILENCES) for end in (0, -1)
    )
    matched = [*([-1] * len(first)), *_matched(said, heard), *([len(heard)] * len(last))]
    heard.append(edge)  # at -1 too
    compared: list[Boundary] = []
    missed = 0
    neighbours = zip(pairwise([*first, *said, *last]), pairwise(matched), strict=True)
    for (left, right), (before, place) in neighbours:
        adjoin = left.end_s == right.start_s
        if before is None or place is None or place != before + 1:
            missed += 1 if adjoin else (left is not edge) + (right is not edge)
            continue
        end_s, start_s = heard[before].end_s, heard[place].start_s
        if left is not edge:
            ends = left.phone, right.phone if adjoin else ""
            compared.append(Boundary(*ends, left.end_s, end_s - left.end_s))
        if right is not edge and not (adjoin and end_s == start_s):
            ends = left.phone if adjoin else "", right.phone
            compared.append(Boundary(*ends, right.start_s, start_s - right.start_s))
    return compared, missed


def _alike(pair: TimedPair) -> TimedPair:
    """The pair, in CMUdict's phones where the phones differ and all of them can be folded."""
    said, heard = ([one.phone for one in side] for side in (pair.reference, pair.aligned))
    if said == heard or not {*said, *heard} <= fold_to_arpabet().target.keys() | SILENCES:
        return pair
    return replace(pair, reference=in_arpabet(pair.reference), aligned=in_arpabet(pair.aligned))


def _matched(said: Segments, heard: Segments) -> list[int | None]:
    """The place in `heard` of each phone said; None: it has none.

    Of all alignments with the fewest errors, the one whose pairs have the least distance in time.
    """
    if [one.phone for one in said] == [one.phone for one in heard]:
        return list(range(len(said)))
    middles_s = [np.array([(s.start_s + s.end_s) / 2 for s in side]) for side in (said, heard)]
    if len(said) > 1 and len(said) * len(heard) > CELLS:
        half = len(said) // 2
        cut = int(np.searchsorted(middles_s[1], said[half].start_s))
        behind = _matched(said[half:], heard[cut:])
        late = [None if place is None else place + cut for place in behind]
        return _matched(said[:half], heard[:cut]) + late
    distances = np.abs(middles_s[0][:, None] - middles_s[1]) * 1e6
    phones = [np.array([one.phone for one in side], object) for side in (said, heard)]
    pairs = distances.astype(np.int64) + ERROR * (phones[0][:, None] != phones[1])
    insertions = ERROR * np.arange(len(heard) + 1)
    costs = [insertions]
    for of_pairs in pairs:
        row = costs[-1] + ERROR
        row[1:] = np.minimum(row[1:], costs[-1][:-1] + of_pairs)
        costs.append(np.minimum.accumulate(row - insertions) + insertions)
    matched: list[int | None] = [None] * len(said)
    n, place = len(said), len(heard)
    while n and place:
        if costs[n][place] == costs[n - 1][place - 1] + pairs[n - 1, place - 1]:
            n, place = n - 1, place - 1
            matched[n] = place
        elif costs[n][place] == costs[n - 1][place] + ERROR:
            n -= 1
        else:
            place -= 1
    return matched


def _labels_at(segments: Sequence[Segment], times: Any) -> Any:
    """The label at each time, "" where there is none."""
    segments = [*segments, Segment("", np.inf, np.inf)]
    starts = np.array([segment.start_s for segment in segments])
    ends = np.array([segment.end_s for segment in segments])
    at = np.searchsorted(starts, times, side="right") - 1
    phones = np.array([segment.phone for segment in segments], dtype=object)
    return phones[np.where((at >= 0) & (times < ends[at]), at, -1)]
