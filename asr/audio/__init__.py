"""Files to waveforms, through soundfile, and the checks that libraries leave out.

Reads whatever libsndfile reads: RIFF, NIST SPHERE (also inside `.wav`), FLAC, Ogg/Opus. `load`
never resamples and never mixes channels down: a file that is not what was asked for is an error,
and so is one that holds less than its header promises. `stream`, for files that belong to no
corpus, does both and says so. AIFF, CAF, W64 and RF64 are taken at libsndfile's word. It knows no
labels.
"""

import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from asr.errors import DataError

# Of the files that libsndfile reads, in lower case; what a file is its content decides.
ENDINGS = (".wav", ".flac", ".opus", ".ogg", ".oga", ".mp3", ".aiff", ".aif", ".au", ".sph", ".caf")

Waveform = npt.NDArray[np.float32]
Samples16 = npt.NDArray[np.int16]

FULL_SCALE = 32768  # of 16-bit samples
CLIPPED = 5e-3  # warn when more than this part of the samples stands at full scale,
FLAT = 2e-2  # or this part at a lower extreme; of a clean sine it is less than 1 %
LOUD = 8192  # below this peak, few steps make many samples equal
ZEROS_S = 0.01  # samples that are 0 for so long are no recorded silence;
CUT = 0.01  # warn when more than this part of a recording is of them
OFFSET = 0.02  # warn when the mean is further from 0 than this part of full scale
STREAM = 0x7FFFF000  # from this size on a data chunk says: length unknown (ffmpeg, sox in a pipe)
BLOCK = 1 << 18  # samples that `stream` reads at a time
LINE_FEEDS = 50  # bytes 0x0A, for the absence of 0x0D in a file to mean anything
LOWEST_RATE = 4_000  # below it there is no speech, and what is resampled would fill any memory
EXACT_IN_INT16 = ("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW")


@dataclass(frozen=True)
class AudioInfo:
    """What a header says: samples per channel, samples per second, channels."""

    samples: int
    sample_rate: int
    channels: int

    @property
    def duration_s(self) -> float:
        return self.samples / self.sample_rate


@dataclass(frozen=True)
class Inspection:
    """What is known of a file once it has been decoded; no header: it could not be opened."""

    header: AudioInfo | None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    content: int | None = None  # 64-bit hash of the 16-bit samples; None: silent, or not decoded


def info(path: str | Path) -> AudioInfo:
    """What the header says; `DataError` if there is no readable, whole, non-empty audio."""
    with _open(path) as (_, header, extent):
        for problem in _wrong_extent(path, header, extent):
            raise DataError(problem)
    return header


def load(path: str | Path, sample_rate: int = 16_000) -> Waveform:
    """The waveform (S,) as float32 in [-1, 1].

    Raises `DataError` for a file that is unreadable, truncated, empty, not mono, not at
    `sample_rate`, or that holds a sample which is no number.
    """
    with _open(path) as (file, header, extent):
        require_mono(path, header.channels)
        require_rate(path, header.sample_rate, sample_rate)
        for problem in _wrong_extent(path, header, extent):
            raise DataError(problem)
        waveform: Waveform = _read(path, file, header.samples, "float32")
    for problem in _not_finite(path, waveform):
        raise DataError(problem)
    return waveform


def inspect(path: str | Path, sample_rate: int, window_samples: int = 1) -> Inspection:
    """Decode a file once and check all of it; nothing is raised, problems and warnings come back.

    `window_samples` is the shortest audio of which features can be taken.
    """
    problems: list[str] = []
    warnings: list[str] = []
    try:
        with _open(path) as (file, header, extent):
            if header.channels != 1:
                problems.append(_wrong_channels(path, header.channels))
            if header.sample_rate != sample_rate:
                problems.append(_wrong_rate(path, header.sample_rate, sample_rate))
            problems.extend(_wrong_extent(path, header, extent))
            if problems:
                return Inspection(_intact(header, extent), tuple(problems))
            if extent.endless:
                warnings.append(_says_endless(path, header.samples))
            dtype = "int16" if file.subtype in EXACT_IN_INT16 else "float32"
            samples = _read(path, file, header.samples, dtype)
    except DataError as error:
        return Inspection(None, error.problems)
    if dtype == "float32":
        problems.extend(_not_finite(path, samples))
        if problems:
            return Inspection(header, tuple(problems))
        samples = _in_16_bits(samples)
    levels = _Levels()
    levels.add(samples)
    if levels.silent:
        return Inspection(header, (levels.says_silent(path),))
    problems.extend(_too_short(path, header.samples, window_samples, sample_rate))
    warnings.extend(levels.distorted(path))
    warnings.extend(_cut_to_silence(path, samples, header.sample_rate))
    content = hashlib.blake2b(samples.data, digest_size=8).digest()
    return Inspection(
        header, tuple(problems), tuple(warnings), int.from_bytes(content, byteorder="little")
    )


