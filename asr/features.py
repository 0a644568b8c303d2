"""Waveforms to normalised feature frames, in batches and inside the model.

Log-mel filterbanks and MFCCs are Kaldi's (`snip_edges`, Povey window, no dither): the same numbers
as `torchaudio.compliance.kaldi`, with all utterances of a batch at once. Not librosa's family: the
two differ by up to 6 nats, so a model is only ever used with the features that it was trained on.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchaudio.compliance.kaldi import get_mel_banks
from torchaudio.functional import create_dct

from asr.batch import Batch, length_mask

EPSILON = torch.finfo(torch.float32).eps  # Kaldi's floor under every logarithm
INT16_SCALE = 32768.0  # Kaldi's filterbanks are defined on 16-bit integers
DELTA_WINDOW = 2  # frames on each side (HTK Book, eq. 5.16)
CEPSTRAL_LIFTER = 22.0


@dataclass(frozen=True)
class FeaturesConfig:
    """Which frames a model sees. Widths: (bins or ceps, + energy) × (1 + deltas)."""

    kind: str = "fbank"  # or "mfcc"
    bins: int = 40  # mel filters
    ceps: int = 13  # cepstral coefficients, MFCC only
    energy: bool = True  # log energy: a frame's first value (fbank), or in place of C0 (MFCC)
    deltas: int = 2  # 1: Δ, 2: Δ and ΔΔ
    sample_rate: int = 16_000
    window_ms: float = 25.0
    hop_ms: float = 10.0
    preemphasis: float = 0.97
    low_hz: float = 20.0
    high_hz: float = 8_000.0

    def __post_init__(self) -> None:
        if self.kind not in ("fbank", "mfcc"):
            raise ValueError(f"features.kind is {self.kind!r}, expected fbank or mfcc")
        if self.bins < 4:
            raise ValueError(f"features.bins is {self.bins}, expected at least 4")
        if self.kind == "mfcc" and not 1 <= self.ceps <= self.bins:
            raise ValueError(
                f"features.ceps is {self.ceps}, expected 1…{self.bins} (features.bins)"
            )
        if self.deltas not in (0, 1, 2):
            raise ValueError(f"features.deltas is {self.deltas}, expected 0, 1 or 2")
        if not 0 < self.hop_ms <= self.window_ms:
            raise ValueError(
                f"features.hop_ms is {self.hop_ms}, expected more than 0 and at most "
                f"{self.window_ms} (features.window_ms)"
            )
        if not 0 <= self.low_hz < self.high_hz <= self.sample_rate / 2:
            raise ValueError(
                f"features.low_hz and high_hz are {self.low_hz} and {self.high_hz}, expected "
                f"0 ≤ low < high ≤ {self.sample_rate / 2} (half of features.sample_rate)"
            )

    @property
    def window_samples(self) -> int:
        return round(self.sample_rate * self.window_ms / 1000)

    @property
    def hop_samples(self) -> int:
        return round(self.sample_rate * self.hop_ms / 1000)

    def frame_count(self, samples: int) -> int:
        """T for S: whole windows only."""
        return max(0, 1 + (samples - self.window_samples) // self.hop_samples)

    @property
    def static_width(self) -> int:
        return self.bins + self.energy if self.kind == "fbank" else self.ceps

    @property
    def width(self) -> int:
        """F."""
        return self.static_width * (1 + self.deltas)


class Features(nn.Module):
    """Waveforms → frames. Buffers `mean` and `std` (F,) are learned by `fit_normalization`."""

    window: Tensor  # (window_samples,)
    mel_bank: Tensor  # (fft/2 + 1, bins)
    cepstra: Tensor  # (bins, ceps)
    mean: Tensor
    std: Tensor

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__()
        self.config = config
        self.fft_size = 1 << (config.window_samples - 1).bit_length()
        bank, _ = get_mel_banks(
            config.bins, self.fft_size, config.sample_rate, config.low_hz, config.high_hz, 0, 0, 1.0
        )
        constants = {
            # Povey: Hann to the power 0.85
            "window": torch.hann_window(config.window_samples, periodic=False).pow(0.85),
            # the bank leaves out the Nyquist bin: (bins, fft/2) → (fft/2 + 1, bins)
            "mel_bank": nn.functional.pad(bank, (0, 1)).T.contiguous(),
            "cepstra": _cepstra(config),
        }
        for name, constant in constants.items():
            self.register_buffer(name, constant, persistent=False)
        self.register_buffer("mean", torch.zeros(config.width))
        self.register_buffer("std", torch.ones(config.width))

    def frame_counts(self, waveform_lengths: Tensor) -> Tensor:
        """T for each S: whole windows only, (N,) → (N,)."""
        window, hop = self.config.window_samples, self.config.hop_samples
        counts = torch.div(waveform_lengths - window, hop, rounding_mode="floor") + 1
        return counts.clamp(min=0)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, S), (N,) → (N, T, F), (N,): normalised; frames behind an utterance's end are zero."""
        frames, counts = self.raw(waveforms, lengths)
        mask = length_mask(counts, frames.shape[1]).unsqueeze(2)
        return ((frames - self.mean) / self.std).masked_fill(~mask, 0.0), counts

    def of_batch(self, batch: Batch, warps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `forward`, of a batch; `warps` (N,) stretch the frequency axis of each utterance."""
        return self.forward(batch.waveforms, batch.waveform_lengths)

    def raw(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, before normalisation; frames behind an utterance's end are undefined."""
        counts = self.frame_counts(lengths)
        static = self._static(waveforms)
        streams = [static]
        for _ in range(self.config.deltas):
            streams.append(delta(streams[-1], counts))
        return torch.cat(streams, dim=2), counts

    @torch.no_grad()
    def fit_normalization(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Set mean and std to those of all frames of (waveforms (N, S), lengths (N,)) batches."""
        count = 0
        total = torch.zeros(self.config.width, dtype=torch.float64, device=self.mean.device)
        squares = torch.zeros_like(total)
        for waveforms, lengths in batches:
            frames, counts = self.raw(waveforms, lengths)
            valid = frames[length_mask(counts, frames.shape[1])].double()
            count += len(valid)
            total += valid.sum(dim=0)
            squares += valid.square().sum(dim=0)
        if count == 0:
            raise ValueError("normalisation needs at least one frame")
        mean = total / count
        self.mean.copy_(mean)
        self.std.copy_((squares / count - mean.square()).clamp(min=1e-8).sqrt())

    def _static(self, waveforms: Tensor) -> Tensor:
        config = self.config
        if waveforms.shape[1] < config.window_samples:
            return waveforms.new_zeros(len(waveforms), 0, config.static_width)
        frames = (waveforms * INT16_SCALE).unfold(1, config.window_samples, config.hop_samples)
        frames = frames - frames.mean(dim=2, keepdim=True)
        log_energy = frames.square().sum(dim=2, keepdim=True).clamp(min=EPSILON).log()
        previous = torch.cat([frames[:, :, :1], frames[:, :, :-1]], dim=2)
        windowed = (frames - config.preemphasis * previous) * self.window
        power = torch.fft.rfft(windowed, n=self.fft_size).abs().square()
        log_mel = (power @ self.mel_bank).clamp(min=EPSILON).log()
        if config.kind == "fbank":
            return torch.cat([log_energy, log_mel], dim=2) if config.energy else log_mel
        cepstra = log_mel @ self.cepstra
        return torch.cat([log_energy, cepstra[:, :, 1:]], dim=2) if config.energy else cepstra


def delta(frames: Tensor, counts: Tensor) -> Tensor:
    """Slope over ±2 frames, edge frames repeated: (N, T, F), (N,) → (N, T, F)."""
    if frames.shape[1] == 0:
        return frames
    time = torch.arange(-DELTA_WINDOW, frames.shape[1] + DELTA_WINDOW, device=frames.device)
    last = (counts - 1).clamp(min=0).unsqueeze(1)
    index = torch.minimum(time.clamp(min=0).expand(len(frames), -1), last)
    padded = frames.gather(1, index.unsqueeze(2).expand(-1, -1, frames.shape[2]))
    size = frames.shape[1]
    slope = torch.zeros_like(frames)
    for n in range(1, DELTA_WINDOW + 1):
        ahead = padded[:, DELTA_WINDOW + n :][:, :size]
        behind = padded[:, DELTA_WINDOW - n :][:, :size]
        slope += n * (ahead - behind)
    return slope / (2 * sum(n * n for n in range(1, DELTA_WINDOW + 1)))


def _cepstra(config: FeaturesConfig) -> Tensor:
    """DCT-II with Kaldi's liftering: (bins, ceps)."""
    dct: Tensor = create_dct(config.bins, config.bins, norm="ortho")[:, : config.ceps]
    order = torch.arange(config.ceps)
    lifter = 1 + 0.5 * CEPSTRAL_LIFTER * torch.sin(math.pi * order / CEPSTRAL_LIFTER)
    return dct * lifter
