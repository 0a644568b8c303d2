"""What can be wrong with a recording, one sentence for each problem or warning.

Problems make a recording unusable: another rate, more channels, a truncated file, a sample that is
not a number, silence. Warnings are about recordings that can be used: clipping, DC offset, digital
silence. This file opens no audio.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.audio.headers import AudioInfo, Extent

Waveform = npt.NDArray[np.float32]
Samples16 = npt.NDArray[np.int16]

FULL_SCALE = 32768  # of 16-bit samples
CLIPPED = 5e-3  # warn of clipping: more than this share of the samples at full scale,
CLIPPED_BELOW = 2e-2  # or this share at lower extremes; in a clean sine it is less than 1 %
LOUD = 8192  # a lower peak has few steps, so that many samples are equal
ZEROS_S = 0.01  # a recorded silence has no run of zeros of this length
ZEROS = 0.01  # warn when runs of zeros are more than this share of a recording of a corpus,
MOSTLY_ZEROS = 0.5  # or of another one
QUIET = 128  # warn of a lower peak, 48 dB below full scale
OFFSET = 0.02  # warn when the mean is further from 0 than this share of full scale
LOWEST_RATE = 4_000  # below it there is no speech, and the resampled audio would fill any memory
HIGHEST_RATE = 1_000_000
MOST_CHANNELS = 64
LOUDEST = 16.0  # times full scale; above it, the samples are not in [-1, 1] at all
DEAD_DB = -60.0  # relative to the loudest channel
CANCELLED_DB = -10.0  # of a mix, relative to one of unrelated channels
RELATED = 0.8  # a lower correlation of two channels: something is on one of them only
SWAPPED_BLOCK = 1 << 16  # samples in which swapped bytes are looked for


def wrong_format(path: str | Path, header: AudioInfo, sample_rate: int) -> Iterator[str]:
    """Problems: several channels, and a sample rate other than `sample_rate`."""
    if header.channels != 1:
        yield (
            f"{path}: {header.channels} channels, expected 1; choose or mix one yourself, for "
            f"example with `sox IN OUT remix 1`, or for a corpus set corpus.resample=true"
        )
    if header.sample_rate != sample_rate:
        yield (
            f"{path}: sampled at {header.sample_rate} Hz, expected {sample_rate} Hz; resample it, "
            f"for example with `sox IN -r {sample_rate} OUT`, or for a corpus set "
            f"corpus.resample=true"
        )


def beyond_use(path: str | Path, header: AudioInfo) -> Iterator[str]:
    """Problems: a rate or a number of channels that no recording of speech has."""
    rate = header.sample_rate
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        expected = f"at least {LOWEST_RATE}" if rate < LOWEST_RATE else f"at most {HIGHEST_RATE}"
        yield f"{path}: sampled at {rate} Hz, expected {expected} Hz; is the rate right?"
    if header.channels > MOST_CHANNELS:
        yield f"{path}: {header.channels} channels, expected at most {MOST_CHANNELS}"


def too_short(
    path: str | Path, samples: int, window_samples: float, sample_rate: int
) -> Iterator[str]:
    if samples < window_samples:
        window_ms = 1000 * window_samples / sample_rate
        yield (
            f"{path}: {samples} samples, expected at least one window of {window_samples:g} "
            f"({window_ms:g} ms); leave it out"
        )


def wrong_extent(path: str | Path, header: AudioInfo, extent: Extent) -> Iterator[str]:
    """A problem where the file does not hold what its header promises, or no samples."""
    if extent.another is not None:
        kind, place = extent.another
        yield (
            f"{path}: several recordings are in it, and only the first would be read; another one "
            f"({kind}) begins at byte {place}; write each to a file of its own"
        )
    elif extent.promised and extent.stored is not None and extent.stored < extent.promised:
        cause, more = "truncated", "; fetch it again"
        if extent.as_text:
            cause = "damaged by a transfer in text mode"
            more = " and no byte 0x0D; fetch it again as binary"
        yield (
            f"{path}: {cause}, the header says {extent.promised} samples, the file holds "
            f"{extent.stored}{more}"
        )
    elif not extent.has_end:
        yield f"{path}: truncated, the Ogg stream has no last page; fetch it again"
    elif extent.data is not None and extent.data[1] < (extent.data[0] or 0):
        yield (
            f"{path}: truncated, the header says {extent.data[0]} bytes of samples, the file holds "
            f"{extent.data[1]}; fetch it again"
        )
    elif extent.fault:
        yield (
            f"{path}: the header is wrong, {extent.fault}; write the file again with what recorded "
            f"it, or with another program after a look at what is in it"
        )
    elif header.samples < 1:
        yield f"{path}: no audio, the file holds zero samples; leave it out"


def no_samples_of_audio(
    path: str | Path, waveform: npt.NDArray[Any], start: int = 0
) -> Iterator[str]:
    """A problem: the first sample of (S,) or (S, channels) that is no number, or far too large."""
    sound = np.abs(waveform) <= LOUDEST  # false for NaN
    if not sound.all():
        first, *channel = (int(n) for n in np.unravel_index(np.argmin(sound), sound.shape))
        value = waveform[first, *channel]
        expected = "a finite number; write the file again"
        if np.isfinite(value):
            expected = "numbers in [-1, 1]; divide by full scale, which is 32768 for 16 bits"
        yield f"{path}: sample {start + first} is {value:g}, expected {expected}"


def swapped_bytes(path: str | Path, samples: Samples16) -> Iterator[str]:
    """A problem where the samples (S,) are noise, and speech with their bytes exchanged."""
    begin = samples[:SWAPPED_BLOCK]

    def roughness(values: Samples16) -> float:
        as_floats = values.astype(np.float64)
        return float(np.abs(np.diff(as_floats)).sum() / max(1.0, np.abs(as_floats).sum()))

    if roughness(begin) > 1 and roughness(begin.byteswap()) < 0.5:
        yield (
            f"{path}: its bytes are in the wrong order, it would be noise; correct the byte order "
            f"in the header (SPHERE: sample_byte_format), or convert it with `sox -x IN OUT`"
        )


def in_16_bits(waveform: Waveform) -> Samples16:
    scaled = np.rint(waveform * np.float32(FULL_SCALE))
    samples: Samples16 = np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    return samples


def in_fewer_bits(path: str | Path, array: npt.NDArray[Any]) -> Iterator[str]:
    """A warning where integers of 32 bits have the range of a smaller type."""
    if array.dtype != np.int32:
        return
    peak = max(int(array.max(initial=0)), -int(array.min(initial=0)))
    if 0 < peak <= 1 << 23:
        bits = 16 if peak <= FULL_SCALE else 24
        yield (
            f"{path}: int32, so that full scale is 2^31, and no sample is beyond {peak}; if these "
            f"are samples of {bits} bits, multiply them by {1 << 32 - bits}"
        )


class Channels:
    """Powers and correlations of channels that are added in blocks (S, channels)."""

    def __init__(self, count: int) -> None:
        self.products = np.zeros((count, count))
        self.samples = 0

    def add(self, block: npt.NDArray[Any]) -> None:
        precise = block.astype(np.float64)
        self.products += precise.T @ precise
        self.samples += len(block)

    def unfit_to_mix(self, path: str | Path) -> Iterator[str]:
        """A warning where the mean of the channels is worse than one of them."""
        powers, mix = self.products.diagonal(), self.products.mean()
        loudest = int(powers.argmax())
        if not powers[loudest]:
            return
        with np.errstate(divide="ignore", invalid="ignore"):
            levels = 10 * np.log10(np.append(powers, mix) / self.samples)
            related = self.products / np.sqrt(np.outer(powers, powers))
        is_dead = levels[:-1] - levels[loudest] < DEAD_DB
        dead, alive = np.flatnonzero(is_dead), np.flatnonzero(~is_dead)
        advice = f"use channel {loudest + 1} alone"
        unrelated = np.argwhere(np.abs(related[np.ix_(alive, alive)]) < RELATED)
        if 10 * np.log10(max(mix, 1e-30) * len(powers) / powers.mean()) < CANCELLED_DB:
            what = "they cancel each other out (opposite phase)"
        elif len(dead):
            what = f"channel {dead[0] + 1} is silent"
        elif len(unrelated):
            one, other = alive[unrelated[0]]
            what = (
                f"channels {one + 1} and {other + 1} are different (correlation "
                f"{related[one, other]:.2f}), as with noise, hum or another speaker on one of them"
            )
            advice = f"listen to both, and use channel {one + 1} or {other + 1} alone"
        else:
            return
        listed = ", ".join(f"{level:.0f}" for level in levels[:-1])
        yield (
            f"{path}: {what}; the channels are at {listed} dB of full scale, their mix is at "
            f"{levels[-1]:.0f} dB; {advice}"
        )


@dataclass
class Levels:
    """Extremes, mean and runs of zeros of samples that are added in blocks."""

    run: int  # samples of a run of zeros, of all channels
    zeros: int = 0  # in such runs, which no microphone records
    least: float = np.inf  # before they were rounded to 16 bits, of FULL_SCALE
    most: float = -np.inf
    low: int = FULL_SCALE
    high: int = -FULL_SCALE - 1
    at_low: int = 0
    at_high: int = 0
    total: int = 0
    count: int = 0

    def add(self, samples: Samples16, exact: npt.NDArray[Any]) -> None:
        """Add 16-bit samples, and what was rounded to them: floats in [-1, 1], or the same."""
        scale = FULL_SCALE if exact.dtype.kind == "f" else 1
        self.least = min(self.least, scale * float(exact.min()))
        self.most = max(self.most, scale * float(exact.max()))
        low, high = int(samples.min()), int(samples.max())
        if low < self.low:
            self.low, self.at_low = low, 0
        if high > self.high:
            self.high, self.at_high = high, 0
        self.at_low += int(np.count_nonzero(samples == self.low))
        self.at_high += int(np.count_nonzero(samples == self.high))
        self.total += int(samples.sum(dtype=np.int64))
        self.count += samples.size
        runs = exact.ravel()[: exact.size // self.run * self.run].reshape(-1, self.run)
        self.zeros += self.run * int(np.count_nonzero(~runs.any(axis=1)))

    def silent(self, path: str | Path) -> Iterator[str]:
        """A problem where all samples are equal, at least in 16 bits."""
        if self.low != self.high or self.count < 2:
            return
        if self.least < self.most:
            yield (
                f"{path}: too quiet, no two samples differ by more than "
                f"{self.most - self.least:.2g} of {FULL_SCALE}; expected speech, record it louder, "
                f"or multiply the samples"
            )
        else:
            yield (
                f"{path}: silent, all {self.count} samples are {self.low}; replace the file or "
                f"leave it out"
            )

    def distorted(self, path: str | Path, most_zeros: float, remedy: str) -> Iterator[str]:
        """Warnings of clipping, of a DC offset, of digital silence, and of hardly any sound."""
        peak = max(self.high, -self.low)
        if (loudest := max(self.most, -self.least)) < QUIET:
            yield (
                f"{path}: nearly silent, no sample is beyond {loudest:.4g} of {FULL_SCALE}; "
                f"expected speech, record it louder, or leave it out"
            )
        if peak >= LOUD:
            share = (self.at_low + self.at_high) / self.count
            if share > (CLIPPED if peak >= FULL_SCALE - 1 else CLIPPED_BELOW):
                yield (
                    f"{path}: clipped, {share:.2%} of the samples are at the extremes, {self.low} "
                    f"and {self.high} of {FULL_SCALE}"
                )
        offset = self.total / self.count / FULL_SCALE
        if abs(offset) > OFFSET:
            yield f"{path}: the mean is {offset:+.2%} of full scale, expected about 0 (DC offset)"
        if (share := self.zeros / self.count) > most_zeros:
            yield f"{path}: {share:.1%} of it is exactly 0 (digital silence); {remedy}"
