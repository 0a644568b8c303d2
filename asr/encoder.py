"""Feature frames to encoded frames: frame stacking, then the recurrent stack."""

import torch
from torch import Tensor, nn

from asr.architecture import EncoderConfig
from asr.lstm.cell import Trace
from asr.lstm.layer import RecurrentStack


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
