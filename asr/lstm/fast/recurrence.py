"""The fast form of a layer, with its gradient written out by hand.

W x + b is one product for all time steps before the loop over time, and the gradient of U one
product after it. In the loop remain the product with U and one call of a compiled kernel for the
gates. The results are those of `Cell.unroll`.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from asr.lstm.cell import Cell
from asr.lstm.fast.kernels import Arrays, Gradients, Kernel
from asr.lstm.fast.products import factor_dtype, linear, outer, packed

D = TypeVar("D")
R = TypeVar("R")


def unroll(kernel: Kernel, cells: Sequence[Cell], sequences: Sequence[Tensor]) -> list[Tensor]:
    """`cell.unroll(frames).hidden` for each cell and its frames: (N, T, D) → (N, T, output)."""
    operands = []
    for cell, frames in zip(cells, sequences, strict=True):
        rows = cell.inputs(frames.transpose(0, 1).contiguous())
        operands += [rows, cell.recurrent_matrix(), cell.vectors()]
    hidden = Recurrence.apply(kernel, *operands)  # type: ignore[no-untyped-call]
    return [cell.output(h.transpose(0, 1)) for cell, h in zip(cells, hidden, strict=True)]


class Recurrence(torch.autograd.Function):
    """For each direction: rows (T, N, R) = W x_t + b, U (R, H), vectors (K, H) → h (T, N, H).

    The gates overwrite the rows, which must come from an operation whose gradient does not need its
    result.
    """

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, *operands: Tensor) -> tuple[Tensor, ...]:
        directions = [operands[first : first + 3] for first in range(0, len(operands), 3)]
        ctx.kernel, ctx.dtype = kernel, factor_dtype(operands[0])
        work = partial(forward, kernel, ctx.dtype)
        computed = side_by_side(work, directions, operands[0].is_cpu)
        tensors = (tensor for arrays in computed for tensor in arrays)
        ctx.save_for_backward(*tensors, *operands[1::3])
        return tuple(arrays.hidden[1:] for arrays in computed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_hidden: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        directions = [
            (Arrays(*saved[4 * n : 4 * n + 4]), saved[4 * len(d_hidden) + n], d_h.contiguous())
            for n, d_h in enumerate(d_hidden)
        ]
        work = partial(backward, ctx.kernel, ctx.dtype)
        gradients = side_by_side(work, directions, d_hidden[0].is_cpu)
        return None, *(gradient for direction in gradients for gradient in direction)


def forward(kernel: Kernel, dtype: torch.dtype, operands: Sequence[Tensor]) -> Arrays:
    """All steps of one direction, with products of `dtype`."""
    rows, matrix, vectors = operands
    steps, count, _ = rows.shape
    size = matrix.shape[1]
    hidden = rows.new_empty(steps + 1, count, size)
    memory = rows.new_empty(steps + 1, count, kernel.memory(size))
    hidden[0], memory[0] = 0.0, 0.0
    arrays = Arrays(rows, hidden, memory, vectors)
    views = Arrays(*map(kernel.view, arrays))
    ordered = packed(matrix.to(dtype), count)
    for step in range(steps):
        kernel.forward(step, kernel.view(linear(hidden[step], ordered)), views)
    return arrays


def backward(
    kernel: Kernel, dtype: torch.dtype, direction: tuple[Arrays, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the rows, of U and of the vectors of one direction."""
    arrays, matrix, d_hidden = direction
    later = torch.zeros_like(arrays.hidden[0])
    d_rows = torch.empty_like(arrays.rows)
    gradients = Gradients(
        d_hidden,
        torch.zeros_like(later),
        d_rows,
        torch.empty_like(d_rows) if kernel.scales_product else d_rows,
        arrays.vectors.new_zeros(len(later), *arrays.vectors.shape),
    )
    views = Arrays(*map(kernel.view, arrays)), Gradients(*map(kernel.view, gradients))
    ordered = packed(matrix.t().to(dtype), len(later))
    for step in reversed(range(len(d_rows))):
        kernel.backward(step, kernel.view(later), *views)
        later = linear(gradients.product[step], ordered)
    before = arrays.hidden[:-1].flatten(0, 1)
    d_matrix = outer(gradients.product.flatten(0, 1).to(dtype), before)
    return d_rows, d_matrix, gradients.vectors.sum(0)


def side_by_side(work: Callable[[D], R], directions: Sequence[D], on_cpu: bool = True) -> list[R]:
    """The work of both directions at the same time, each on its share of the cores.

    The steps are short. Threads that share one product have to wait for each other after every
    step, which is expensive, above all on a busy machine.
    """
    threads = torch.get_num_threads()
    if len(directions) == 1 or threads == 1 or not on_cpu:
        return [work(direction) for direction in directions]

    def alone(direction: D) -> R:
        torch.set_num_threads(max(1, threads // len(directions)))  # for this thread only
        with torch.no_grad():
            return work(direction)

    try:
        with ThreadPoolExecutor(len(directions)) as pool:
            return list(pool.map(alone, directions))
    finally:
        torch.set_num_threads(threads)  # threads that start later would inherit the share
