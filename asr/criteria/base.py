"""What a method of training and search is: a head, its `loss`, and its search, `decode`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from asr.batch import Batch
from asr.language_model import Graph
from asr.records import DataError


@dataclass(frozen=True)
class CriterionConfig:
    """Base of every criterion's configuration; `name` finds the criterion of a checkpoint."""

    name: str


@dataclass(frozen=True)
class SearchConfig:
    """How hypotheses are searched for. What is added to log-probabilities is in nats."""

    beam: int = 1  # prefixes kept in each frame; 1: greedy, the best alignment
    n_best: int = 1  # hypotheses of each utterance
    threshold: float = 15.0  # prefixes so far below the best one of a frame are dropped
    blank_penalty: float = 0.0  # taken from the blank in each frame
    bonus: float = 0.0  # added for each phone
    language_model: str = ""  # ARPA file of the same phones; "": none
    lm_weight: float = 1.0  # its log-probability counts so many times

    def __post_init__(self) -> None:
        for key in ("beam", "n_best"):
            if getattr(self, key) < 1:
                raise ValueError(f"search.{key} is {getattr(self, key)}, expected at least 1")
        if self.n_best > self.beam:
            raise ValueError(
                f"search.n_best is {self.n_best}, expected at most {self.beam} (search.beam)"
            )
        if not self.threshold > 0:
            raise ValueError(f"search.threshold is {self.threshold}, expected more than 0")
        if not self.lm_weight >= 0:
            raise ValueError(f"search.lm_weight is {self.lm_weight}, expected at least 0")
        for key in ("language_model", "bonus"):
            if self.beam == 1 and getattr(self, key):
                raise ValueError(
                    f"search.{key} is {getattr(self, key)}, but a greedy search (search.beam is "
                    f"1) has none; say search=beam"
                )


@dataclass(frozen=True)
class Path:
    """One result of a search: labels without blanks.

    `score` is what the search maximised, in nats: for a greedy search the log-probability of the
    best alignment, for a beam that of the labels, summed over the alignments found, and in both
    cases with the penalties, bonus and language model that were asked for. Where the criterion
    aligns labels with frames, `frames` (U,) are those of the best alignment where each label is
    most probable, never falling, and `confidences` (U,) its probability there.
    """

    labels: tuple[int, ...]
    score: float
    frames: tuple[int, ...] | None = None
    confidences: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Span:
    """Frames start…end (exclusive) of one aligned label, and its mean probability there."""

    start: int
    end: int
    confidence: float


class Criterion(nn.Module, ABC):
    """Head, loss and search of one method."""

    @abstractmethod
    def loss(self, encoded: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Loss of each utterance in nats: (N, T', D), (N,) → (N,). The caller reduces."""

    def decode(
        self,
        encoded: Tensor,
        lengths: Tensor,
        search: SearchConfig,
        language_model: Graph | None = None,
    ) -> list[list[Path]]:
        """Best paths of each utterance, best first: (N, T', D), (N,) → N × n-best.

        `language_model` is the graph of `search.language_model`, where there is one.
        """
        return self.search(self.emissions(encoded), lengths, search, language_model)

    @abstractmethod
    def emissions(self, encoded: Tensor) -> Tensor:
        """All that `search` reads, and `asr.tune` keeps, of each frame: (N, T', D) → (N, T', E)."""

    @abstractmethod
    def search(
        self,
        emissions: Tensor,
        lengths: Tensor,
        search: SearchConfig,
        language_model: Graph | None = None,
    ) -> list[list[Path]]:
        """As `decode`, of emissions: (N, T', E), (N,) → N × n-best."""

    @abstractmethod
    def align(
        self, encoded: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> list[list[Span]]:
        """The frames of every label of known transcripts: N × U, in the order of the labels.

        Shapes: (N, T', D), (N,), (N, U), (N,). Spans do not overlap; frames between two of them
        belong to neither. Raises `DataError` where an utterance has fewer frames than it needs.
        """

    def frames_needed(self, targets: Tensor, target_lengths: Tensor) -> Tensor:
        """The fewest frames in which labels can be aligned: (N, U), (N,) → (N,)."""
        return target_lengths.clamp(min=1)

    def require_frames(self, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> None:
        """Raise `DataError` where an utterance of a batch is too short to be aligned."""
        needed = self.frames_needed(targets, target_lengths)
        for n in (lengths < needed).nonzero().flatten().tolist():
            raise DataError(
                f"utterance {n} of the batch has {int(lengths[n])} frames, but its "
                f"{int(target_lengths[n])} labels need {int(needed[n])} to be aligned"
            )

    def tunable(self, search: SearchConfig) -> tuple[str, ...]:
        """Keys of `search` that are worth trying on dev, which `asr.tune` does."""
        return ()
