"""Changes of a waveform: pace, noise, babble, rooms, bands and telephones.

In numpy, whose results do not depend on how many threads a worker has.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torchaudio.functional import mu_law_decoding, mu_law_encoding

Waveform = npt.NDArray[np.float32]

LOWEST_HZ = 20.0  # of coloured noise; brown noise has most power below, where features see nothing
TELEPHONE_HZ = (300.0, 3400.0)  # ITU-T G.712, with the µ-law of G.711


def accelerate(waveform: Waveform, percent: int) -> Waveform:
    """Played at `percent` of its pace, with the pitch: (S,) → (⌈100 S / percent⌉,).

    Resampled through the spectrum, because torchaudio's convolution rounds differently with another
    number of threads.
    """
    if percent == 100:
        return waveform
    step = _fft_size(1 + len(waveform) // percent)
    spectrum = np.fft.rfft(waveform, percent * step)
    samples = -(-100 * len(waveform) // percent)
    resampled = np.fft.irfft(spectrum * np.float32(100 / percent), 100 * step)[:samples]
    return resampled.astype(np.float32, copy=False)


def add_at(snr_db: float, speech: Waveform, noise: Waveform) -> Waveform:
    """Speech with added noise, (S,), (S,) → (S,); silence stays silence.

    Both powers are variances over the whole utterance, pauses included; an offset has no power.
    """
    power = float(noise.var())
    if power == 0:
        return speech
    return speech + noise * (amplitude(-snr_db) * float(np.sqrt(speech.var() / power)))


def coloured_noise(
    draw: np.random.Generator, samples: int, sample_rate: int, exponent: float
) -> Waveform:
    """Noise with power ∝ 1 / frequency^exponent above 20 Hz: 0 white, 1 pink, 2 brown, (S,)."""
    size = max(_fft_size(samples), _fft_size(int(sample_rate / LOWEST_HZ)))
    spectrum = np.fft.rfft(draw.standard_normal(size, dtype=np.float32))
    hertz = np.fft.rfftfreq(size, 1 / sample_rate)
    audible = hertz >= LOWEST_HZ
    slope = np.zeros(len(hertz), dtype=np.float32)
    slope[audible] = hertz[audible] ** (-exponent / 2)
    return np.fft.irfft(spectrum * slope)[:samples].astype(np.float32, copy=False)


def babble(draw: np.random.Generator, voices: Sequence[Waveform], samples: int) -> Waveform:
    """The sum of equally loud utterances, each repeated from a random start, (S,)."""
    total = np.zeros(samples, dtype=np.float32)
    for voice in voices:
        start = int(draw.integers(len(voice)))
        loudness = float(voice.std())
        if loudness > 0:
            total += np.resize(np.roll(voice, -start), samples) / loudness
    return total


def impulse_response(
    draw: np.random.Generator, rt60_s: float, drr_db: float, sample_rate: int
) -> Waveform:
    """Of a simulated room: 1 for the direct sound at time 0, then decaying noise (Polack's model).

    The echo decays by 60 dB in `rt60_s`, where it ends; its energy is `drr_db` below that of the
    direct sound.
    """
    time_s = np.arange(round(rt60_s * sample_rate)) / sample_rate
    response = draw.standard_normal(len(time_s)) * 10 ** (-3 * time_s / rt60_s)
    response[0] = 0.0
    response *= amplitude(-drr_db) / np.linalg.norm(response)
    response[0] = 1.0
    return response.astype(np.float32)


def convolve(waveform: Waveform, response: Waveform) -> Waveform:
    """(S,), (L,) → (S,): cut off at the end of the waveform, so that times stay as they are."""
    size = _fft_size(len(waveform) + len(response) - 1)
    spectrum = np.fft.rfft(waveform, size) * np.fft.rfft(response, size)
    return np.fft.irfft(spectrum)[: len(waveform)].astype(np.float32, copy=False)


def band_pass(waveform: Waveform, low_hz: float, high_hz: float, sample_rate: int) -> Waveform:
    """Frequencies between two limits; outside the gain falls to 0 within a tenth: (S,) → (S,)."""
    size = _fft_size(len(waveform))
    hertz = np.fft.rfftfreq(size, 1 / sample_rate)
    gain = np.interp(hertz, (high_hz, 1.1 * high_hz), (1.0, 0.0))
    if low_hz:
        gain *= np.interp(hertz, (0.9 * low_hz, low_hz), (0.0, 1.0))
    limited = np.fft.irfft(np.fft.rfft(waveform, size) * gain.astype(np.float32))
    return limited[: len(waveform)].astype(np.float32, copy=False)


def telephone(waveform: Waveform, sample_rate: int) -> Waveform:
    """The band of a telephone in 8-bit µ-law, full scale at the largest sample: (S,) → (S,)."""
    limited = band_pass(waveform, *TELEPHONE_HZ, sample_rate)
    peak = float(np.abs(limited).max(initial=0.0))
    if peak == 0:
        return limited
    steps = mu_law_encoding(torch.from_numpy(limited / np.float32(peak)), 256)
    decoded: Waveform = mu_law_decoding(steps, 256).numpy()
    return decoded * np.float32(peak)


def amplitude(db: float) -> float:
    """The factor that changes the level of a waveform by `db`."""
    return 10 ** (db / 20)


def _fft_size(samples: int) -> int:
    """The next power of two: lengths with large prime factors take many times longer."""
    return 1 << max(1, (samples - 1).bit_length())
