"""What can be wrong with a recording, one sentence for each problem or warning.

Problems make a recording unusable: another rate, more channels, a truncated file, a sample that is
not a number, silence. Warnings are about recordings that can be used: clipping, DC offset, digital
silence. This file opens audio only to look for a transfer in text mode.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
ZEROS = 0.01  # warn when runs of zeros are more than this share of a recording
OFFSET = 0.02  # warn when the mean is further from 0 than this share of full scale
LINE_FEEDS = 50  # a file with fewer bytes 0x0A may have no 0x0D by chance
TEXT_BLOCK = 1 << 18  # bytes
LOWEST_RATE = 4_000  # below it there is no speech, and the resampled audio would fill any memory


def wrong_format(path: str | Path, header: AudioInfo, sample_rate: int) -> Iterator[str]:
    """Problems: several channels, and a sample rate other than `sample_rate`."""
    if header.channels != 1:
        yield (
            f"{path}: {header.channels} channels, expected 1; choose or mix one yourself, for "
            f"example with `sox IN OUT remix 1`"
        )
    if header.sample_rate != sample_rate:
        yield (
            f"{path}: sampled at {header.sample_rate} Hz, expected {sample_rate} Hz; resample it, "
            f"for example with `sox IN -r {sample_rate} OUT`"
        )


def too_slow(path: str | Path, rate: int) -> Iterator[str]:
    if rate < LOWEST_RATE:
        yield (
            f"{path}: sampled at {rate} Hz, expected at least {LOWEST_RATE} Hz; is the rate right?"
        )


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
    """A problem where the file holds fewer samples than its header promises, or none."""
    if extent.promised and extent.stored is not None and extent.stored < extent.promised:
        counts = f"the header says {extent.promised} samples, the file holds {extent.stored}"
        if _transferred_as_text(path):
            yield (
                f"{path}: damaged by a transfer in text mode, {counts} and no byte 0x0D; fetch it "
                f"again as binary"
            )
        else:
            yield f"{path}: truncated, {counts}; fetch it again"
    elif not extent.has_end:
        yield f"{path}: truncated, the Ogg stream has no last page; fetch it again"
    elif header.samples < 1 and extent.stored:
        yield (
            f"{path}: no audio, the header says 0 samples and the file has room for "
            f"{extent.stored}: it was never completed; write the file again, for example with "
            f"`sox --ignore-length IN OUT`"
        )
    elif header.samples < 1:
        yield f"{path}: no audio, the file holds zero samples; leave it out"


def _transferred_as_text(path: str | Path) -> bool:
    """Whether a file has no byte 0x0D (CR): a transfer in text mode replaces CR LF and CR by LF."""
    line_feeds = 0
    with open(path, "rb") as file:
        while block := file.read(TEXT_BLOCK):
            if b"\r" in block:
                return False
            line_feeds += block.count(b"\n")
    return line_feeds >= LINE_FEEDS


def not_finite(path: str | Path, waveform: Waveform, start: int = 0) -> Iterator[str]:
    """A problem: the first sample of (S,) or (S, channels) that is NaN or infinite."""
    finite = np.isfinite(waveform)
    if not finite.all():
        first, *channel = (int(n) for n in np.unravel_index(np.argmin(finite), finite.shape))
        yield (
            f"{path}: sample {start + first} is {waveform[first, *channel]}, expected a finite "
            f"number; write the file again"
        )


def digital_silence(path: str | Path, samples: Samples16, sample_rate: int) -> Iterator[str]:
    """A warning where runs of the samples (S,) are exactly 0, which no microphone records."""
    size = round(ZEROS_S * sample_rate)
    runs = samples[: len(samples) // size * size].reshape(-1, size)
    share = float(np.mean(~runs.any(axis=1))) if len(runs) else 0.0
    if share > ZEROS:
        yield (
            f"{path}: cut to digital silence, {share:.1%} of it is exactly 0; features that are "
            f"normalised by utterance need features.dither_db=45, if it is not set"
        )


def in_16_bits(waveform: Waveform) -> Samples16:
    scaled = np.rint(waveform * np.float32(FULL_SCALE))
    samples: Samples16 = np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    return samples


@dataclass
class Levels:
    """Extremes and mean of 16-bit samples that are added in blocks."""

    low: int = FULL_SCALE
    high: int = -FULL_SCALE - 1
    at_low: int = 0
    at_high: int = 0
    total: int = 0
    count: int = 0

    def add(self, samples: Samples16) -> None:
        low, high = int(samples.min()), int(samples.max())
        if low < self.low:
            self.low, self.at_low = low, 0
        if high > self.high:
            self.high, self.at_high = high, 0
        self.at_low += int(np.count_nonzero(samples == self.low))
        self.at_high += int(np.count_nonzero(samples == self.high))
        self.total += int(samples.sum(dtype=np.int64))
        self.count += samples.size

    def silent(self, path: str | Path) -> Iterator[str]:
        """A problem where all samples are equal."""
        if self.low == self.high and self.count > 1:
            yield (
                f"{path}: silent, all {self.count} samples are {self.low}; replace the file or "
                f"leave it out"
            )

    def distorted(self, path: str | Path) -> Iterator[str]:
        """Warnings of clipping and of a DC offset."""
        peak = max(self.high, -self.low)
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
