"""The recurrent stack: LSTM layers in one or both directions, exact for padded batches."""

import torch
from torch import Tensor, nn

from asr.batch import reverse


class LSTMLayer(nn.Module):
    """One LSTM layer (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000).

    The backward direction is a second LSTM over each utterance reversed within its own length, so
    that it never runs through padding: the result of an utterance does not depend on its batch
    mates, as with `pack_padded_sequence`, whose CPU path is several times slower.
    """

    def __init__(self, input_size: int, hidden: int, bidirectional: bool) -> None:
        super().__init__()
        self.forwards = nn.LSTM(input_size, hidden, batch_first=True)
        self.backwards = nn.LSTM(input_size, hidden, batch_first=True) if bidirectional else None

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(N, T, D), (N,) → (N, T, hidden × directions)."""
        ahead: Tensor = self.forwards(frames)[0]
        if self.backwards is None:
            return ahead
        behind, _ = self.backwards(reverse(frames, lengths))
        return torch.cat([ahead, reverse(behind, lengths)], dim=2)


class LSTMStack(nn.Module):
    """LSTM layers one above the other, with dropout below all but the first."""

    def __init__(
        self, input_size: int, hidden: int, layers: int, bidirectional: bool, dropout: float
    ) -> None:
        super().__init__()
        self.output_size = hidden * (2 if bidirectional else 1)
        sizes = [input_size] + [self.output_size] * (layers - 1)
        self.layers = nn.ModuleList(LSTMLayer(size, hidden, bidirectional) for size in sizes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(N, T, D), (N,) → (N, T, hidden × directions)."""
        for depth, layer in enumerate(self.layers):
            frames = layer(self.dropout(frames) if depth else frames, lengths)
        return frames
