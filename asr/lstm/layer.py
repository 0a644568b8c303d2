"""Recurrent layers and stacks of them, whose results do not depend on padding."""

import torch
from torch import Tensor, nn

from asr.batch import length_mask, reverse
from asr.lstm.cell import Cell, Trace
from asr.lstm.cells import CELLS
from asr.lstm.fast.forms import unroll


class RecurrentLayer(nn.Module):
    """One layer, in one direction or both.

    The backward direction runs over each utterance reversed within its own length, never through
    padding. So an utterance's result does not depend on its batch mates, as with
    `pack_padded_sequence`, which is several times slower on a CPU.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden: int,
        bidirectional: bool,
        projection: int = 0,
        forget_bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.directions = nn.ModuleList(
            CELLS[cell](input_size, hidden, projection) for _ in range(2 if bidirectional else 1)
        )
        for direction in self.cells:
            direction.initialize(forget_bias)
        self.output_size = sum(direction.output_size for direction in self.cells)

    @property
    def cells(self) -> list[Cell]:
        """The forward direction's cell, and the backward direction's if there is one."""
        return [cell for cell in self.directions if isinstance(cell, Cell)]

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(N, T, D), (N,) → (N, T, output size), zero behind each utterance's end."""
        hidden = unroll(self.cells, self._sequences(frames, lengths))
        ordered = [reverse(h, lengths) if backward else h for backward, h in enumerate(hidden)]
        return without_padding(torch.cat(ordered, 2), lengths)

    def trace(self, frames: Tensor, lengths: Tensor) -> list[Trace]:
        """Outputs, states and gates of each direction; differentiable, but slow."""
        traces = []
        for backward, sequence in enumerate(self._sequences(frames, lengths)):
            trace = self.cells[backward].unroll(sequence)

            def ordered(values: Tensor, backward: int = backward) -> Tensor:
                values = reverse(values, lengths) if backward else values
                return without_padding(values, lengths)

            cell = None if trace.cell is None else ordered(trace.cell)
            gates = {name: ordered(gate) for name, gate in trace.gates.items()}
            traces.append(Trace(ordered(trace.hidden), cell, gates))
        return traces

    def _sequences(self, frames: Tensor, lengths: Tensor) -> list[Tensor]:
        """The frames in each direction's order, zero behind each utterance's end."""
        frames = without_padding(frames, lengths)
        return [frames, *(reverse(frames, lengths) for _ in self.cells[1:])]


def without_padding(values: Tensor, lengths: Tensor) -> Tensor:
    """Zeros, without gradient, behind each utterance's end: (N, T, D), (N,) → (N, T, D)."""
    return values.masked_fill(~length_mask(lengths, values.shape[1]).unsqueeze(2), 0.0)


class RecurrentStack(nn.Module):
    """Layers one above the other, with dropout between them; without layers the identity."""

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden: int,
        layers: int,
        bidirectional: bool,
        dropout: float,
        projection: int = 0,
        forget_bias: float = 0.0,
    ) -> None:
        super().__init__()
        width = (projection or hidden) * (2 if bidirectional else 1)
        sizes = [input_size, *[width] * layers]
        self.output_size = sizes[-1]
        self.layers = nn.ModuleList(
            RecurrentLayer(cell, size, hidden, bidirectional, projection, forget_bias)
            for size in sizes[:-1]
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(N, T, D), (N,) → (N, T, output size), zero behind each utterance's end."""
        for depth, layer in enumerate(self.layers):
            frames = layer(self.dropout(frames) if depth else frames, lengths)
        return frames

    def trace(self, frames: Tensor, lengths: Tensor) -> list[list[Trace]]:
        """Outputs, states and gates, step by step (`Cell.unroll`): layers × directions."""
        traces: list[list[Trace]] = []
        for layer in self.layers:
            assert isinstance(layer, RecurrentLayer)
            if traces:
                frames = self.dropout(torch.cat([trace.hidden for trace in traces[-1]], 2))
            traces.append(layer.trace(frames, lengths))
        return traces
