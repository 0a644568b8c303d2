"""The LSTM family: recurrent stacks in one or both directions, exact for padded batches.

`cells` has the equations; every cell has a readable form, which also shows its gates (`trace`), and
a fast one (`forward`).
"""

from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from asr.batch import length_mask, reverse
from asr.lstm.base import Cell, State, TorchCell, Trace, factor_dtype
from asr.lstm.cells import (
    GRU,
    LSTM,
    LSTM1997,
    Elman,
    LayerNormLSTM,
    LiGRU,
    PeepholeLSTM,
    ProjectedLSTM,
)
from asr.lstm.fast import recurrence

__all__ = ["CELLS", "Cell", "RecurrentLayer", "RecurrentStack", "State", "TorchCell", "Trace"]

CELLS: dict[str, type[Cell]] = {
    "tanh": Elman,
    "gru": GRU,
    "lstm": LSTM,
    "peephole": PeepholeLSTM,
    "lstm1997": LSTM1997,
    "projected": ProjectedLSTM,
    "layernorm": LayerNormLSTM,
    "ligru": LiGRU,
}

SMALL = 2000  # utterances × cells of an LSTM below which torch trains it faster on a CPU


class RecurrentLayer(nn.Module):
    """One layer, in one direction or both.

    The backward direction runs over each utterance reversed within its own length, so that it never
    runs through padding: the result of an utterance does not depend on its batch mates, as with
    `pack_padded_sequence`, whose CPU path is several times slower.
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
        """The forward direction, and the backward one where there is one."""
        return [cell for cell in self.directions if isinstance(cell, Cell)]

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(N, T, D), (N,) → (N, T, output size), zero behind each utterance's end."""
        hidden = fast(self.cells, self._sequences(frames, lengths))
        ordered = [reverse(h, lengths) if backward else h for backward, h in enumerate(hidden)]
        return without_padding(torch.cat(ordered, 2), lengths)

    def trace(self, frames: Tensor, lengths: Tensor) -> list[Trace]:
        """What each direction did, from the readable form: differentiable, but slow."""
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
        """The frames in the order in which each direction sees them, without what is padding."""
        frames = without_padding(frames, lengths)
        return [frames, *(reverse(frames, lengths) for _ in self.cells[1:])]


def without_padding(values: Tensor, lengths: Tensor) -> Tensor:
    """Zero behind each utterance's end: not even NaN there has a gradient."""
    return values.masked_fill(~length_mask(lengths, values.shape[1]).unsqueeze(2), 0.0)


def fast(cells: Sequence[Cell], sequences: Sequence[Tensor]) -> list[Tensor]:
    """`cell.unroll(frames).hidden` for each cell and its frames, in the fastest way there is."""
    frames = sequences[0]
    known = [cell for cell in cells if isinstance(cell, TorchCell)]
    if frames.is_cpu and frames.dtype in (torch.float32, torch.float64):
        small = not torch.is_grad_enabled() or len(frames) * cells[0].hidden < SMALL
        small = small and factor_dtype(frames) == frames.dtype
        if not (small and type(cells[0]) is LSTM):
            from asr.lstm.fast.kernels import KERNELS  # numba takes half a second to come

            return recurrence.unroll(KERNELS[cells[0].kernel], cells, sequences)
    elif frames.is_cpu:
        known = []
    if known:
        return [cell.fused(frames) for cell, frames in zip(known, sequences, strict=True)]
    if frames.is_cuda and cells[0].kernel == "lstm" and find_spec("triton"):
        from asr.lstm.fast import gpu

        return recurrence.unroll(gpu.LSTM, cells, sequences)
    return [cell.unroll(frames).hidden for cell, frames in zip(cells, sequences, strict=True)]


class RecurrentStack(nn.Module):
    """Layers one above the other, with dropout below all but the first; no layers: the identity."""

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
        """What every layer and direction did, from the readable form: layers × directions."""
        traces: list[list[Trace]] = []
        for layer in self.layers:
            assert isinstance(layer, RecurrentLayer)
            if traces:
                frames = self.dropout(torch.cat([trace.hidden for trace in traces[-1]], 2))
            traces.append(layer.trace(frames, lengths))
        return traces
