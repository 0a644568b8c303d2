"""Spectra of one utterance's windows on a CPU: compiled loops around numpy's FFT."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from asr.processor.compiled import compiled

CPU_FRAMES = 128  # windows at a time: as many as stay in the cache of a core

# Sums may be reordered, but a product is rounded before it is subtracted: pre-emphasis of quiet
# speech then has the same rounding as torchaudio's.
fast = compiled(fastmath={"reassoc", "nsz"})


class Shaping(NamedTuple):
    """How a window is cut and shaped; numbers are np.float32."""

    hop: int  # samples
    taper: Any  # (window,)
    scale: Any
    preemphasis: Any
    remove_dc: bool
    raw_energy: bool


def spectra(signal: Any, how: Shaping, fft_size: int, energy: Any) -> Iterator[tuple[slice, Any]]:
    """Spectra of all windows, CPU_FRAMES at a time: (S,) → slice of T, (its length, fft/2 + 1).

    Fills `energy` (T, 1). The spectra are a buffer that the next ones overwrite.
    """
    most, bins = min(CPU_FRAMES, len(energy)), fft_size // 2 + 1
    # In double precision, which costs numpy no time, and weak bands keep their digits.
    shaped, spectrum = np.zeros((most, fft_size)), np.empty((most, bins), np.complex128)
    for start in range(0, len(energy), CPU_FRAMES):
        size = min(CPU_FRAMES, len(energy) - start)
        shape_windows(signal, start, size, how, shaped, energy)
        np.fft.rfft(shaped[:size], out=spectrum[:size])
        yield slice(start, start + size), spectrum[:size]


@fast
def shape_windows(
    signal: Any, first: int, count: int, how: Shaping, shaped: Any, energy: Any
) -> None:
    """Cut `count` windows and shape them for the FFT: (S,) → (count, …), energy (T, 1)."""
    size = len(how.taper)
    buffer = np.empty(size + 1, np.float32)
    before, now = buffer[:size], buffer[1:]
    for t in range(count):
        window, row = signal[(first + t) * how.hop :][:size], shaped[t]
        mean = np.float32(0)
        if how.remove_dc:
            for i in range(size):
                mean += window[i]
            mean *= how.scale / np.float32(size)
        total = np.float32(0)
        for i in range(size):
            value = how.scale * window[i] - mean
            now[i] = value
            total += value * value
        buffer[0] = buffer[1]
        for i in range(size):
            row[i] = (now[i] - how.preemphasis * before[i]) * how.taper[i]
        if not how.raw_energy:
            total = np.float32(0)
            for i in range(size):
                total += row[i] * row[i]
        energy[first + t, 0] = total


@fast
def mel_power(spectrum: Any, bank: Any, first: Any, last: Any, mel: Any) -> None:
    """Power in mel filters: (T, fft/2 + 1) complex, filters (bins, fft/2 + 1) → (T, bins).

    Filter b has weights from `first[b]` to `last[b]`. Products of BLAS would wake its threads.
    """
    power = np.empty(spectrum.shape[1], np.float32)
    for t in range(len(mel)):
        values, row = spectrum[t], mel[t]
        for i in range(len(values)):
            power[i] = values[i].real * values[i].real + values[i].imag * values[i].imag
        for b in range(len(row)):
            weights, total = bank[b], np.float32(0)
            for i in range(first[b], last[b]):
                total += power[i] * weights[i]
            row[b] = total


@fast
def put_slopes(frames: Any, width: int, window: int) -> None:
    """Fill in Δ and ΔΔ behind the first `width` values of each frame: (T, (1 + order) · width)."""
    last = len(frames) - 1
    scale = np.float32(3 / (window * (window + 1) * (2 * window + 1)))  # 1 / 2Σn²
    for start in range(width, frames.shape[1], width):
        for t in range(last + 1):
            slope = frames[t, start : start + width]
            slope[:] = 0
            for n in range(1, window + 1):
                ahead = frames[min(t + n, last), start - width : start]
                behind = frames[max(t - n, 0), start - width : start]
                weight = scale * np.float32(n)
                for i in range(width):
                    slope[i] += weight * (ahead[i] - behind[i])
