"""The choice between the forms of a cell: compiled, torch's, readable."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TypeGuard

import torch
from torch import Tensor

from asr.lstm.cell import Cell, TorchCell
from asr.lstm.cells import LSTM
from asr.lstm.fast import recurrence
from asr.lstm.fast.kernels import KERNELS, Kernel
from asr.lstm.fast.products import factor_dtype

COMPILED = (torch.float32, torch.float64)  # on a CPU; other types take the readable form
SMALL = 2000  # utterances × cells of an LSTM below which torch trains it faster on a CPU


def unroll(cells: Sequence[Cell], sequences: Sequence[Tensor]) -> list[Tensor]:
    """`cell.unroll(frames).hidden` for each cell and its frames, in the fastest form there is."""
    cell, frames = cells[0], sequences[0]
    if kernel := kernel_of(cell, frames):
        return recurrence.unroll(kernel, cells, sequences)
    by_torch = not frames.is_cpu or frames.dtype in COMPILED
    return [
        one.fused(each) if by_torch and is_torchs(one) else one.unroll(each).hidden
        for one, each in zip(cells, sequences, strict=True)
    ]


def is_torchs(cell: Cell) -> TypeGuard[TorchCell]:
    """Whether torch computes the same; not where a derived class replaces the step."""
    return isinstance(cell, TorchCell) and cell.kernel != ""


def kernel_of(cell: Cell, frames: Tensor) -> Kernel | None:
    """The compiled steps of a cell, where there are any and torch is not faster."""
    if frames.is_cpu and frames.dtype in COMPILED:
        small = not torch.is_grad_enabled() or len(frames) * cell.hidden < SMALL
        by_torch = type(cell) is LSTM and small and factor_dtype(frames) == frames.dtype
        return KERNELS[cell.kernel] if cell.kernel and not by_torch else None
    if is_torchs(cell) or not (frames.is_cuda and find_spec("triton")):
        return None
    from asr.lstm.fast import gpu  # imports triton

    return gpu.LSTM if cell.kernel == "lstm" else None
