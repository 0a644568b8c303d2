"""Feature frames to encoded frames: frame stacking, then the recurrent stack."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr.lstm import CELLS, RecurrentStack, Trace


@dataclass(frozen=True)
class EncoderConfig:
    """Kind and size of the recurrent stack."""

    cell: str = "lstm"  # a name in asr.lstm.CELLS
    hidden: int = 250  # cells in each direction
    layers: int = 3  # 0: the frames themselves, stacked
    bidirectional: bool = True
    projection: int = 0  # width of a direction's output; only of cell=projected, which needs it
    forget_bias: float = 0.0  # added to the initial bias of the forget gate
    dropout: float = 0.0  # between layers, and before the criterion's head
    subsampling: int = 1  # this many frames are stacked into one

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ValueError(f"encoder.cell is {self.cell!r}, expected one of {', '.join(CELLS)}")
        for key, least in (("hidden", 1), ("layers", 0), ("subsampling", 1)):
            if getattr(self, key) < least:
                raise ValueError(
                    f"encoder.{key} is {getattr(self, key)}, expected at least {least}"
                )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"encoder.dropout is {self.dropout}, expected 0 ≤ dropout < 1")
        if self.cell == "projected" and not 1 <= self.projection < self.hidden:
            raise ValueError(
                f"encoder.projection is {self.projection}, expected 1 to {self.hidden - 1}: fewer "
                f"than encoder.hidden"
            )
        if self.cell != "projected" and self.projection:
            raise ValueError(
                f"encoder.projection is {self.projection}, but encoder.cell is {self.cell!r}; only "
                f"projected has a projection"
            )
        if self.forget_bias and "forget" not in CELLS[self.cell].blocks:
            raise ValueError(
                f"encoder.forget_bias is {self.forget_bias}, but encoder.cell is {self.cell!r}, "
                f"which has no forget gate"
            )


class Encoder(nn.Module):
    """A recurrent stack over stacked frames.

    In training its matrix products have the type `product_dtype`; weights, gates and states keep
    theirs.
    """

    product_dtype: torch.dtype = torch.float32

    def __init__(self, config: EncoderConfig, input_size: int) -> None:
        super().__init__()
        self.subsampling = config.subsampling
        sizes = input_size * config.subsampling, config.hidden, config.layers
        shape = *sizes, config.bidirectional, config.dropout, config.projection, config.forget_bias
        self.stack = RecurrentStack(config.cell, *shape)
        self.dropout = nn.Dropout(config.dropout)
        self.output_size = self.stack.output_size

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F), (N,) → (N, T', D), (N,) with T' = ⌈T / subsampling⌉."""
        stacked, lengths = stack_frames(frames, lengths, self.subsampling)
        reduced = self.training and self.product_dtype != torch.float32
        with torch.autocast(stacked.device.type, self.product_dtype, enabled=reduced):
            encoded = self.stack(stacked, lengths)
        return self.dropout(encoded), lengths

    def trace(self, frames: Tensor, lengths: Tensor) -> tuple[list[list[Trace]], Tensor]:
        """Outputs, states and gates: (N, T, F), (N,) → layers × directions, (N,)."""
        stacked, lengths = stack_frames(frames, lengths, self.subsampling)
        return self.stack.trace(stacked, lengths), lengths


def stack_frames(frames: Tensor, lengths: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Join `factor` frames into one, zero-padded at the end: (N, T, F) → (N, T', factor · F)."""
    missing = -frames.shape[1] % factor
    frames = nn.functional.pad(frames, (0, 0, 0, missing))
    stacked = frames.reshape(len(frames), -1, factor * frames.shape[2])
    return stacked, stacked_lengths(lengths, factor)


def stacked_lengths(lengths: Tensor, factor: int) -> Tensor:
    """T' for each T: (N,) → (N,)."""
    return (lengths + factor - 1).div(factor, rounding_mode="floor")
