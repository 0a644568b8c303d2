"""What a method of training and search is: a head, its `loss`, and its search, `decode`."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from asr.batch import Batch, length_mask
from asr.errors import DataError
from asr.knobs import Knobs, knob
from asr.search import viterbi
from asr.search.language_model import Graph, no_language_model

Array = npt.NDArray[np.int64]

NO_PHONE = 0  # the label of frames outside all phones


@dataclass(frozen=True)
class CriterionConfig(Knobs, group="criterion"):
    """Base of every criterion's configuration; `name` finds the criterion of a checkpoint."""

    name: str


@dataclass(frozen=True)
class SearchConfig(Knobs, group="search"):
    """How hypotheses are searched for; scores are log-probabilities, in nats."""

    beam: int = knob(1, "prefixes (HMM: tokens) kept in a frame; 1: greedy", at_least=1)
    n_best: int = knob(1, "hypotheses of each utterance", at_least=1)
    threshold: float = knob(
        15.0, "prefixes this many nats below the best of a frame are dropped", more_than=0
    )
    blank_penalty: float = knob(0.0, "nats subtracted in each frame from blank (HMM: label 0)")
    bonus: float = knob(0.0, "nats added for each phone; beam only")
    language_model: str = knob("", "ARPA file over the same phones or CMUdict's; beam only")
    lm_weight: float = knob(1.0, "factor of the language model's log-probability", at_least=0)
    prior_scale: float = knob(1.0, "framewise: factor of the states' log priors", at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_best > self.beam:
            raise ValueError(
                f"search.n_best is {self.n_best}, expected at most {self.beam} (search.beam)"
            )
        for key in ("language_model", "bonus"):
            if self.beam == 1 and getattr(self, key):
                raise ValueError(
                    f"search.{key} is {getattr(self, key)}, but a greedy search (search.beam is "
                    f"1) has none; set search=beam"
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


@dataclass(frozen=True)
class FrameTimes:
    """Where encoded frames lie: the middle of frame t is at `first` + t · `step` samples."""

    first: float
    step: float


@dataclass(frozen=True)
class Split:
    """What a criterion may want of a split before training; each is gone through when asked for."""

    transcripts: Iterable[Sequence[int]]  # labels
    batches: Iterable[tuple[Batch, Tensor]]  # with T' of each utterance, (N,)


class Criterion(nn.Module, ABC):
    """Head, loss and search of one method."""

    @property
    def copies(self) -> int:
        """How often a batch in training has each utterance, every time augmented by itself."""
        return 1

    def prepare(self, train: Split, dev: Split) -> None:
        """Learn what needs no encoded frames, once, before the first epoch; by default nothing."""

    def begin_with(self, other: "Criterion", labels: Sequence[int | None]) -> None:
        """Begin with what another criterion over other phones knows, if it can be of use.

        `labels` has, for each of our labels, the one of `other` to begin with, if there is one. By
        default nothing is taken.
        """

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
        """All that `search` reads, and `asr tune` keeps, of each frame: (N, T', D) → (N, T', E)."""

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
        """Keys of `search` that are worth trying on dev, which `asr tune` does."""
        return ()


class Estimated(Criterion):
    """A criterion without gradients: an epoch sums over the training set, and ends in new values.

    The encoder has no weights then (`encoder.layers` is 0).
    """

    @abstractmethod
    def accumulate(self, encoded: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Add a batch to the sums of this epoch; its loss as in `loss`, (N,)."""

    @abstractmethod
    def update(self) -> None:
        """Take the values that the sums of this epoch give."""


# ── hidden Markov models ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class HMMConfig(CriterionConfig):
    """The model of a phone: states from left to right, and how long it stays in each."""

    states: int = knob(3, "of a phone", at_least=1)
    duration_floor: int = knob(1, "fewest frames that a phone stays in each state", at_least=1)
    acoustic_scale: float = knob(
        1.0, "factor of a frame's log-likelihood in a Viterbi search", more_than=0
    )


class HMM(Criterion):
    """Hidden Markov models of phones, without the densities of their K states (Rabiner 1989).

    Column 0 of K = 1 + (V − 1) · states is label 0, no phone; then come the states of label 1, of
    label 2, and so on. Buffer `occupancy` (K,) has the training frames of each state; a state with
    none is never entered by a search, but may be by `align`.
    """

    occupancy: Tensor

    def __init__(self, config: HMMConfig, vocabulary_size: int, times: FrameTimes) -> None:
        super().__init__()
        self.config = config
        self.vocabulary_size = vocabulary_size
        self.columns = 1 + (vocabulary_size - 1) * config.states
        self.times = times
        ones = torch.ones(self.columns, dtype=torch.float64)  # until they are counted
        self.register_buffer("occupancy", ones)

    @abstractmethod
    def state_scores(self, emissions: Tensor, prior_scale: float) -> Tensor:
        """log p(frame | state), up to a constant of each frame: (N, T', E) → (N, T', K)."""

    @abstractmethod
    def posteriors(self, emissions: Tensor) -> Tensor:
        """log P(state | frame): (N, T', E) → (N, T', K)."""

    def log_priors(self) -> Tensor:
        """log P(state) in training, a state without frames counted as one with one frame, (K,)."""
        return (self.occupancy.clamp(min=1) / self.occupancy.sum()).log().float()

    def label_posteriors(self, emissions: Tensor) -> Tensor:
        """log P(label | frame), summed over the states: (N, T', E) → (N, T', V)."""
        log_probs = self.posteriors(emissions)
        phones = log_probs[..., 1:].reshape(*log_probs.shape[:-1], -1, self.config.states)
        return torch.cat([log_probs[..., :1], phones.logsumexp(dim=-1)], dim=-1)

    def tunable(self, search: SearchConfig) -> tuple[str, ...]:
        """Greedy, the penalty of label 0, if training had frames outside all phones."""
        if search.beam == 1:
            return ("blank_penalty",) if self.occupancy[NO_PHONE] else ()
        lm_weight = ("lm_weight",) if search.language_model else ()
        return (*lm_weight, "bonus", "prior_scale")

    def frame_states(self, lengths: Tensor, batch: Batch) -> Tensor:
        """The column of each frame by the phones' times, (N, T'); undefined behind an end.

        A frame belongs to the phone that its middle lies in, and to the state by the part of the
        phone, all parts being equally long. Raises `DataError` where there are no times.
        """
        require_times(without_times(batch))
        assert batch.target_starts is not None
        assert batch.target_ends is not None
        frames = torch.arange(int(lengths.max()), device=lengths.device)
        middles = (self.times.first + frames * self.times.step).expand(len(lengths), -1)
        real = length_mask(batch.target_lengths, batch.targets.shape[1])
        ends = batch.target_ends.double().masked_fill(~real, torch.inf)
        ends = nn.functional.pad(ends, (0, 1), value=torch.inf)
        place = torch.searchsorted(ends, middles.double().contiguous(), right=True)
        labels, starts = (
            nn.functional.pad(each, (0, 1)).gather(1, place)
            for each in (batch.targets, batch.target_starts)
        )
        ends = ends.gather(1, place)
        states = ((middles - starts) / (ends - starts) * self.config.states).long()
        columns = 1 + (labels - 1) * self.config.states + states
        inside = (starts <= middles) & (middles < ends) & ends.isfinite()
        return columns.where(inside, NO_PHONE)

    def shorter_than(self, frames: int, batch: Batch) -> int:
        """How many phones with times are shorter than so many frames."""
        assert batch.target_starts is not None
        assert batch.target_ends is not None
        real = length_mask(batch.target_lengths, batch.targets.shape[1])
        samples = (batch.target_ends - batch.target_starts)[real]
        return int((samples < frames * self.times.step).sum())

    def search(
        self,
        emissions: Tensor,
        lengths: Tensor,
        search: SearchConfig,
        language_model: Graph | None = None,
    ) -> list[list[Path]]:
        """With a beam the best path through states and language model; greedy: each frame's label.

        Greedy, repeats of the likeliest label are joined, and label 0 is left out. There is one
        path. Torch's threads share the utterances.
        """
        emissions = emissions.detach().float().cpu()
        if emissions.isnan().any():
            raise DataError("the model's log-probabilities are not numbers; was it trained?")
        if search.n_best > 1:
            raise DataError(
                f"search.n_best is {search.n_best}, but a Viterbi search finds one path; expected 1"
            )
        label_log_probs = self.label_posteriors(emissions)
        label_log_probs[..., NO_PHONE] -= search.blank_penalty
        utterances = list(zip(label_log_probs, lengths.tolist(), strict=True))
        if search.beam == 1:
            return [[greedy(log_probs[:length])] for log_probs, length in utterances]
        scores = self.config.acoustic_scale * self.state_scores(emissions, search.prior_scale)
        scores[..., NO_PHONE] -= search.blank_penalty
        scores = scores.masked_fill(self.occupancy.cpu() == 0, -torch.inf)
        graph = language_model or no_language_model(self.vocabulary_size)
        if not graph.states_tell_labels:
            raise DataError(
                "the language model is of CMUdict's phones, to which several labels fold; a "
                "Viterbi search takes only one of the recogniser's own labels"
            )

        def found(n: int) -> list[Path]:
            log_probs, length = utterances[n]
            labels, starts, score = viterbi.search(
                scores[n, :length].numpy(),
                graph,
                self.config.states,
                self.config.duration_floor,
                search.lm_weight,
                search.bonus,
                search.beam,
                search.threshold,
            )
            return [path_of(log_probs[:length], labels, starts, score)]

        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            return list(threads.map(found, range(len(utterances))))

    @torch.no_grad()
    def align(
        self, encoded: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> list[list[Span]]:
        """Where the labels of each utterance are: (N, T', D), (N,), (N, U), (N,) → N × U.

        By the best path through their states, with label 0 wherever that is better.
        """
        emissions = self.emissions(encoded).float().cpu()
        scores = self.state_scores(emissions, prior_scale=1.0)
        probs = self.label_posteriors(emissions).exp()
        aligned = []
        for n, (length, count) in enumerate(
            zip(lengths.tolist(), target_lengths.tolist(), strict=True)
        ):
            labels = targets[n, :count].cpu()
            _, places, _ = self.align_one(scores[n, :length], labels, f"utterance {n} of the batch")
            spans = []
            for u, label in enumerate(labels.tolist()):
                (frames,) = (places == u).nonzero()
                mean = float(probs[n, frames, label].mean())
                spans.append(Span(int(frames[0]), int(frames[-1]) + 1, mean))
            aligned.append(spans)
        return aligned

    def frames_needed(self, targets: Tensor, target_lengths: Tensor) -> Tensor:
        return (target_lengths * self.config.states * self.config.duration_floor).clamp(min=1)

    def align_one(self, scores: Tensor, labels: Tensor, name: str) -> tuple[Tensor, Array, float]:
        """Columns (T,), places in `labels` (T,) and score of one utterance: (T, K), (U,).

        Raises `DataError` with `name` where there are too few frames.
        """
        if self.occupancy[NO_PHONE] == 0:
            scores = scores.clone()
            scores[:, NO_PHONE] = -torch.inf
        columns, places, score = viterbi.align(
            scores.numpy(), labels.numpy(), self.config.states, self.config.duration_floor
        )
        if score == -np.inf:
            needed = len(labels) * self.config.states * self.config.duration_floor
            if len(scores) >= needed:
                raise DataError(f"{name}: no path through its phones has a probability above 0")
            raise DataError(
                f"{name}: {len(labels)} phones need {needed} frames, there are {len(scores)}; "
                f"lower criterion.states, criterion.duration_floor or encoder.subsampling"
            )
        return torch.from_numpy(columns), places, score


def greedy(log_probs: Tensor) -> Path:
    """The likeliest label of each frame, repeats joined, (T, V)."""
    along, labels = log_probs.max(dim=1)
    joined, sizes = torch.unique_consecutive(labels, return_counts=True)
    starts = sizes.cumsum(0) - sizes
    return path_of(log_probs, joined.numpy(), starts.numpy(), float(along.sum()))


def path_of(log_probs: Tensor, labels: Array, starts: Array, score: float) -> Path:
    """The path of labels (n,) that begin in frames (n,), 0 between them; log_probs (T, V)."""
    found, frames, confidences = [], [], []
    ends = [*starts[1:], len(log_probs)]
    for label, start, end in zip(labels.tolist(), starts.tolist(), ends, strict=True):
        if label != NO_PHONE:
            along = log_probs[start:end, label]
            likeliest = int(along.argmax())
            found.append(label)
            frames.append(start + likeliest)
            confidences.append(float(along[likeliest].exp()))
    return Path(tuple(found), score, tuple(frames), tuple(confidences))


def without_times(batch: Batch) -> list[str]:
    """The utterances whose phones have no times."""
    if batch.target_starts is None or batch.target_ends is None:
        return list(batch.ids)
    unknown = (batch.target_starts < 0).any(dim=1).tolist()
    return [id for id, missing in zip(batch.ids, unknown, strict=True) if missing]


def require_times(without: Sequence[str]) -> None:
    """Raise `DataError` where there are utterances without times."""
    if without:
        named = ", ".join(without[:5]) + (", …" if len(without) > 5 else "")
        raise DataError(
            f"{len(without)} utterances have no times of their phones ({named}), which this "
            f"criterion learns from; make them with `asr align`"
        )
