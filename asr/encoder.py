"""Feature frames to encoded frames: frame stacking, then the recurrent stack."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr.knobs import Knobs, knob
from asr.lstm.cell import Trace
from asr.lstm.cells import CELLS
from asr.lstm.layer import RecurrentStack


@dataclass(frozen=True)
class EncoderConfig(Knobs, group="encoder"):
    """Kind and size of the recurrent stack."""

    cell: str = knob("lstm", "recurrent cell, see docs/lstm.md", one_of=tuple(CELLS))
    hidden: int = knob(250, "cells in each direction", at_least=1)
    layers: int = knob(3, "recurrent layers; 0: stacked frames only", at_least=0)
    bidirectional: bool = knob(True, "read the frames in both directions")
    projection: int = knob(0, "output width of a direction; for cell=projected only", at_least=0)
    forget_bias: float = knob(0.0, "added to the initial bias of the forget gate")
    dropout: float = knob(0.0, "between layers and before the head", at_least=0, less_than=1)
    subsampling: int = knob(1, "consecutive frames stacked into one", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cell == "projected" and not 1 <= self.projection < self.hidden:
            self.refuse("projection", f"expected 1 to {self.hidden - 1}: fewer than encoder.hidden")
        if self.cell != "projected" and self.projection:
            reason = f"but encoder.cell is {self.cell!r}; only projected has a projection"
            self.refuse("projection", reason)
        if self.forget_bias and "forget" not in CELLS[self.cell].blocks:
            reason = f"but encoder.cell is {self.cell!r}, which has no forget gate"
            self.refuse("forget_bias", reason)


class Encoder(nn.Module):
    """A recurrent stack over stacked frames.

    In training its matrix products have the type `product_dtype` (training.precision); weights,
    gates and states keep float32.
    """

    product_dtype: torch.dtype = torch.float32

    def __init__(self, config: EncoderConfig, input_size: int) -> None:
        super().__init__()
        self.subsampling = config.subsampling
        self.stack = RecurrentStack(
            config.cell,
            input_size * config.subsampling,
            config.hidden,
            config.layers,
            config.bidirectional,
            config.dropout,
            config.projection,
            config.forget_bias,
        )
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
    return (lengths + factor - 1) // factor
