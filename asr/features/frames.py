"""The features of one utterance at a time, in numpy: what is computed on every CPU.

The two families are proved against the programs that they are named after (docs/features.md). Their
numbers differ, so a model is only ever used with the features that it was trained on.
"""

import math
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.features.filters import dither_noise, kaldi_filters, librosa_filters, window_function
from asr.features.moments import Moments, around, of_frames, of_loud
from asr.features.running import Running
from asr.features.windows import Shaping, mel_power, put_slopes, spectra

EPSILON = float(np.finfo(np.float32).eps)  # the floor under every logarithm of Kaldi's family
INT16_SCALE = 32768.0  # Kaldi's filterbanks are defined on 16-bit integers; a power of two
DECIBEL_FLOOR = 1e-10  # of mel power; librosa.power_to_db calls it amin
TOP_DB = 80.0  # range of an utterance's decibels below its highest

Array = npt.NDArray[Any]


class Frames:
    """Waveform (S,) → static frames → Δ → normalised → context stacked, (T, F) float32.

    Static frames are log-mel values or MFCCs. `training` has the moments of the training set,
    (dynamic width,) each.
    """

    def __init__(self, config: FeaturesConfig, training: Moments | None = None) -> None:
        self.config = config
        width = config.dynamic_width
        self.training = training or (np.zeros(width, np.float32), np.ones(width, np.float32))

    def static(self, waveform: Array, bank: Array | None = None, first: int = 0) -> Array:
        """(S,) → (T, static width), before Δ, normalisation and context.

        `bank` replaces the mel filters: (fft/2 + 1, bins). `first` is the number of the first
        sample in a stream, which the noise of dithering depends on.
        """
        config, count = self.config, self.config.frame_count(len(waveform))
        bank = self.bank if bank is None else bank
        is_kaldi = config.family == "kaldi"
        how = Shaping(
            *(config.hop_samples, self.taper, np.float32(INT16_SCALE if is_kaldi else 1.0)),
            *(np.float32(config.preemphasis if is_kaldi else 0.0), is_kaldi and config.remove_dc),
            config.raw_energy,
        )
        mel = np.empty((count, config.bins), np.float32)
        energy = np.empty((count, 1), np.float32)
        signal = np.ascontiguousarray(self.extended(waveform, first), np.float32)
        filters, has_weight = np.ascontiguousarray(bank.T), bank != 0
        first = has_weight.argmax(axis=0)
        last = len(bank) - has_weight[::-1].argmax(axis=0)
        for part, spectrum in spectra(signal, how, self.fft_size, energy):
            mel_power(spectrum, filters, first, last, mel[part])
        return self._by_kaldi(mel, energy) if is_kaldi else self._by_librosa(mel)

    def dynamic(self, static: Array) -> Array:
        """Static frames with Δ and ΔΔ: (T, static width) → (T, dynamic width)."""
        frames = np.empty((len(static), self.config.dynamic_width), np.float32)
        frames[:, : self.config.static_width] = static
        if self.config.deltas:
            put_slopes(frames, self.config.static_width, self.config.delta_window)
        return frames

    def moments(self, dynamic: Array) -> Moments:
        """By which the frames of an utterance are normalised: they broadcast to (T, dynamic width).

        With normalization=speaker the utterance is all that its speaker says.
        """
        match self.config.normalization:
            case "utterance" | "speaker":
                return of_frames(dynamic, np.ones(len(dynamic), bool))
            case "active":
                return of_loud(dynamic, np.ones(len(dynamic), bool), self.config, self.training)
            case "running":
                return Running(self.config, self.training)(dynamic)
            case "sliding":
                return around(dynamic, self.config.cmn_window)
            case "none":
                return np.float32(0), np.float32(1)
        return self.training

    def normalised(self, static: Array, moments: Moments | None = None) -> Array:
        """(T, static width) → (T, F); `moments` replace those of the utterance."""
        frames = self.dynamic(static)
        mean, std = moments or self.moments(frames)
        frames -= np.asarray(mean, np.float32)
        frames /= np.asarray(std, np.float32)
        if not self.config.context:
            return frames
        reach = np.arange(-self.config.context, self.config.context + 1)
        near = np.arange(len(frames))[:, None] + reach
        stacked: Array = frames[near.clip(0, max(0, len(frames) - 1))].reshape(len(frames), -1)
        return stacked

    def extended(self, waveform: Array, first: int = 0) -> Array:
        """The signal that windows are cut from, with what is beyond its edges."""
        config, window = self.config, self.config.window_samples
        if config.family == "librosa":
            return beyond(waveform, window // 2, window // 2, config.pad_mode)
        if config.dither or config.dither_db:
            noise, place = dither_noise(), np.arange(first, first + len(waveform))
            waveform = waveform + self.dither(waveform) * noise[place % len(noise)]
        if config.snip_edges:
            return waveform
        return beyond(waveform, window // 2 - config.hop_samples // 2, window, "symmetric")

    def dither(self, waveform: Array) -> Any:
        """Standard deviation of the noise that is added to the samples."""
        everywhere = np.float32(self.config.dither / INT16_SCALE)
        if not self.config.dither_db or not len(waveform):
            return everywhere
        exact = waveform.astype(np.float64)
        power = np.square(exact).mean() - exact.mean() ** 2
        return everywhere + np.float32(
            math.sqrt(max(0.0, power)) * 10 ** (-self.config.dither_db / 20)
        )

    def _by_kaldi(self, mel: Array, energy: Array) -> Array:
        config = self.config
        mel = np.maximum(mel, np.float32(EPSILON), out=mel)
        values = np.log(mel)
        if config.kind == "mfcc":
            values = values @ self.cosines
        if not config.energy:
            return values
        floor = np.float32(max(EPSILON, config.energy_floor))
        log_energy = np.log(np.maximum(energy, floor))
        if config.kind == "mfcc":
            values = values[:, 1:]
        return np.concatenate([log_energy, values], axis=1)

    def _by_librosa(self, mel: Array) -> Array:
        if self.config.kind == "fbank":
            return np.log(np.maximum(mel, np.float32(self.config.log_floor), out=mel), out=mel)
        decibels = np.float32(10) * np.log10(np.maximum(mel, np.float32(DECIBEL_FLOOR)))
        highest = decibels.max(initial=np.float32(-np.inf))
        values: Array = np.maximum(decibels, highest - np.float32(TOP_DB)) @ self.cosines
        return values

    @cached_property
    def fft_size(self) -> int:
        size = self.config.window_samples
        return 1 << (size - 1).bit_length() if self.config.family == "kaldi" else size

    @cached_property
    def taper(self) -> Array:
        """The window function, (window_samples,)."""
        size = self.config.window_samples
        name = self.config.window if self.config.family == "kaldi" else "hann"
        taper: Array = window_function(name, size).astype(np.float32)
        return taper

    @cached_property
    def cosines(self) -> Array:
        """The orthonormal DCT-II, with Kaldi's lifter: (bins, ceps)."""
        bins, order = self.config.bins, np.arange(self.config.ceps)
        place = (np.arange(bins)[:, None] + 0.5) * order
        matrix = np.cos(np.pi / bins * place) * math.sqrt(2 / bins)
        matrix[:, 0] /= math.sqrt(2)
        if self.config.family == "kaldi" and (lifter := self.config.lifter):
            matrix *= 1 + 0.5 * lifter * np.sin(np.pi * order / lifter)
        cosines: Array = matrix.astype(np.float32)
        return cosines

    @cached_property
    def bank(self) -> Array:
        """Triangles on the frequency axis, (fft/2 + 1, bins); `DataError` for an empty one."""
        by_family = kaldi_filters if self.config.family == "kaldi" else librosa_filters
        bank = np.ascontiguousarray(by_family(self.config, self.fft_size), np.float32)
        empty = np.flatnonzero((bank == 0).all(axis=0))
        if len(empty):
            raise DataError(
                f"features.bins is {self.config.bins}, but filter {empty[0] + 1} covers "
                f"no frequency of the FFT; use fewer bins or a longer features.window_ms"
            )
        return bank


def beyond(signal: Array, before: int, after: int, edge: str) -> Array:
    """Continue a signal beyond both ends: "constant" zeros, "reflect", or "symmetric" mirrors.

    A mirror of "symmetric" repeats the last value; both go on where a signal is shorter.
    """
    size = len(signal)
    extended = np.zeros(before + size + after, np.float32)
    extended[before : before + size] = signal
    if edge == "constant" or not size:
        return extended
    once = int(edge == "reflect")
    period = max(1, 2 * (size - once))
    for part in (np.arange(-before, 0), np.arange(size, size + after)):
        place = part % period
        extended[before + part] = signal[np.minimum(place, period - 1 + once - place).clip(min=0)]
    return extended
