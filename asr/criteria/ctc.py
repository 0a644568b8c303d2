"""Connectionist temporal classification (Graves et al. 2006): loss, greedy and beam search."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from asr.architecture import CTCConfig
from asr.batch import Batch, length_mask
from asr.criteria.base import Criterion
from asr.search import SearchConfig
from asr.search.decoders import CTCDecoder
from asr.search.paths import BLANK


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

    @property
    def decoder(self) -> CTCDecoder:
        return CTCDecoder()

    def emissions(self, encoded: Tensor) -> Tensor:
        """Log-probabilities of the labels: (N, T', D) → (N, T', V)."""
        return self.head(encoded).log_softmax(dim=2)  # type: ignore[no-any-return]

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
