"""Mel filters, window functions and the noise of dithering, in numpy."""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.features.config import FeaturesConfig

DITHER_PERIOD = 1 << 16  # samples after which the noise repeats

Array = npt.NDArray[Any]


def kaldi_filters(config: FeaturesConfig, fft_size: int) -> Array:
    """Kaldi's mel filters, triangles on the mel axis: (fft/2 + 1, bins)."""

    def mel(hz: Any) -> Any:
        return 1127.0 * np.log1p(np.asarray(hz) / 700.0)

    low, high = mel(config.low_hz), mel(config.highest_hz)
    edges = low + (high - low) / (config.bins + 1) * np.arange(config.bins + 2)
    of_bin = mel(np.arange(fft_size // 2) * config.sample_rate / fft_size)[:, None]
    rising = (of_bin - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - of_bin) / (edges[2:] - edges[1:-1])
    # Kaldi leaves out the Nyquist bin.
    return np.pad(np.minimum(rising, falling).clip(min=0), ((0, 1), (0, 0)))


def librosa_filters(config: FeaturesConfig, fft_size: int) -> Array:
    """librosa's mel filters: (fft/2 + 1, bins)."""
    to_mel, to_hz = (htk_mel, htk_hz) if config.mel_scale == "htk" else (slaney_mel, slaney_hz)
    low, high = to_mel(config.low_hz), to_mel(config.highest_hz)
    edges = to_hz(np.linspace(low, high, config.bins + 2))
    return triangles(edges, fft_size, config.sample_rate)


def htk_mel(hz: Any) -> Any:
    """O'Shaughnessy's mel scale, as in the HTK Book."""
    return 2595.0 * np.log10(1.0 + np.asarray(hz) / 700.0)


def htk_hz(mel: Any) -> Any:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


# Slaney's Auditory Toolbox: linear up to 1 kHz, which is 15 mel, then a factor of 6.4 in 27 mel.
HZ_OF_MEL, LINEAR_HZ, LOG_STEP = 200 / 3, 1000.0, np.log(6.4) / 27.0


def slaney_mel(hz: Any) -> Any:
    above = np.log(np.maximum(hz, LINEAR_HZ) / LINEAR_HZ) / LOG_STEP
    return np.minimum(hz, LINEAR_HZ) / HZ_OF_MEL + above


def slaney_hz(mel: Any) -> Any:
    above = np.maximum(mel - LINEAR_HZ / HZ_OF_MEL, 0.0)
    return np.minimum(mel * HZ_OF_MEL, LINEAR_HZ) * np.exp(LOG_STEP * above)


def triangles(edges: Array, fft_size: int, sample_rate: int) -> Array:
    """Slaney's triangles of equal area between edges in Hz, (bins + 2,): (fft/2 + 1, bins)."""
    bins_hz = np.arange(fft_size // 2 + 1)[:, None] / fft_size * sample_rate
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins_hz - left) / (centre - left)
    falling = (right - bins_hz) / (right - centre)
    bank: Array = np.minimum(rising, falling).clip(min=0) * 2 / (right - left)
    return bank


def window_function(name: str, size: int) -> Array:
    """A window function of Kaldi's, symmetric, or librosa's periodic "hann": (size,)."""
    if name == "rectangular":
        return np.ones(size)
    if name == "hamming":
        return np.hamming(size)
    if name == "blackman":
        return np.blackman(size)
    if name == "hann":
        return np.hanning(size + 1)[:-1]
    # hanning; Povey's window is a Hann window that falls less steeply
    return np.hanning(size) ** (0.85 if name == "povey" else 1.0)


@cache
def dither_noise() -> Array:
    """Standard normal noise, (DITHER_PERIOD,): the same for every utterance and from every cache.

    It is what `torch.randn` gives after `manual_seed(0)`, to 1e-6: Box and Muller's method on a
    Mersenne twister, in groups of 16.
    """
    drawn = np.frombuffer(np.random.RandomState(0).bytes(4 * DITHER_PERIOD), "<u4")
    uniform = (drawn & 0xFFFFFF).reshape(-1, 2, 8) / np.float64(1 << 24)
    radius = np.sqrt(-2 * np.log1p(-uniform[:, 0]))
    angle = 2 * np.pi * uniform[:, 1]
    noise = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return noise.reshape(-1).astype(np.float32)