def stream(
    path: str | Path, sample_rate: int, window_samples: int, warn: Callable[[str], None]
) -> Iterator[Waveform]:
    """Yield a file block by block, its channels mixed into one, at `sample_rate`: each (S,).

    `warn` gets a sentence for all that was changed or looks distorted. Raises `DataError` as `load`
    does, for a file shorter than a window of `window_samples` or below `LOWEST_RATE`, and behind
    the last block for one that is silent.
    """
    with _open(path) as (file, header, extent):
        rate = header.sample_rate
        for problem in _wrong_extent(path, header, extent):
            raise DataError(problem)
        for problem in _too_short(path, header.samples, window_samples * rate / sample_rate, rate):
            raise DataError(problem)
        if rate < LOWEST_RATE:
            raise DataError(
                f"{path}: sampled at {rate} Hz, expected at least {LOWEST_RATE} Hz; is the header "
                f"right?"
            )
        if extent.endless:
            warn(_says_endless(path, header.samples))
        if changes := list(_changes(header, sample_rate)):
            warn(f"{path}: {', '.join(changes)}")
        resampler = soxr.ResampleStream(rate, sample_rate, 1) if rate != sample_rate else None
        levels = _Levels()
        size = max(1, BLOCK // header.channels)
        for start in range(0, header.samples, size):
            stop = min(start + size, header.samples)
            block: Waveform = _read(path, file, header.samples, "float32", start, stop)
            for problem in _not_finite(path, block, start):
                raise DataError(problem)
            levels.add(_in_16_bits(block))
            mono = block.mean(axis=1) if block.ndim == 2 else block
            if resampler is not None:
                mono = resampler.resample_chunk(mono, last=stop == header.samples)
            yield mono
    if levels.silent:
        raise DataError(levels.says_silent(path))
    for warning in levels.distorted(path):
        warn(warning)


def _changes(header: AudioInfo, sample_rate: int) -> Iterator[str]:
    """What `stream` does to a file before anybody hears it."""
    if header.channels != 1:
        yield f"{header.channels} channels mixed into one"
    if header.sample_rate != sample_rate:
        yield f"resampled from {header.sample_rate} Hz to {sample_rate} Hz"
    if header.sample_rate < sample_rate:
        yield f"nothing above {header.sample_rate // 2} Hz is in it, so expect more errors"


def require_mono(path: str | Path, channels: int) -> None:
    if channels != 1:
        raise DataError(_wrong_channels(path, channels))


def require_rate(path: str | Path, found: int, expected: int) -> None:
    if found != expected:
        raise DataError(_wrong_rate(path, found, expected))


def _wrong_channels(path: str | Path, channels: int) -> str:
    return (
        f"{path}: {channels} channels, expected 1; choose or mix one yourself, for example "
        f"with `sox IN OUT remix 1`"
    )


def _wrong_rate(path: str | Path, found: int, expected: int) -> str:
    return (
        f"{path}: sampled at {found} Hz, expected {expected} Hz; resample it, for example "
        f"with `sox IN -r {expected} OUT`"
    )


def _too_short(
    path: str | Path, samples: int, window_samples: float, sample_rate: int
) -> Iterator[str]:
    if samples < window_samples:
        window_ms = 1000 * window_samples / sample_rate
        yield (
            f"{path}: {samples} samples, expected at least one window of {window_samples:g} "
            f"({window_ms:g} ms); leave it out"
        )


def _says_endless(path: str | Path, samples: int) -> str:
    return (
        f"{path}: the header does not say how much audio follows (a stream); all {samples} samples "
        f"up to the end of the file are taken"
    )


def _not_finite(path: str | Path, waveform: Waveform, start: int = 0) -> Iterator[str]:
    """A sentence about the first sample, (S,) or (S, channels), that is no finite number."""
    finite = np.isfinite(waveform)
    if not finite.all():
        first, *channel = (int(n) for n in np.unravel_index(np.argmin(finite), finite.shape))
        yield (
            f"{path}: sample {start + first} is {waveform[first, *channel]}, expected a finite "
            f"number; write the file anew"
        )


def _cut_to_silence(path: str | Path, samples: Samples16, sample_rate: int) -> Iterator[str]:
    """A warning where stretches of the samples (S,) are exactly 0, as no microphone leaves them."""
    size = round(ZEROS_S * sample_rate)
    stretches = samples[: len(samples) // size * size].reshape(-1, size)
    share = float(np.mean(~stretches.any(axis=1))) if len(stretches) else 0.0
    if share > CUT:
        yield (
            f"{path}: cut to digital silence, {share:.1%} of it is exactly 0; features that are "
            f"normalised by utterance need features.dither_db=45, if it is not set"
        )


def _in_16_bits(waveform: Waveform) -> Samples16:
    scaled = np.rint(waveform * np.float32(FULL_SCALE))
    samples: Samples16 = np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    return samples


@dataclass
class _Levels:
    """What tells, of 16-bit samples that come in blocks, whether they are as recorded."""

    low: int = FULL_SCALE
    high: int = -FULL_SCALE - 1
    at_low: int = 0
    at_high: int = 0
    total: int = 0
    count: int = 0

    def add(self, samples: Samples16) -> None:
        low, high = int(samples.min()), int(samples.max())
        if low <= self.low:
            before = self.at_low if low == self.low else 0
            self.at_low = int(np.count_nonzero(samples == low)) + before
            self.low = low
        if high >= self.high:
            before = self.at_high if high == self.high else 0
            self.at_high = int(np.count_nonzero(samples == high)) + before
            self.high = high
        self.total += int(samples.sum(dtype=np.int64))
        self.count += samples.size

    @property
    def silent(self) -> bool:
        return self.low == self.high and self.count > 1

    def says_silent(self, path: str | Path) -> str:
        return (
            f"{path}: silent, all {self.count} samples are {self.low}; replace the file or leave "
            f"it out"
        )

    def distorted(self, path: str | Path) -> Iterator[str]:
        """Warnings about samples that are not as recorded."""
        peak = max(self.high, -self.low)
        if peak >= LOUD:
            share = (self.at_low + self.at_high) / self.count
            if share > (CLIPPED if peak >= FULL_SCALE - 1 else FLAT):
                yield (
                    f"{path}: clipped, {share:.2%} of the samples are at the extremes, {self.low} "
                    f"and {self.high} of {FULL_SCALE}"
                )
        offset = self.total / self.count / FULL_SCALE
        if abs(offset) > OFFSET:
            yield f"{path}: the mean is {offset:+.2%} of full scale, expected about 0 (DC offset)"


# ---------------------------------------------------------------- files


@dataclass(frozen=True)
class _Extent:
    """Samples per channel that a header promises and that the file has room for; None: unknown."""

    promised: int | None = None
    stored: int | None = None
    endless: bool = False  # a stream whose header was never completed
    ended: bool = True  # false: an Ogg stream without its last page


@contextmanager
def _open(path: str | Path) -> Iterator[tuple[soundfile.SoundFile, AudioInfo, _Extent]]:
    path = Path(path)
    try:
        with open(path, "rb") as raw:
            extent = _extent(raw)
    except FileNotFoundError:
        found = f"a link to {os.readlink(path)}, and there is" if path.is_symlink() else ""
        raise DataError(f"{path}: {found} no such file".replace(":  ", ": ")) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError) as error:
        raise DataError(_unreadable(path, error, extent)) from error
    with file:
        # Behind the samples that a SPHERE header promises, libsndfile reads whatever follows.
        samples = file.frames if extent.promised is None else min(file.frames, extent.promised)
        header = AudioInfo(samples, file.samplerate, file.channels)
        yield file, header, extent


def _unreadable(path: Path, error: Exception, extent: _Extent) -> str:
    with open(path, "rb") as file:
        header = file.read(1024)
    if header.startswith(b"NIST_1A") and b"shorten" in header:
        return (
            f"{path}: SPHERE compressed with shorten, which no library here reads; expand it "
            f"with `sph2pipe -f wav IN OUT` or `sox IN OUT`"
        )
    if not header:
        return f"{path}: not a readable audio file, it holds 0 bytes; fetch it again"
    if not extent.ended:
        return f"{path}: truncated, the Ogg stream has no last page; fetch it again"
    reason = str(error).partition(": ")[2].rstrip(".") or "format not recognised"
    return f"{path}: not a readable audio file ({reason}); fetch it again, or leave it out"


def _wrong_extent(path: str | Path, header: AudioInfo, extent: _Extent) -> Iterator[str]:
    if extent.promised and extent.stored is not None and extent.stored < extent.promised:
        says = f"the header says {extent.promised} samples, the file holds {extent.stored}"
        if _came_as_text(path):
            yield (
                f"{path}: damaged by a transfer in text mode, {says} and no byte 0x0D; fetch it "
                f"again as binary"
            )
        else:
            yield f"{path}: truncated, {says}; fetch it again"
    elif not extent.ended:
        yield f"{path}: truncated, the Ogg stream has no last page; fetch it again"
    elif header.samples < 1 and extent.stored:
        yield (
            f"{path}: no audio, the header says 0 samples where {extent.stored} have room; it was "
            f"never completed: write the file anew, for example with `sox --ignore-length IN OUT`"
        )
    elif header.samples < 1:
        yield f"{path}: no audio, the file holds zero samples; leave it out"


def _came_as_text(path: str | Path) -> bool:
    """Whether a file has no byte 0x0D (CR) where its count of 0x0A (LF) says that it had some.

    A transfer in text mode makes LF of CR LF and of CR.
    """
    line_feeds = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            if b"\r" in block:
                return False
            line_feeds += block.count(b"\n")
    return line_feeds >= LINE_FEEDS


def _intact(header: AudioInfo, extent: _Extent) -> AudioInfo | None:
    """The header of the file as it once was, so that its labels can still be judged."""
    samples = max(header.samples, extent.promised or 0, extent.stored or 0)
    return replace(header, samples=samples) if samples and extent.ended else None


def _read(
    path: str | Path,
    file: soundfile.SoundFile,
    samples: int,
    dtype: str,
    start: int = 0,
    stop: int | None = None,
) -> npt.NDArray[Any]:
    """Samples `start` to `stop`, of so many in all; the file stands at `start`."""
    wanted = (samples if stop is None else stop) - start
    try:
        found: npt.NDArray[Any] = file.read(wanted, dtype=dtype)
    except soundfile.LibsndfileError as error:
        raise DataError(
            f"{path}: truncated or damaged, the {file.format} stream cannot be decoded; "
            f"fetch it again"
        ) from error
    if len(found) < wanted:
        raise DataError(
            f"{path}: truncated, the header says {samples} samples, the file holds "
            f"{start + len(found)}; fetch it again"
        )
    return found


def _extent(file: BinaryIO) -> _Extent:
    """Compare the header of RIFF and SPHERE with the size of the file, which no library does."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(12)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        return _riff_extent(file, size)
    if head.startswith(b"NIST_1A"):
        return _sphere_extent(file, size)
    if head.startswith(b"OggS"):
        file.seek(max(0, size - 65_307))  # the longest page
        tail = file.read()
        last = tail[max(0, tail.rfind(b"OggS")) :]
        end = 27 + last[26] + sum(last[27 : 27 + last[26]]) if len(last) > 27 else 28
        return _Extent(ended=end <= len(last) and bool(last[5] & 4))
    return _Extent()


def _riff_extent(file: BinaryIO, size: int) -> _Extent:
    position, block = 12, 0
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        position += 8
        if name == b"fmt " and position + 14 <= size:
            kind, _, _, _, block = struct.unpack("<HHIIH", file.read(14))
            if kind not in (1, 3, 6, 7, 0xFFFE):  # compressed in blocks of several samples
                return _Extent()
        if name == b"data":
            if not block:
                return _Extent()
            stored = (size - position) // block
            if length >= STREAM and length > size:
                return _Extent(None, stored, endless=True)
            return _Extent(length // block, stored)
        position += length + length % 2
    return _Extent()


def _sphere_extent(file: BinaryIO, size: int) -> _Extent:
    file.seek(0)
    fields = {}
    for line in file.read(1024).split(b"\n"):
        name, _, typed = line.partition(b" -i ")
        if typed.strip().isdigit():
            fields[name] = int(typed)
        elif line.startswith(b"sample_coding") and not line.strip().endswith((b"pcm", b"ulaw")):
            return _Extent()
    file.seek(8)
    length = file.read(8).strip()
    block = fields.get(b"sample_n_bytes", 2) * fields.get(b"channel_count", 1)
    if b"sample_count" not in fields or not length.isdigit() or not block:
        return _Extent()
    return _Extent(fields[b"sample_count"], max(0, size - int(length)) // block)
