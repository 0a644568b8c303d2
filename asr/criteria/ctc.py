"""Connectionist temporal classification (Graves et al. 2006) with greedy search.

Not here: prefix beam search and language models.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr.batch import Batch
from asr.criteria.base import Criterion, CriterionConfig, Path, SearchConfig
from asr.records import DataError

BLANK = 0


@dataclass(frozen=True)
class CTCConfig(CriterionConfig):
    name: str = "ctc"


class CTC(Criterion):
    """A linear layer to V labels, blank = 0, summed over all alignments."""

    def __init__(self, config: CTCConfig, input_size: int, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Linear(input_size, vocabulary_size)

    def log_probs(self, encoded: Tensor) -> Tensor:
        """(N, T', D) → (N, T', V), normalised over V."""
        return self.head(encoded).log_softmax(dim=2)  # type: ignore[no-any-return]

    def loss(self, encoded: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        require_alignable(lengths, batch)
        return nn.functional.ctc_loss(
            self.log_probs(encoded).transpose(0, 1),
            batch.targets,
            lengths,
            batch.target_lengths,
            blank=BLANK,
            reduction="none",
        )

    def decode(self, encoded: Tensor, lengths: Tensor, search: SearchConfig) -> list[list[Path]]:
        log_probs = self.log_probs(encoded).detach()
        penalised = log_probs.clone()
        penalised[:, :, BLANK] -= search.blank_penalty
        best = penalised.argmax(dim=2)
        scores = log_probs.gather(2, best.unsqueeze(2)).squeeze(2)
        utterances = zip(best.cpu(), scores.cpu(), lengths.tolist(), strict=True)
        return [
            [Path(collapse(labels[:length]), float(score[:length].sum()))]
            for labels, score, length in utterances
        ]


def collapse(alignment: Tensor) -> tuple[int, ...]:
    """Labels of an alignment: repeats joined, then blanks removed, (T',) → (U,)."""
    joined = torch.unique_consecutive(alignment)
    return tuple(joined[joined != BLANK].tolist())


def require_alignable(lengths: Tensor, batch: Batch) -> None:
    """Raise `DataError` for utterances with fewer frames than CTC needs, T' ≥ U + repeats.

    Their loss would be infinite, or zero and so silently ignored.
    """
    repeats = (batch.targets[:, 1:] == batch.targets[:, :-1]) & (batch.targets[:, 1:] != BLANK)
    needed = batch.target_lengths + repeats.sum(dim=1)
    short = (lengths < needed).nonzero().flatten().tolist()
    if short:
        named = ", ".join(
            f"{batch.ids[n]} (needs {int(needed[n])} frames, has {int(lengths[n])})" for n in short
        )
        raise DataError(f"too short for CTC after subsampling: {named}; lower encoder.subsampling")
