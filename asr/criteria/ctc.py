"""Connectionist temporal classification (Graves et al. 2006): loss, greedy and beam search."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torchaudio.functional import forced_align

from asr.batch import Batch, length_mask
from asr.criteria.base import Criterion, CriterionConfig, Path, Span
from asr.knobs import knob
from asr.search import SearchConfig, prefix_beam
from asr.search.graph import Graph, no_language_model
from asr.search.word_model import WordGraph

BLANK = 0
ALIGNMENT_PENALTY = 4.0  # nats subtracted from the blank in `align`; see docs/alignment.md


@dataclass(frozen=True)
class CTCConfig(CriterionConfig):
    name: str = "ctc"
    consistency: float = knob(
        0.0, "weight of the difference between two augmented copies of an utterance", at_least=0
    )


class CTC(Criterion):
    """A linear layer to V labels, blank = 0; the loss sums over all alignments of the targets.

    With `consistency` a training batch has each utterance twice, with masks and dropout of its own,
    and each copy also learns the other's distribution over labels (CR-CTC, Yao et al. 2024).
    """

    def __init__(self, config: CTCConfig, input_size: int, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Linear(input_size, vocabulary_size)

    def begin_with(self, other: Criterion, labels: Sequence[int | None]) -> None:
        """Labels with the same counterpart share its probability.

        A label without a counterpart begins as the mean of all labels but the blank.
        """
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
        """As in `Criterion`; `DataError` where an utterance has too few frames for its targets.

        Otherwise its loss would be infinite, or zero and silently ignored.
        """
        self.require_labels(batch, self.head.out_features)
        needed = self.frames_needed(batch.targets, batch.target_lengths)
        self.require_frames(lengths, needed, batch.ids)
        log_probs = self.emissions(encoded)
        losses = nn.functional.ctc_loss(
            log_probs.transpose(0, 1), batch.targets, lengths, batch.target_lengths, BLANK, "none"
        )
        half = len(batch.ids) // 2
        if self.config.consistency and batch.ids[:half] == batch.ids[half:]:
            losses = losses + self.config.consistency * divergence(log_probs, lengths)
        return losses

    def emissions(self, encoded: Tensor) -> Tensor:
        """Log-probabilities of the labels: (N, T', D) → (N, T', V)."""
        return self.head(encoded).log_softmax(dim=2)  # type: ignore[no-any-return]

    def search(
        self, emissions: Tensor, lengths: Tensor, search: SearchConfig, graph: Graph | None = None
    ) -> list[list[Path]]:
        """`emissions` are log-probabilities, (N, T', V); torch's threads share the utterances."""
        self.require_numbers(emissions)
        log_probs = penalised(emissions.detach().float().cpu(), search.blank_penalty)
        utterances = [one[:length] for one, length in zip(log_probs, lengths.tolist(), strict=True)]
        if search.beam == 1:
            return [[greedy(one)] for one in utterances]
        graph = graph or no_language_model(self.head.out_features)
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            return list(threads.map(lambda one: beam_search(one, search, graph), utterances))

    def align(
        self, encoded: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> list[list[Span]]:
        """By the best alignment; each blank costs `ALIGNMENT_PENALTY`, which lengthens labels."""
        self.require_frames(lengths, self.frames_needed(targets, target_lengths))
        log_probs = penalised(self.emissions(encoded).detach().float().cpu(), ALIGNMENT_PENALTY)
        counts = zip(lengths.tolist(), target_lengths.tolist(), strict=True)
        return [
            spans_of(*align(log_probs[n, :frames], targets[n, :labels].cpu()))
            for n, (frames, labels) in enumerate(counts)
        ]

    def frames_needed(self, targets: Tensor, target_lengths: Tensor) -> Tensor:
        """U + repeats, which need a blank between them, and at least one."""
        real = length_mask(target_lengths, targets.shape[1])
        repeats = (targets[:, 1:] == targets[:, :-1]) & real[:, 1:]
        return (target_lengths + repeats.sum(dim=1)).clamp(min=1)

    def tunable(self, search: SearchConfig) -> tuple[str, ...]:
        keys = super().tunable(search)
        return keys if search.beam == 1 else (*keys, "blank_penalty")


def divergence(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """KL(other copy ‖ this copy) in nats, summed over frames: (N, T, V), (N,) → (N,).

    Rows are N/2 utterances, then their copies. No gradient goes to the other copy.
    """
    first, second = log_probs.chunk(2)
    other = torch.cat([second, first]).detach()
    by_frame = (other.exp() * (other - log_probs)).sum(dim=2)
    return (by_frame * length_mask(lengths, by_frame.shape[1])).sum(dim=1)


def greedy(log_probs: Tensor) -> Path:
    """The path of the best alignment: (T, V) → path."""
    along, alignment = log_probs.max(dim=1)
    return path_of(alignment, along, float(along.sum()))


def beam_search(log_probs: Tensor, search: SearchConfig, graph: Graph) -> list[Path]:
    """The n best paths by prefix beam search, or through words: (T, V) → n paths."""
    if isinstance(graph, WordGraph):
        return word_search(log_probs, search, graph)
    options = search.lm_weight, search.bonus, search.beam, search.threshold, search.n_best
    labels, lengths, scores = prefix_beam.search(log_probs.numpy(), graph, *options)
    return [
        path_of(*align(log_probs, torch.from_numpy(row[:length])), float(score))
        for row, length, score in zip(labels, lengths, scores, strict=True)
    ]


def word_search(log_probs: Tensor, search: SearchConfig, graph: WordGraph) -> list[Path]:
    """The n best paths through words, with the pronunciation of each: (T, V) → n paths."""
    return [
        replace(path_of(*align(log_probs, torch.tensor(labels)), score), words=words)
        for labels, words, score in graph.search(log_probs.numpy(), search)
    ]


def penalised(log_probs: Tensor, blank_penalty: float) -> Tensor:
    """Log-probabilities with a penalty on the blank, (…, V)."""
    if blank_penalty == 0:
        return log_probs
    log_probs = log_probs.clone()
    log_probs[..., BLANK] -= blank_penalty
    return log_probs


def align(log_probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The best alignment of labels (U,) and its log-probabilities: (T, V) → (T,), (T,)."""
    if len(labels) == 0:
        return torch.full((len(log_probs),), BLANK), log_probs[:, BLANK]
    alignment, along = forced_align(log_probs.unsqueeze(0), labels.unsqueeze(0), blank=BLANK)
    return alignment[0].long(), along[0]


def spans_of(alignment: Tensor, along: Tensor) -> list[Span]:
    """The spans of the labels in an alignment (T,) with its log-probabilities `along` (T,)."""
    probs = along.exp()
    joined, sizes = torch.unique_consecutive(alignment, return_counts=True)
    ends = sizes.cumsum(0)
    return [
        Span(end - size, end, float(probs[end - size : end].mean()))
        for label, size, end in zip(joined.tolist(), sizes.tolist(), ends.tolist(), strict=True)
        if label != BLANK
    ]


def path_of(alignment: Tensor, along: Tensor, score: float) -> Path:
    """The path of an alignment (T,) with its log-probability in each frame, `along` (T,)."""
    labels, sizes = torch.unique_consecutive(alignment, return_counts=True)
    return path_of_runs(labels, sizes.cumsum(0) - sizes, along, score)


def path_of_runs(labels: Tensor, starts: Tensor, along: Tensor, score: float) -> Path:
    """The path of runs of labels (n,) with first frames (n,) and log-probabilities (T,)."""
    begin = starts.numpy()
    run = np.repeat(np.arange(len(begin)), np.diff(begin, append=len(along)))
    likeliest = np.lexsort((-along.numpy(), run))[begin]  # frame of each run
    is_label = labels != BLANK
    frames = likeliest[is_label.numpy()]
    confidences = tuple(along[frames].exp().tolist())
    return Path(tuple(labels[is_label].tolist()), score, tuple(frames.tolist()), confidences)
