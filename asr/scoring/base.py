"""What the parts of scoring hand to each other: transcripts in, counts and scores out.

Nothing here aligns, folds, samples or prints more than one line; rates are derived from counts and
never stored.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from operator import mul
from pathlib import PurePath
from typing import Any, NamedTuple

from asr.errors import DataError

SCORERS = ("levenshtein", "sclite")

# One letter per step of an alignment. O is a phone of the reference that its protocol lets the
# hypothesis leave out: it counts as correct, as in sclite -D.
CORRECT, SUBSTITUTED, DELETED, INSERTED, OPTIONAL = "CSDIO"

SIGNIFICANT = 0.05
Z_SIGNIFICANT, Z_POWER = 1.959964, 0.841621  # two-sided 5 %; 80 % power
LENGTH_BIN = 10  # phones; utterances are grouped by the length of their reference


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
        return ErrorCounts(
            self.utterances + other.utterances,
            self.ref + other.ref,
            self.corr + other.corr,
            self.sub + other.sub,
            self.dele + other.dele,
            self.ins + other.ins,
        )

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

    def kaldi_line(self) -> str:
        """`%PER 17.70 [ 1277 / 7215, 133 ins, 412 del, 732 sub ]`, in the order of Kaldi."""
        rate = f"{self.per:.2f}" if self.ref else "undefined"
        return (
            f"%PER {rate} [ {self.err} / {self.ref}, "
            f"{self.ins} ins, {self.dele} del, {self.sub} sub ]"
        )

    def to_dict(self) -> dict[str, int]:
        """The counts by the names that the JSON output uses (`del` is a word of Python)."""
        return {
            "ref": self.ref,
            "corr": self.corr,
            "sub": self.sub,
            "del": self.dele,
            "ins": self.ins,
            "err": self.err,
        }


class Transcript(NamedTuple):
    """The phones of one utterance on one side, and what else its file says about it.

    `times_s` are (start, end) of every phone in seconds. `line` is 0 where there is no file.
    """

    id: str
    phones: tuple[str, ...]
    line: int = 0
    times_s: tuple[tuple[float, float], ...] | None = None
    speaker: str | None = None
    sex: str | None = None
    dialect: str | None = None


@dataclass(frozen=True)
class Transcripts:
    """One side of a comparison: transcripts by id, in the order of their file."""

    path: str
    items: Mapping[str, Transcript]
    corpus: str = ""
    split: str = ""

    def where(self, transcript: Transcript) -> str:
        """`path:line` of a transcript."""
        return f"{self.path}:{transcript.line}" if transcript.line else self.path


@dataclass(frozen=True)
class Pairs:
    """Phones of all utterances on both sides, as they are aligned; `optional` may be left out."""

    said: Sequence[Sequence[str]]
    heard: Sequence[Sequence[str]]
    optional: frozenset[str] = frozenset()

    @property
    def cells(self) -> int:
        """Of the tables that dynamic programming fills."""
        return sum(map(mul, map(len, self.said), map(len, self.heard)))

    @cached_property
    def labels(self) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """Of both sides: int32 labels of all utterances, and where each ends (N + 1,), first 0."""
        import numpy as np

        def encoded(side: Sequence[Sequence[str]]) -> tuple[Any, Any]:
            ends = np.cumsum([0, *map(len, side)])
            labels = map(self._label.__getitem__, chain.from_iterable(side))
            return np.fromiter(labels, np.int32, int(ends[-1])), ends

        return encoded(self.said), encoded(self.heard)

    @property
    def phones(self) -> list[str]:
        """The phone of each label."""
        assert self.labels
        return list(self._label)

    @cached_property
    def _label(self) -> defaultdict[str, int]:
        label: defaultdict[str, int] = defaultdict()
        label.default_factory = label.__len__
        return label


class Alignment(NamedTuple):
    """One aligned utterance: folded phones of both sides and one letter of CSDIO per step."""

    reference: Transcript
    hypothesis: Transcript
    ops: str

    @property
    def counts(self) -> ErrorCounts:
        return ErrorCounts.of(self.ops)

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
class Interval:
    """A 95 % interval of a rate, in percent."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.2f} … {self.high:.2f}"


