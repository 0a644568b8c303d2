"""Is one system better than another on the same utterances, and how many utterances would tell?

MAPSSWE is computed on sclite's alignments, as NIST sc_stats does it, whatever scorer counts the
errors. The bootstrap draws speakers, both systems together.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from asr.errors import DataError
from asr.scoring import intervals
from asr.scoring.alignment import Pairs, align
from asr.scoring.counts import CORRECT, INSERTED, OPTIONAL, ErrorCounts, errors_in
from asr.scoring.intervals import Interval
from asr.scoring.protocols import Protocol
from asr.scoring.result import Score

SIGNIFICANT = 0.05
Z_SIGNIFICANT, Z_POWER = 1.959964, 0.841621  # two-sided 5 %; 80 % power
BOUNDARY = 2  # correct phones in both systems that end a segment (sc_stats, DEFAULT_MIN_NUM_GOOD)


@dataclass(frozen=True)
class Mapsswe:
    """Matched-pairs sentence-segment word error test (Gillick & Cox 1989; NIST sc_stats).

    `mean` and `sd` are of the errors of A minus those of B in a segment; `p` is two-sided.
    """

    segments: int
    mean: float
    sd: float
    z: float
    p: float


@dataclass(frozen=True)
class PairedBootstrap:
    """Units drawn for both systems at once; `difference` is PER of A minus PER of B, in points."""

    by: str
    units: int
    difference: float
    interval: Interval
    p: float


@dataclass(frozen=True)
class Comparison:
    """Both tests on one pair of systems, and their verdict in plain words."""

    a: str
    b: str
    total_a: ErrorCounts
    total_b: ErrorCounts
    mapsswe: Mapsswe
    bootstrap: PairedBootstrap | None

    @property
    def difference(self) -> float:
        """PER of A minus PER of B, in points."""
        return self.total_a.per - self.total_b.per

    @property
    def told_apart(self) -> bool:
        """Whether both tests that can be made find the difference significant at 5 %."""
        tests = [self.mapsswe.p] + ([self.bootstrap.p] if self.bootstrap else [])
        return max(tests) < SIGNIFICANT

    @property
    def utterances_needed(self) -> int | None:
        """Utterances like these for 80 % power at 5 %; None when the systems do not differ."""
        test = self.mapsswe
        if test.mean == 0.0 or test.segments == 0:
            return None
        segments = ((Z_SIGNIFICANT + Z_POWER) * test.sd / test.mean) ** 2
        return math.ceil(segments * self.total_a.utterances / test.segments)

    @property
    def smallest_difference(self) -> float | None:
        """PER points that this test set tells apart with 80 % power at 5 %."""
        test = self.mapsswe
        if test.segments == 0 or self.total_a.ref == 0:
            return None
        errors = (Z_SIGNIFICANT + Z_POWER) * test.sd * math.sqrt(test.segments)
        return 100.0 * errors / self.total_a.ref

    def verdict(self) -> str:
        """One or two sentences for people."""
        if self.mapsswe.segments == 0:
            return "The systems make the same errors: nothing tells them apart."
        better, worse = ("B", "A") if self.difference > 0 else ("A", "B")
        size = f"{abs(self.difference):.2f} PER points"
        if self.told_apart:
            return f"{better} is better than {worse} by {size}, and this test set tells them apart."
        if self.difference == 0.0:
            return "The systems make equally many errors: nothing tells them apart."
        words = f"A difference of {size} cannot be told apart on this test set"
        if (needed := self.utterances_needed) is not None:
            there = self.total_a.utterances
            words += f": about {needed} utterances like these would be needed (there are {there})"
        if (smallest := self.smallest_difference) is not None:
            words += f"; it tells differences from about {smallest:.2f} points"
        return words + "."


def compare(
    a: Score, b: Score, protocol: Protocol, replicates: int = 1000, seed: int = 0
) -> Comparison:
    """Whether A and B, scored on the same references under `protocol`, can be told apart.

    MAPSSWE always takes sclite's alignments; the bootstrap draws speakers, or utterances where
    fewer than two speakers are known.
    """
    if {a.protocol, b.protocol} != {protocol.name} or a.scorer != b.scorer:
        raise DataError("only scores of one protocol and one scorer can be compared")
    steps = [_sclite_steps(score, protocol.optional) for score in (a, b)]
    if len(a.speakers) > 1:
        by, counts_a, counts_b = "speaker", a.speakers, b.speakers
    else:
        by = "utterance"
        counts_a, counts_b = (
            {x.reference.id: x.counts for x in score.alignments} for score in (a, b)
        )
    test = mapsswe((steps[0][id_], steps[1][id_]) for id_ in steps[0])
    drawn = paired_bootstrap(counts_a, counts_b, by, replicates, seed)
    return Comparison(a.hypothesis, b.hypothesis, a.total, b.total, test, drawn)


def _sclite_steps(score: Score, optional: frozenset[str]) -> dict[str, str]:
    if score.scorer == "sclite":
        return score.ops
    said = [aligned.reference.phones for aligned in score.alignments]
    heard = [aligned.hypothesis.phones for aligned in score.alignments]
    steps = align(Pairs(said, heard, optional), "sclite")
    return dict(zip(score.ops, steps, strict=True))


def mapsswe(pairs: Iterable[tuple[str, str]]) -> Mapsswe:
    """Test the alignments of A and B, given as letters of CSDIO for every utterance."""
    differences = [errors_a - errors_b for pair in pairs for errors_a, errors_b in segments(*pair)]
    n = len(differences)
    mean = sum(differences) / max(n, 1)
    variance = sum((d - mean) ** 2 for d in differences) / (n - 1) if n > 1 else 0.0
    sd = math.sqrt(variance)
    if sd == 0.0:
        # No segment, or all differ alike: no spread to test against, which sc_stats leaves at 0.
        return Mapsswe(n, mean, 0.0, 0.0, 1.0)
    z = mean / (sd / math.sqrt(n))
    return Mapsswe(n, mean, sd, z, math.erfc(abs(z) / math.sqrt(2.0)))


def segments(ops_a: str, ops_b: str) -> list[tuple[int, int]]:
    """Errors of A and of B in each segment of one utterance that holds any.

    A segment is bounded by two phones that both systems have right, or by the ends of the
    utterance (mtchprs.c, test_comp_sents). Both strings align the same reference.
    """
    sides = (re.findall(f"({INSERTED}*)(.?)", ops) for ops in (ops_a, ops_b))
    steps: list[tuple[str, str]] = []  # of A and B: insertions before a phone, and the phone
    for (inserted_a, phone_a), (inserted_b, phone_b) in zip(*sides, strict=False):
        if inserted_a or inserted_b:
            steps.append((inserted_a, inserted_b))
        steps.append((phone_a, phone_b))
    right = {CORRECT, OPTIONAL}
    marks = "".join("+" if right.issuperset(both) else "-" for both in steps)
    errors = []  # of wrong steps with fewer than BOUNDARY right ones between them
    for match in re.finditer(rf"-(\+{{0,{BOUNDARY - 1}}}-)*", marks):
        a, b = zip(*steps[match.start() : match.end()], strict=True)
        errors.append((errors_in("".join(a)), errors_in("".join(b))))
    return [both for both in errors if both != (0, 0)]


def paired_bootstrap(
    counts_a: Mapping[str, ErrorCounts],
    counts_b: Mapping[str, ErrorCounts],
    by: str,
    replicates: int,
    seed: int,
) -> PairedBootstrap | None:
    """Draw the same units for both systems; None below two units or without phones."""
    names = sorted(counts_a)
    units = [(counts_a[n].ref, counts_a[n].err - counts_b[n].err, 1) for n in names]
    drawn = intervals.drawn(units, replicates, seed)
    interval = intervals.percentiles(drawn, tail=2.5)
    if drawn is None or interval is None:
        return None
    point, differences = drawn
    below = (1 + int((differences <= 0).sum())) / (len(differences) + 1)
    above = (1 + int((differences >= 0).sum())) / (len(differences) + 1)
    return PairedBootstrap(by, len(names), point, interval, min(1.0, 2.0 * min(below, above)))
