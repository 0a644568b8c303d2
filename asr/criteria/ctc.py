"""Connectionist temporal classification (Graves et al. 2006): loss, greedy and beam search."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torchaudio.functional import forced_align

from asr.batch import Batch, length_mask
from asr.criteria.base import Criterion, CriterionConfig, Path, SearchConfig, Span
from asr.errors import DataError
from asr.knobs import knob
from asr.search import prefix_beam
from asr.search.language_model import Graph, no_language_model

BLANK = 0
ALIGNMENT_PENALTY = 4.0  # nats taken from the blank where phones are known; see docs/alignment.md


@dataclass(frozen=True)
class CTCConfig(CriterionConfig):
    name: str = "ctc"
    consistency: float = knob(
        0.0, "weight of the difference between two augmented copies of an utterance", at_least=0
    )


class CTC(Criterion):
    """A linear layer to V labels, blank = 0, summed over all alignments.

    With `consistency` each utterance comes twice, with masks and dropout of its own, and each copy
    also learns the other's distribution over labels (CR-CTC, Yao et al. 2024).
    """

    def __init__(self, config: CTCConfig, input_size: int, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Linear(input_size, vocabulary_size)

    @property
    def copies(self) -> int:
        return 2 if self.config.consistency else 1

    def log_probs(self, encoded: Tensor) -> Tensor:
        """(N, T', D) → (N, T', V), normalised over V."""
        return self.head(encoded).log_softmax(dim=2)  # type: ignore[no-any-return]

    def begin_with(self, other: Criterion, labels: Sequence[int | None]) -> None:
        """Labels with one counterpart share its probability; those without begin as the mean."""
        if not isinstance(other, CTC):
            return
        shares = Counter(labels)
        mixture = torch.zeros(len(labels), other.head.out_features)
        for row, label in zip(mixture, labels, strict=True):
            if label is None:
                row[1:] = 1 / len(row[1:])
            else:
                row[label] = 1
        with torch.no_grad():
            self.head.weight.copy_(mixture @ other.head.weight)
            share = torch.tensor([shares[label] for label in labels]).log()
            self.head.bias.copy_(mixture @ other.head.bias - share)

    def loss(self, encoded: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        require_alignable(lengths, batch, self.head.out_features)
        log_probs = self.log_probs(encoded)
        losses = nn.functional.ctc_loss(
            log_probs.transpose(0, 1),
            batch.targets,
            lengths,
            batch.target_lengths,
            blank=BLANK,
            reduction="none",
        )
        if batch.copies == 1:
            return losses
        return losses + self.config.consistency * divergence(log_probs, lengths)

    def emissions(self, encoded: Tensor) -> Tensor:
        return self.log_probs(encoded)

    def search(
        self,
        emissions: Tensor,
        lengths: Tensor,
        search: SearchConfig,
        language_model: Graph | None = None,
    ) -> list[list[Path]]:
        """`emissions` are log-probabilities (N, T', V). Torch's threads share the utterances."""
        log_probs = emissions.detach().float().cpu()
        if log_probs.isnan().any():
            raise DataError("the network's log-probabilities are not numbers; was it trained?")
        log_probs = penalised(log_probs, search.blank_penalty)
        if search.beam == 1:
            return greedy(log_probs, lengths)
        utterances = [one[:length] for one, length in zip(log_probs, lengths.tolist(), strict=True)]
        graph = language_model or no_language_model(self.head.out_features)
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            return list(threads.map(lambda one: beam_search(one, search, graph), utterances))

    def align(
        self, encoded: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> list[list[Span]]:
        """The best alignment, where each blank costs `ALIGNMENT_PENALTY`, so that labels last."""
        self.require_frames(lengths, targets, target_lengths)
        log_probs = self.log_probs(encoded).detach().float().cpu()
        found = []
        for frames, length, labels, count in zip(
            log_probs, lengths.tolist(), targets.cpu(), target_lengths.tolist(), strict=True
        ):
            alignment = align(penalised(frames[:length], ALIGNMENT_PENALTY), labels[:count])
            found.append(spans_of(alignment, frames[:length]))
        return found

    def frames_needed(self, targets: Tensor, target_lengths: Tensor) -> Tensor:
        return frames_needed(targets, target_lengths)

    def tunable(self, search: SearchConfig) -> tuple[str, ...]:
        if search.beam == 1:
            return ("blank_penalty",)
        lm_weight = ("lm_weight",) if search.language_model else ()
        return (*lm_weight, "bonus", "blank_penalty")


def divergence(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """Of two copies of N/2 utterances, in nats from the other copy's labels, its gradient stopped.

    KL(other ‖ this), summed over the frames: (N, T, V), (N,) → (N,).
    """
    first, second = log_probs.chunk(2)
    other = torch.cat([second, first]).detach()
    by_frame = (other.exp() * (other - log_probs)).sum(dim=2)
    return (by_frame * length_mask(lengths, by_frame.shape[1])).sum(dim=1)


def greedy(log_probs: Tensor, lengths: Tensor) -> list[list[Path]]:
    """The labels of the best alignment of each utterance: (N, T, V), (N,) → N × 1."""
    best = log_probs.max(dim=2)
    return [
        [path_of(alignment[:length], along[:length], float(along[:length].sum()))]
        for alignment, along, length in zip(
            best.indices, best.values, lengths.tolist(), strict=True
        )
    ]


def beam_search(log_probs: Tensor, search: SearchConfig, graph: Graph) -> list[Path]:
    """The best label sequences that prefix beam search finds, (T, V)."""
    labels, lengths, scores = prefix_beam.search(
        log_probs.numpy(),
        graph,
        search.lm_weight,
        search.bonus,
        search.beam,
        search.threshold,
        search.n_best,
    )
    paths = []
    for found, length, score in zip(labels, lengths, scores, strict=True):
        alignment = align(log_probs, torch.from_numpy(found[:length]))
        along = log_probs.gather(1, alignment.unsqueeze(1)).squeeze(1)
        paths.append(path_of(alignment, along, float(score)))
    return paths


def penalised(log_probs: Tensor, blank_penalty: float) -> Tensor:
    """Log-probabilities with the blank's lowered in each frame, (…, V)."""
    if blank_penalty == 0:
        return log_probs
    log_probs = log_probs.clone()
    log_probs[..., BLANK] -= blank_penalty
    return log_probs


def align(log_probs: Tensor, labels: Tensor) -> Tensor:
    """The best alignment of labels (U,) with frames, (T, V) → (T,)."""
    if len(labels) == 0:
        return torch.full((len(log_probs),), BLANK)
    alignment, _ = forced_align(log_probs.unsqueeze(0), labels.unsqueeze(0), blank=BLANK)
    return alignment[0].long()  # type: ignore[no-any-return]


def spans_of(alignment: Tensor, log_probs: Tensor) -> list[Span]:
    """The runs of labels in an alignment (T,), with probabilities from (T, V)."""
    probs = log_probs.gather(1, alignment.unsqueeze(1)).squeeze(1).exp()
    joined, sizes = torch.unique_consecutive(alignment, return_counts=True)
    ends = sizes.cumsum(0)
    return [
        Span(end - size, end, float(probs[end - size : end].mean()))
        for label, size, end in zip(joined.tolist(), sizes.tolist(), ends.tolist(), strict=True)
        if label != BLANK
    ]


def path_of(alignment: Tensor, along: Tensor, score: float) -> Path:
    """The path of an alignment (T,) with log-probabilities `along` it, (T,)."""
    joined, run, sizes = (
        found.numpy()
        for found in torch.unique_consecutive(alignment, return_inverse=True, return_counts=True)
    )
    is_label = joined != BLANK
    likeliest = np.lexsort((-along.numpy(), run))[np.cumsum(sizes) - sizes]  # frame of each run
    frames = likeliest[is_label]
    return Path(
        tuple(joined[is_label].tolist()),
        score,
        tuple(frames.tolist()),
        tuple(along[frames].exp().tolist()),
    )


def frames_needed(targets: Tensor, target_lengths: Tensor) -> Tensor:
    """U + repeats, between which there must be a blank, and at least one: (N, U), (N,) → (N,)."""
    real = length_mask(target_lengths, targets.shape[1])
    repeats = (targets[:, 1:] == targets[:, :-1]) & real[:, 1:]
    return (target_lengths + repeats.sum(dim=1)).clamp(min=1)


def require_alignable(lengths: Tensor, batch: Batch, vocabulary_size: int) -> None:
    """Raise `DataError` that names every utterance whose loss would mean nothing.

    Targets must be labels 1…V-1, and CTC needs T' ≥ U + repeats frames, at least one: otherwise the
    loss would be infinite, or zero and so silently ignored.
    """
    real = length_mask(batch.target_lengths, batch.targets.shape[1])
    foreign = ((batch.targets <= BLANK) | (batch.targets >= vocabulary_size)) & real
    needed = frames_needed(batch.targets, batch.target_lengths)
    short = lengths < needed
    if not (foreign.any() | short.any()):
        return
    if foreign.any():
        n, u = foreign.nonzero()[0].tolist()
        raise DataError(
            f"{batch.ids[n]}: label {int(batch.targets[n, u])} in the targets, expected "
            f"1…{vocabulary_size - 1} (0 is CTC's blank); was the vocabulary changed?"
        )
    named = ", ".join(
        f"{batch.ids[n]} (needs {int(needed[n])} frames, has {int(lengths[n])})"
        for n in short.nonzero().flatten().tolist()
    )
    raise DataError(f"too short for CTC after subsampling: {named}; lower encoder.subsampling")