@dataclass(frozen=True)
class Score:
    """The result of scoring one hypothesis under one protocol with one scorer.

    `sizes` counts utterances by (ref, err), which is all that resampling utterances needs;
    `lengths` are counts by the length of the reference, rounded down to tens. `confusions` leave
    out phones that were forgiven (O). `other_err` is what the other scorer counts, where it was
    asked.
    """

    protocol: str
    says: str
    scorer: str
    total: ErrorCounts
    speakers: Mapping[str, ErrorCounts]
    sizes: Mapping[tuple[int, int], int]
    lengths: Mapping[int, ErrorCounts]
    confusions: Mapping[tuple[str | None, str | None], int]
    alignments: Sequence[Alignment] = ()
    corpus: str = ""
    split: str = ""
    reference: str = ""
    hypothesis: str = ""
    missing: int = 0
    other_err: int | None = None
    intervals: Mapping[str, Interval] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Corpus and split as the reference names them, or else the name of its file."""
        named = " ".join(part for part in (self.corpus, self.split) if part)
        return named or PurePath(self.reference).name

    @property
    def is_synthetic(self) -> bool:
        """Whether the speech was made by a machine, which every print of the rate has to say."""
        return self.corpus.startswith("synthetic")

    @property
    def other_scorer(self) -> str:
        """The scorer that did not make this score."""
        return next(name for name in SCORERS if name != self.scorer)

    @property
    def ops(self) -> dict[str, str]:
        """Letters of CSDIO by utterance id."""
        return {alignment.reference.id: alignment.ops for alignment in self.alignments}

    def described(self) -> str:
        """What a rate has to carry: data, protocol, scorer, size, interval."""
        utterances = f"{self.total.utterances} utterances"
        if self.speakers:
            utterances += f" of {len(self.speakers)} speakers"
        parts = [
            self.name,
            f"{self.protocol} ({self.says})",
            f"scorer {self.scorer}",
            utterances,
        ]
        if self.missing:
            parts.append(f"{self.missing} missing hypotheses counted as deletions")
        if "speaker" in self.intervals:
            parts.append(f"95 % by speaker {self.intervals['speaker']}")
        return ", ".join(part for part in parts if part)

    def line(self) -> str:
        """The %PER line of Kaldi and behind it what it is the rate of."""
        return f"{self.total.kaldi_line()} {self.described()}"


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
    """Both tests on one pair of systems, and what they come to in plain words."""

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
        if self.utterances_needed is not None:
            words += (
                f": about {self.utterances_needed} utterances like these would be needed "
                f"(there are {self.total_a.utterances})"
            )
        smallest = self.smallest_difference
        if smallest is not None:
            words += f"; it tells differences from about {smallest:.2f} points"
        return words + "."

    def to_dict(self) -> dict[str, object]:
        """The value of "compare" in the JSON output."""
        test, drawn = self.mapsswe, self.bootstrap
        return {
            "a": self.a,
            "b": self.b,
            "per_a": self.total_a.per,
            "per_b": self.total_b.per,
            "difference": self.difference,
            "mapsswe": {
                "segments": test.segments,
                "mean": test.mean,
                "sd": test.sd,
                "z": test.z,
                "p": test.p,
            },
            "bootstrap": None
            if drawn is None
            else {
                "by": drawn.by,
                "units": drawn.units,
                "difference": drawn.difference,
                "interval": [drawn.interval.low, drawn.interval.high],
                "p": drawn.p,
            },
            "told_apart": self.told_apart,
            "utterances_needed": self.utterances_needed,
            "smallest_difference": self.smallest_difference,
            "verdict": self.verdict(),
        }


@dataclass(frozen=True)
class Confusion:
    """Something said that was heard as something else; None is nothing."""

    said: str | None
    heard: str | None
    count: int
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.said is None:
            return f"{self.heard} inserted"
        return f"{self.said} deleted" if self.heard is None else f"{self.said} → {self.heard}"


@dataclass(frozen=True)
class Matrix:
    """Counts of `columns` heard where `rows` were said; the last of each is nothing."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Boundaries:
    """Errors seen in time. Starts of correct phones, and what becomes of phones by duration.

    `within` are numbers of correct phones that start within so many seconds of the reference, of
    `starts`. `durations` are counts of reference phones by least duration in milliseconds.
    """

    starts: int
    within: Mapping[float, int]
    durations: Mapping[int, ErrorCounts]

    def shares(self, separator: str) -> str:
        """`80.0 % within 10 ms`, for each tolerance; there must be starts."""
        return separator.join(
            f"{100.0 * number / self.starts:.1f} % within {1000 * tolerance:.0f} ms"
            for tolerance, number in self.within.items()
        )

    def by_duration(self) -> Iterator[tuple[str, ErrorCounts]]:
        """`30–60 ms` and its counts, from the shortest phones to the longest."""
        bins = list(self.durations)
        for low, high in zip(bins, [*bins[1:], None], strict=True):
            yield f"≥ {low} ms" if high is None else f"{low}–{high} ms", self.durations[low]


@dataclass(frozen=True)
class Runs:
    """The rates of one system trained with several seeds: number, mean and sd in percent."""

    n: int
    mean: float
    sd: float


@dataclass(frozen=True)
class Report:
    """One score and everything found out about it, ready to be written as text, JSON or HTML."""

    score: Score
    groups: Mapping[str, Mapping[str, ErrorCounts]]
    frequent: Sequence[Confusion]
    matrices: Sequence[Matrix]
    boundaries: Boundaries | None = None
    comparison: Comparison | None = None
    runs: Runs | None = None
    notes: Sequence[str] = ()
    replicates: int = 0
    seed: int = 0
