"""What every recurrent cell has: the weights of one direction, and one step in time."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


@dataclass(frozen=True)
class Trace:
    """What one direction of one layer did; time runs forwards for the backward direction too.

    hidden (N, T, H, or the projection's width) is the output, cell (N, T, H) the cell state, None
    for cells without one; gates are (N, T, H) by name. Behind an utterance's end all are zero.
    """

    hidden: Tensor
    cell: Tensor | None
    gates: dict[str, Tensor]


class State(NamedTuple):
    """What a cell hands on to its next step: hidden (N, H), and cell (N, H) where it has one."""

    hidden: Tensor
    cell: Tensor | None = None


class Cell(nn.Module):
    """One direction of one layer: W x_t + b in `inputs`, U h_{t−1} in `recurrent`.

    The rows of W, U and b are blocks of H, one for each name in `blocks`. There is one bias for
    each row, as papers count them, where torch has two.
    """

    blocks: ClassVar[tuple[str, ...]]
    kernel: ClassVar[str]  # the compiled form of `step`, in asr.lstm.kernels
    has_cell_state: ClassVar[bool] = True

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
        """Step after step from the first frame to the last: (N, T, D) → Trace."""
        state = self.start(len(frames))
        states, gates = [], []
        for frame in frames.unbind(1):
            state, opened = self.step(frame, state)
            states.append(state)
            gates.append(opened)
        cells = [state.cell for state in states if state.cell is not None]
        return Trace(
            torch.stack([state.hidden for state in states], 1),
            torch.stack(cells, 1) if cells else None,
            {name: torch.stack([opened[name] for opened in gates], 1) for name in gates[0]},
        )

    def recurrent_matrix(self) -> Tensor:
        """U, or what stands for it where the step's result is not what goes back: (rows, H)."""
        return self.recurrent.weight

    def vectors(self) -> Tensor:
        """Weights that a step applies element by element: (any number, H)."""
        return self.recurrent.weight.new_empty(0, self.hidden)

    def output(self, hidden: Tensor) -> Tensor:
        """From what the recurrence hands on to what the layer shows: (…, H) → (…, output size)."""
        return hidden


class TorchCell(Cell):
    """A cell that torch computes as a whole, on a GPU by cuDNN."""

    def fused(self, frames: Tensor) -> Tensor:
        """The outputs of `unroll`: (N, T, D) → (N, T, output size)."""
        raise NotImplementedError

    def torch_weights(self) -> list[Tensor]:
        """As torch orders them; its second bias adds nothing, and is zero."""
        bias = self.inputs.bias
        return [self.inputs.weight, self.recurrent.weight, bias, torch.zeros_like(bias)]


class Arrays(NamedTuple):
    """What the compiled steps of one direction work on.

    `[step + 1]` of `hidden` and `memory` belongs to the step, `[step]` to the one before it.
    """

    rows: Any  # (T, N, R): W x_t + b, which the forward step replaces by the gates
    hidden: Any  # (T+1, N, H): h_t
    memory: Any  # (T+1, N, M): what else the next step or the gradient needs
    vectors: Any  # (K, H): weights that are applied element by element


class Gradients(NamedTuple):
    """What the backward steps work on; all but `hidden` is theirs to write."""

    hidden: Any  # (T, N, H): of h_t, from outside the recurrence
    carried: Any  # (N, H): from the step after, past the product with U
    rows: Any  # (T, N, R): of W x_t + b
    product: Any  # (T, N, R): of U h_{t−1}; the same memory as `rows` where the two are equal
    vectors: Any  # (N, K, H): of the weights, for each utterance


@dataclass(frozen=True)
class Kernel:
    """The compiled form of a step, forwards and backwards.

    forward(step, product, arrays): `product` (N, R) is U h_{t−1}. backward(step, later, arrays,
    gradients): `later` (N, H) is the gradient of h_t through the product of the step after it.
    """

    forward: Callable[..., None]
    backward: Callable[..., None]
    memory: Callable[[int], int]  # M for H
    scales_product: bool = False  # so that the gradients of the product and the rows differ
    view: Callable[[Tensor], Any] = Tensor.numpy  # of a tensor, for the two above


class Inputs(nn.Linear):
    """W x + b of one frame, or of all frames of a batch at once."""

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


class Affine(torch.autograd.Function):
    """x Wᵀ + b with `linear`, forwards and backwards: (…, K), (R, K), (R,) → (…, R)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dtype = factor_dtype(x)
        return linear(x, weight.to(ctx.dtype), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        d_rows = d_out.flatten(0, -2)
        return (
            linear(d_out, weight.t().to(ctx.dtype)) if wants_x else None,
            outer(d_rows.to(ctx.dtype), x.flatten(0, -2)) if wants_weight else None,
            d_rows.sum(0) if wants_bias else None,
        )


affine: Callable[[Tensor, Tensor, Tensor | None], Tensor] = Affine.apply


def factor_dtype(x: Tensor) -> torch.dtype:
    """The type of both factors of a product with x: inside `torch.autocast` the one it asks for."""
    device = x.device.type
    if x.dtype == torch.float32 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return x.dtype


@cache
def onednn_multiplies(dtype: torch.dtype) -> bool:
    """Whether oneDNN, called by torch's private operators, has products of `dtype` here.

    The operators are there for torch's compiler and promise nothing: builds without oneDNN lack
    them, and they refuse bfloat16 on processors that do not compute in it. So the first call for a
    type tries one small product.
    """
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    x = torch.tensor([[0, 1, 2], [3, 4, 5]], dtype=dtype, device="cpu")
    try:
        product = _by_onednn(x, _packed(x, count=2), bias=x[:, 0])
    except (AttributeError, RuntimeError):
        return False
    return bool(product.tolist() == [[5, 17], [14, 53]])


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is not None:
        bias = bias.contiguous()  # the operator takes it for that, whatever it is
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _packed(weight: Tensor, count: int) -> Tensor:
    ordered: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, count)
    return ordered


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`, but by oneDNN where it can: torch's MKL does without AVX-512 on AMD.

    A weight of fewer bits takes the bits of x too; the sum has its own again.
    """
    if weight.dtype != x.dtype:
        product = _linear(x.to(weight.dtype), weight, None).to(x.dtype)
        return product if bias is None else product.add_(bias)
    return _linear(x, weight, bias)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if x.is_cpu and x.numel() and onednn_multiplies(x.dtype):
        return _by_onednn(x, weight, bias)
    return F.linear(x, weight, bias)


def outer(left: Tensor, right: Tensor) -> Tensor:
    """The outer products of rows, summed: (M, L), (M, K) → (L, K), with as many bits as `left`."""
    return linear(right.t(), left.contiguous().t()).t()  # oneDNN is very slow where rows have gaps


def packed(weight: Tensor, count: int) -> Tensor:
    """The weight in the order in which `linear` likes it best for `count` rows of x, repeatedly."""
    return _packed(weight, count) if weight.is_cpu and onednn_multiplies(weight.dtype) else weight
