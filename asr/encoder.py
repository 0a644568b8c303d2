"""Feature frames to encoded frames: frame stacking, then the recurrent stack."""

from dataclasses import dataclass

from torch import Tensor, nn

from asr.lstm import LSTMStack


@dataclass(frozen=True)
class EncoderConfig:
    """Size of the recurrent stack."""

    hidden: int = 250  # cells in each direction
    layers: int = 3
    bidirectional: bool = True
    dropout: float = 0.0  # between layers, and before the criterion's head
    subsampling: int = 1  # this many frames are stacked into one

    def __post_init__(self) -> None:
        for key in ("hidden", "layers", "subsampling"):
            if getattr(self, key) < 1:
                raise ValueError(f"encoder.{key} is {getattr(self, key)}, expected at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"encoder.dropout is {self.dropout}, expected 0 ≤ dropout < 1")


class Encoder(nn.Module):
    """Stacked LSTM over stacked frames."""

    def __init__(self, config: EncoderConfig, input_size: int) -> None:
        super().__init__()
        self.subsampling = config.subsampling
        self.stack = LSTMStack(
            input_size * config.subsampling,
            config.hidden,
            config.layers,
            config.bidirectional,
            config.dropout,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.output_size = self.stack.output_size

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F), (N,) → (N, T', D), (N,) with T' = ⌈T / subsampling⌉."""
        stacked, lengths = stack_frames(frames, lengths, self.subsampling)
        return self.dropout(self.stack(stacked, lengths)), lengths


def stack_frames(frames: Tensor, lengths: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Join `factor` frames into one, zeros behind the last: (N, T, F) → (N, T/factor, factor·F)."""
    missing = -frames.shape[1] % factor
    frames = nn.functional.pad(frames, (0, 0, 0, missing))
    stacked = frames.reshape(len(frames), -1, factor * frames.shape[2])
    return stacked, (lengths + factor - 1).div(factor, rounding_mode="floor")
