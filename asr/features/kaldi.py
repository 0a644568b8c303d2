"""Kaldi's log-mel and MFCC: `compute-fbank-feats` and `compute-mfcc-feats` to within 1e-3."""

import torch
from torch import Tensor, nn
from torchaudio.compliance.kaldi import get_mel_banks

from asr.features.config import FeaturesConfig
from asr.features.filters import DITHER_PERIOD, dither_noise
from asr.features.frames import EPSILON, INT16_SCALE
from asr.features.frontend import Frontend
from asr.features.padded import extend


class Kaldi(Frontend):
    """Log-mel or MFCC: mean removed, pre-emphasis, a power-of-two FFT; energy first, or as C0."""

    noise: Tensor  # (DITHER_PERIOD,) or empty

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__(config, INT16_SCALE, config.preemphasis, config.remove_dc)
        size = DITHER_PERIOD if config.dither or config.dither_db else 0
        noise = torch.from_numpy(dither_noise()[:size].copy())
        self.register_buffer("noise", noise, persistent=False)

    def extended(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        config = self.config
        if len(self.noise):
            size = waveforms.shape[1]
            noise = self.noise.repeat(-(-size // DITHER_PERIOD))[:size]
            waveforms = waveforms + self.dither(waveforms, lengths) * noise
        if config.snip_edges:
            return waveforms
        before = config.window_samples // 2 - config.hop_samples // 2
        return extend(waveforms, lengths, before, config.window_samples, "symmetric")

    def dither(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Standard deviation of the noise for each utterance, (N, S), (N,) → (N, 1)."""
        everywhere = waveforms.new_full((len(lengths), 1), self.config.dither / INT16_SCALE)
        if not self.config.dither_db:
            return everywhere
        samples = lengths.clamp(min=1).unsqueeze(1)
        # The order of a sum depends on threads; in double precision rounding hides it.
        exact = waveforms.double()
        mean = exact.sum(dim=1, keepdim=True) / samples
        power = exact.square().sum(dim=1, keepdim=True) / samples - mean.square()
        below = power.clamp(min=0).sqrt() * 10 ** (-self.config.dither_db / 20)
        return everywhere + below.to(everywhere)

    def values(self, mel: Tensor, energy: Tensor, counts: Tensor) -> Tensor:
        config = self.config
        log_mel = mel.clamp(min=EPSILON).log_()
        values = log_mel if config.kind == "fbank" else log_mel @ self.cosines
        if not config.energy:
            return values
        log_energy = energy.clamp(min=max(EPSILON, config.energy_floor)).log_()
        return torch.cat([log_energy, values if config.kind == "fbank" else values[..., 1:]], -1)

    def mel_filters(self, warp: float) -> Tensor:
        config = self.config
        limits = config.low_hz, config.highest_hz, *config.vtln_cutoffs, warp
        bank: Tensor = get_mel_banks(config.bins, self.fft_size, config.sample_rate, *limits)[0]
        # torchaudio leaves out the Nyquist bin: (bins, fft/2) → (fft/2 + 1, bins).
        return nn.functional.pad(bank, (0, 1)).T.contiguous()
