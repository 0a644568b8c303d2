"""librosa's log-mel and MFCC: as `librosa.feature.melspectrogram` and `.mfcc`.

Equal to 1e-3, log-mel down to 70 dB below the peak of its frame, where single precision ends.
Centred windows of a waveform in [-1, 1], without pre-emphasis, DC removal or energy.
"""

import librosa
import numpy as np
import torch
from torch import Tensor
from torchaudio.compliance.kaldi import vtln_warp_freq

from asr.batch import length_mask
from asr.features.filters import triangles
from asr.features.frames import DECIBEL_FLOOR, TOP_DB
from asr.features.frontend import Frontend
from asr.features.padded import extend


class Librosa(Frontend):
    """Log-mel: ln max(mel power, floor). MFCC: of decibels, at most 80 below the highest."""

    def extended(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        half = self.config.window_samples // 2
        return extend(waveforms, lengths, half, half, self.config.pad_mode)

    def values(self, mel: Tensor, energy: Tensor, counts: Tensor) -> Tensor:
        if self.config.kind == "fbank":
            return mel.clamp(min=self.config.log_floor).log_()
        decibels = mel.clamp(min=DECIBEL_FLOOR).log10_().mul_(10)
        outside = ~length_mask(counts, mel.shape[1]).unsqueeze(2)
        peak = decibels.masked_fill(outside, -torch.inf).amax(dim=(1, 2), keepdim=True)
        return torch.maximum(decibels, peak - TOP_DB) @ self.cosines

    def mel_filters(self, warp: float) -> Tensor:
        config = self.config
        low, high = config.low_hz, config.highest_hz
        edges = librosa.mel_frequencies(
            config.bins + 2, fmin=low, fmax=high, htk=config.mel_scale == "htk"
        )
        points = torch.from_numpy(edges)
        edges = vtln_warp_freq(*config.vtln_cutoffs, low, high, warp, points).numpy()
        bank = triangles(edges, self.fft_size, config.sample_rate)
        return torch.from_numpy(bank.astype(np.float32))
