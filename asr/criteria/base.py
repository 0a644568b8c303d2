"""The interface of a criterion: head, loss, search and alignment of one method."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from asr.batch import Batch, length_mask
from asr.errors import DataError
from asr.knobs import Knobs
from asr.search import SearchConfig
from asr.search.graph import Graph


@dataclass(frozen=True)
class CriterionConfig(Knobs, group="criterion"):
    """Base of every criterion's configuration; in a checkpoint, `name` selects the class."""

    name: str


@dataclass(frozen=True)
class Path:
    """One result of a search: labels without blanks.

    `score` is what the search maximised, in nats, penalties, bonus and language model included. A
    greedy search scores its best alignment, a beam search the sum over all alignments in the beam.
    `frames` (U,) has, for each label, the frame of the best alignment in which it is most probable;
    `confidences` (U,) has the probabilities there. `words` are those of a search of words, each
    with its number of labels.
    """

    labels: tuple[int, ...]
    score: float
    frames: tuple[int, ...]
    confidences: tuple[float, ...]
    words: tuple[tuple[str, int], ...] | None = None


@dataclass(frozen=True)
class Span:
    """Frames start…end (exclusive) of one aligned label, and its mean probability in them."""

    start: int
    end: int
    confidence: float


@dataclass(frozen=True)
class FrameTimes:
    """Times of encoded frames: the middle of frame t is at sample `first` + t · `step`."""

    first: float
    step: float


@dataclass(frozen=True)
class Split:
    """A split for `Criterion.prepare`; each part may be iterated once."""

    transcripts: Iterable[Sequence[int]]  # labels
    batches: Iterable[tuple[Batch, Tensor]]  # each with T' of its utterances, (N,)


class Criterion(nn.Module, ABC):
    """Head, loss and search of one method."""

    def prepare(self, train: Split, dev: Split) -> None:
        """Learn what needs no encoded frames, before the first epoch; by default nothing."""

    def begin_with(self, other: "Criterion", labels: Sequence[int | None]) -> None:
        """Initialise the weights from a criterion over other phones; by default nothing.

        `labels` gives, for each label of this criterion, its counterpart in `other`, if any.
        """

    @abstractmethod
    def loss(self, encoded: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Loss of each utterance in nats: (N, T', D), (N,) → (N,); the caller reduces."""

    def decode(
        self, encoded: Tensor, lengths: Tensor, search: SearchConfig, graph: Graph | None = None
    ) -> list[list[Path]]:
        """Best paths of each utterance, best first: (N, T', D), (N,) → N × n-best.

        `graph` is that of `search.language_model` or `search.words`, if one is set.
        """
        return self.search(self.emissions(encoded), lengths, search, graph)

    @abstractmethod
    def emissions(self, encoded: Tensor) -> Tensor:
        """What `search` reads of each frame, and `asr tune` keeps: (N, T', D) → (N, T', E)."""

    @abstractmethod
    def search(
        self, emissions: Tensor, lengths: Tensor, search: SearchConfig, graph: Graph | None = None
    ) -> list[list[Path]]:
        """As `decode`, from emissions: (N, T', E), (N,) → N × n-best."""

    @abstractmethod
    def align(
        self, encoded: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> list[list[Span]]:
        """The frames of each label of known transcripts: (N, T', D), (N,), (N, U), (N,) → N × U.

        Spans are in the order of the labels and do not overlap; frames between two of them belong
        to neither. Raises `DataError` where an utterance has fewer frames than `frames_needed`.
        """

    def frames_needed(self, targets: Tensor, target_lengths: Tensor) -> Tensor:
        """The fewest frames with which labels can be aligned: (N, U), (N,) → (N,)."""
        return target_lengths.clamp(min=1)

    def require_frames(self, lengths: Tensor, needed: Tensor, ids: Sequence[str] = ()) -> None:
        """Raise `DataError` that names each utterance with fewer frames than needed: (N,), (N,)."""
        short = (lengths < needed).nonzero().flatten().tolist()
        if short:
            named = ", ".join(
                f"{ids[n] if ids else f'utterance {n} of the batch'} (needs {int(needed[n])} "
                f"frames, has {int(lengths[n])})"
                for n in short
            )
            raise DataError(f"too short for the labels: {named}; lower encoder.subsampling")

    def require_numbers(self, emissions: Tensor) -> None:
        """Raise `DataError` where emissions are NaN."""
        if emissions.isnan().any():
            raise DataError("the model's outputs are NaN, expected numbers; train it first")

    def require_labels(self, batch: Batch, vocabulary_size: int) -> None:
        """Raise `DataError` unless all targets are labels 1…V − 1."""
        real = length_mask(batch.target_lengths, batch.targets.shape[1])
        foreign = ((batch.targets < 1) | (batch.targets >= vocabulary_size)) & real
        if foreign.any():
            n, u = foreign.nonzero()[0].tolist()
            raise DataError(
                f"{batch.ids[n]}: label {int(batch.targets[n, u])} in the targets, expected "
                f"1…{vocabulary_size - 1}; train with the vocabulary that the model was made for"
            )

    def tunable(self, search: SearchConfig) -> tuple[str, ...]:
        """The keys of `search` that `asr tune` tries on dev."""
        if search.beam == 1:
            return ("blank_penalty",)
        if search.words:
            return ("lm_weight", "bonus", "word_bonus", "variant", "unknown")
        return ("lm_weight", "bonus") if search.language_model else ("bonus",)
