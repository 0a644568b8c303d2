"""The result of scoring one hypothesis file, and the mean over several runs of one system."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev

from asr.scoring import intervals
from asr.scoring.alignment import SCORERS, Alignment
from asr.scoring.counts import ErrorCounts
from asr.scoring.intervals import Interval
from asr.scoring.protocols import WORDS

LENGTH_BIN = 10  # phones; utterances are grouped by the length of their reference


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
        return named or Path(self.reference).name

    @property
    def is_synthetic(self) -> bool:
        """Whether the speech was made by a machine, which every print of the rate has to say."""
        return self.corpus.startswith("synthetic")

    @property
    def other_scorer(self) -> str:
        """The scorer that did not make this score."""
        (other,) = set(SCORERS) - {self.scorer}
        return other

    @property
    def other_rate(self) -> float | None:
        """PER in percent by the other scorer, where it was asked and counts otherwise."""
        if self.other_err is None or self.other_err == self.total.err or not self.total.ref:
            return None
        return 100.0 * self.other_err / self.total.ref

    @property
    def ops(self) -> dict[str, str]:
        """Letters of CSDIO by utterance id."""
        return {alignment.reference.id: alignment.ops for alignment in self.alignments}

    def described(self) -> str:
        """What a rate has to carry: data, protocol, scorer, size, interval."""
        interval = self.intervals.get("speaker")
        speakers = f" of {len(self.speakers)} speakers" if self.speakers else ""
        parts = [
            self.name,
            f"{self.protocol} ({self.says})",
            f"scorer {self.scorer}",
            f"{self.total.utterances} utterances{speakers}",
            f"{self.missing} missing hypotheses counted as deletions" if self.missing else "",
            f"95 % by speaker {interval}" if interval else "",
        ]
        return ", ".join(filter(None, parts))

    def line(self) -> str:
        """The %PER or %WER line of Kaldi, followed by what it is the rate of."""
        line = f"{self.total.kaldi_line()} {self.described()}"
        return line.replace("%PER", "%WER", 1) if self.protocol == WORDS else line


def with_intervals(score: Score, replicates: int = 1000, seed: int = 0) -> Score:
    """The same score with 95 % bootstrap intervals, by speaker and by utterance where possible."""
    computed = {
        "speaker": intervals.by_speaker(score.speakers, replicates, seed),
        "utterance": intervals.by_utterance(score.sizes, replicates, seed),
    }
    return replace(score, intervals={k: v for k, v in computed.items() if v is not None})


@dataclass(frozen=True)
class Runs:
    """The rates of one system trained with several seeds: number, mean and sd in percent."""

    n: int
    mean: float
    sd: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.sd:.2f}"


def runs(scores: Sequence[Score]) -> Runs | None:
    """Mean and sd (n - 1) over the seeds of one system; None for one score, or without phones."""
    if len(scores) < 2 or any(score.total.ref == 0 for score in scores):
        return None
    rates = [score.total.per for score in scores]
    return Runs(len(rates), fmean(rates), stdev(rates))
