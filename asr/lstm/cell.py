"""The interface of a recurrent cell: its weights in one direction, its state, one step in time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.lstm.fast.products import affine, factor_dtype


@dataclass(frozen=True)
class Trace:
    """Outputs, states and gates of one direction of one layer.

    Time runs forwards, for the backward direction too. hidden (N, T, H, or the projection's width)
    is the output, cell (N, T, H) the cell state, None for cells without one; gates are (N, T, H) by
    name. Behind an utterance's end all are zero.
    """

    hidden: Tensor
    cell: Tensor | None
    gates: dict[str, Tensor]


class State(NamedTuple):
    """The state after a step: hidden (N, H), and cell (N, H) for cells that have one."""

    hidden: Tensor
    cell: Tensor | None = None


class Cell(nn.Module):
    """One direction of one layer: W x_t + b in `inputs`, U h_{t−1} in `recurrent`.

    The rows of W, U and b are blocks of H, one for each name in `blocks`. There is one bias for
    each row, as papers count them; torch has two. A cell defines `blocks` and `step`; a cell with a
    compiled form also names its `kernel` and, where they differ, the methods from
    `recurrent_matrix` on.
    """

    blocks: ClassVar[tuple[str, ...]]
    kernel: ClassVar[str] = ""  # in asr.lstm.fast.kernels.KERNELS; "": the readable form runs
    has_cell_state: ClassVar[bool] = True

    def __init_subclass__(cls) -> None:
        if "step" in vars(cls) and "kernel" not in vars(cls):
            cls.kernel = ""  # that of a base computes the base's step

    def __init__(self, input_size: int, hidden: int, projection: int = 0) -> None:
        super().__init__()
        self.hidden = hidden
        self.output_size = projection or hidden
        rows = len(self.blocks) * hidden
        self.inputs = Inputs(input_size, rows)
        self.recurrent = nn.Linear(self.output_size, rows, bias=False)

    def initialize(self, forget_bias: float) -> None:
        """Weights uniform in ±1/√H as in torch, gains 1, shifts 0.

        `forget_bias` is added to the bias of the forget gate, where there is one.
        """
        for name, parameter in self.named_parameters():
            if name.endswith("gain"):
                nn.init.ones_(parameter)
            elif name.endswith("shift"):
                nn.init.zeros_(parameter)
            else:
                nn.init.uniform_(parameter, -(self.hidden**-0.5), self.hidden**-0.5)
        if "forget" in self.blocks:
            with torch.no_grad():
                self.inputs.bias.view(-1, self.hidden)[self.blocks.index("forget")] += forget_bias

    def start(self, count: int) -> State:
        """The state of `count` utterances before their first frame: zeros."""
        weight = self.recurrent.weight
        cell = weight.new_zeros(count, self.hidden) if self.has_cell_state else None
        return State(weight.new_zeros(count, self.output_size), cell)

    def step(self, frame: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        """The equations of one time step: (N, D), state → next state, gates (N, H) by name."""
        raise NotImplementedError

    def unroll(self, frames: Tensor) -> Trace:
        """The readable form, step after step: (N, T, D) → Trace."""
        steps = frames.shape[1]
        state = self.start(len(frames))
        states, gates = [], []
        # Without frames one is added, and cut off again: it gives the gates' names and gradients.
        for frame in (frames if steps else F.pad(frames, (0, 0, 0, 1))).unbind(1):
            state, opened = self.step(frame, state)
            states.append(state)
            gates.append(opened)

        def over_time(values: list[Tensor]) -> Tensor:
            return torch.stack(values, 1)[:, :steps]

        cells = [state.cell for state in states if state.cell is not None]
        return Trace(
            over_time([state.hidden for state in states]),
            over_time(cells) if cells else None,
            {name: over_time([opened[name] for opened in gates]) for name in gates[0]},
        )

    def recurrent_matrix(self) -> Tensor:
        """The factor of the kernel's h_{t−1}, which is U, or U times a projection: (rows, H)."""
        return self.recurrent.weight

    def vectors(self) -> Tensor:
        """Weights that the kernel applies element by element: (any number, H)."""
        return self.recurrent.weight.new_empty(0, self.hidden)

    def output(self, hidden: Tensor) -> Tensor:
        """The output for what the kernel computes: (…, H) → (…, output size)."""
        return hidden


class TorchCell(Cell):
    """A cell that torch has too, on a GPU by cuDNN."""

    by_torch: ClassVar[Callable[..., tuple[Tensor, ...]]]

    def fused(self, frames: Tensor) -> Tensor:
        """`unroll(frames).hidden` by torch: (N, T, D) → (N, T, output size).

        Inside of `torch.autocast` all of it has the reduced type, and the result that of `frames`.
        """
        dtype = factor_dtype(frames)
        sizes = (self.output_size, self.hidden) if self.has_cell_state else (self.output_size,)
        zeros = [frames.new_zeros(1, len(frames), size, dtype=dtype) for size in sizes]
        start = zeros if self.has_cell_state else zeros[0]
        options = True, 1, 0.0, self.training, False, True
        weights = [weight.to(dtype) for weight in self.torch_weights()]
        with torch.autocast(frames.device.type, enabled=False):  # torch would take float16
            return self.by_torch(frames.to(dtype), start, weights, *options)[0].to(frames.dtype)

    def torch_weights(self) -> list[Tensor]:
        """In torch's order; its second bias is zero."""
        bias = self.inputs.bias
        return [self.inputs.weight, self.recurrent.weight, bias, torch.zeros_like(bias)]


class Inputs(nn.Linear):
    """W x + b for one frame, or for all frames of a batch: (…, D) → (…, rows)."""

    def forward(self, frames: Tensor) -> Tensor:
        return affine(frames, self.weight, self.bias)


class NormalizedInputs(Inputs):
    """LN(W x; gain) + b, with mean 0 and variance 1 over the rows of a frame before the gain."""

    def __init__(self, input_size: int, rows: int) -> None:
        super().__init__(input_size, rows)
        self.gain = nn.Parameter(torch.empty(rows))

    def forward(self, frames: Tensor) -> Tensor:
        projected = affine(frames, self.weight, None)
        return F.layer_norm(projected, (self.out_features,), self.gain, self.bias)
