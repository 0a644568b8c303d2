"""Files to waveforms: `load` and `inspect` for recordings of a corpus, `stream` for any recording.

`load` never resamples and never mixes channels; `stream` does both and gives a warning.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from asr.audio import checks
from asr.audio.checks import Levels, Waveform
from asr.audio.headers import AudioInfo, Extent, extent_of
from asr.errors import DataError, raise_problems

# Of the files that libsndfile reads, in lower case; it ignores the ending and looks at the content.
ENDINGS = (".wav", ".flac", ".opus", ".ogg", ".oga", ".mp3", ".aiff", ".aif", ".au", ".sph", ".caf")
BLOCK = 1 << 18  # samples that `stream` reads at a time
UNKNOWN_LENGTH = (
    "{}: the header does not say how much audio follows (a stream); all {} samples up to the end "
    "of the file are used"
)
MOST_CHANNELS = 64  # of an array; with more, its axes are taken to be exchanged
HIGHEST_RATE = 1_000_000  # Hz of an array
EXACT_IN_INT16 = ("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW")


@dataclass(frozen=True)
class Inspection:
    """Results of `inspect`; without a header, the file could not be opened."""

    header: AudioInfo | None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    content: int | None = None  # 64-bit hash of the 16-bit samples; None: silent, or not decoded


def info(path: str | Path, sample_rate: int | None = None) -> AudioInfo:
    """The header; `DataError` if the file is unreadable, truncated or empty.

    With `sample_rate` also if it is not mono, or sampled at another rate.
    """
    with _open(path) as (_, header, extent):
        if sample_rate is not None:
            raise_problems(checks.wrong_format(path, header, sample_rate))
        raise_problems(checks.wrong_extent(path, header, extent))
    return header


def load(path: str | Path, sample_rate: int = 16_000) -> Waveform:
    """The waveform (S,) as float32 in [-1, 1].

    Raises `DataError` for a file that is unreadable, truncated, empty, not mono, not at
    `sample_rate`, or that holds a sample that is not a finite number.
    """
    with _open(path) as (file, header, extent):
        raise_problems(checks.wrong_format(path, header, sample_rate))
        raise_problems(checks.wrong_extent(path, header, extent))
        waveform: Waveform = _read(path, file, header.samples, "float32")
    raise_problems(checks.not_finite(path, waveform))
    return waveform


def inspect(path: str | Path, sample_rate: int, window_samples: int = 1) -> Inspection:
    """Decode a file once and check all of it; problems are returned, nothing is raised.

    `window_samples` is the length of one analysis window of the features.
    """
    warnings: list[str] = []
    try:
        with _open(path) as (file, header, extent):
            problems = [
                *checks.wrong_format(path, header, sample_rate),
                *checks.wrong_extent(path, header, extent),
            ]
            if problems:
                return Inspection(_undamaged(header, extent), tuple(problems))
            if extent.endless:
                warnings.append(UNKNOWN_LENGTH.format(path, header.samples))
            dtype = "int16" if file.subtype in EXACT_IN_INT16 else "float32"
            samples = _read(path, file, header.samples, dtype)
    except DataError as error:
        return Inspection(None, error.problems)
    if dtype == "float32":
        if problems := list(checks.not_finite(path, samples)):
            return Inspection(header, tuple(problems))
        samples = checks.in_16_bits(samples)
    levels = Levels()
    levels.add(samples)
    if problems := list(levels.silent(path)):
        return Inspection(header, tuple(problems))
    warnings.extend(levels.distorted(path))
    warnings.extend(checks.digital_silence(path, samples, header.sample_rate))
    return Inspection(
        header,
        tuple(checks.too_short(path, header.samples, window_samples, sample_rate)),
        tuple(warnings),
        int.from_bytes(hashlib.blake2b(samples.data, digest_size=8).digest(), byteorder="little"),
    )


def stream(
    path: str | Path, sample_rate: int, window_samples: int, warn: Callable[[str], object]
) -> Iterator[Waveform]:
    """Yield a file in blocks (S,), its channels mixed into one, at `sample_rate`.

    `warn` is called with a sentence for each change and each distortion. Raises `DataError` as
    `load` does, for a file that is shorter than one window of `window_samples` or below
    `checks.LOWEST_RATE`, and after the last block of a file that is silent.
    """
    with _open(path) as (file, header, extent):
        raise_problems(checks.wrong_extent(path, header, extent))
        if extent.endless:
            warn(UNKNOWN_LENGTH.format(path, header.samples))
        size = max(1, BLOCK // header.channels)
        sizes = (min(size, header.samples - n) for n in range(0, header.samples, size))
        blocks = (_read(path, file, header.samples, "float32", wanted) for wanted in sizes)
        yield from _converted(path, header, blocks, sample_rate, window_samples, warn)


def from_array(samples: npt.ArrayLike, rate: int, sample_rate: int, shortest: int) -> Waveform:
    """An array (S,), or (S, channels), sampled at `rate` Hz, as `stream` reads its file: (S',).

    int16 and int32 are scaled to [-1, 1]. Raises `DataError` for another type, shape or rate, for
    fewer than `shortest` samples at `sample_rate`, for silence, and for NaN or infinite samples.
    """
    array = np.asarray(samples)
    if array.dtype.kind != "f" and array.dtype not in (np.int16, np.int32):
        raise DataError(f"the array: {array.dtype}, expected floats in [-1, 1], int16 or int32")
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 0 < array.shape[1] <= MOST_CHANNELS):
        hint = "; transpose it" if array.ndim == 2 and len(array) <= MOST_CHANNELS else ""
        raise DataError(
            f"the array: shape {array.shape}, expected (samples,) or (samples, channels) with at "
            f"most {MOST_CHANNELS} channels{hint}"
        )
    if not isinstance(rate, Real) or not 0 < rate <= HIGHEST_RATE:
        raise DataError(f"the sample rate is {rate!r}, expected Hz, at most {HIGHEST_RATE}")
    scale = 1.0 if array.dtype.kind == "f" else float(np.iinfo(array.dtype).max) + 1
    block: Waveform = (array / scale).astype(np.float32)
    header = AudioInfo(len(block), rate, 1 if block.ndim == 1 else block.shape[1])
    (mono,) = _converted("the array", header, [block], sample_rate, shortest, warn=lambda _: None)
    return mono


def _converted(
    name: str | Path,
    header: AudioInfo,
    blocks: Iterable[Waveform],
    sample_rate: int,
    window_samples: int,
    warn: Callable[[str], object],
) -> Iterator[Waveform]:
    """Blocks (S,) or (S, channels), checked, mixed and resampled, each (S',)."""
    rate = header.sample_rate
    shortest = window_samples * rate / sample_rate
    raise_problems(checks.too_short(name, header.samples, shortest, rate))
    raise_problems(checks.too_slow(name, rate))
    if changes := list(_changes(header, sample_rate)):
        warn(f"{name}: {', '.join(changes)}")
    resampler = soxr.ResampleStream(rate, sample_rate, 1) if rate != sample_rate else None
    levels = Levels()
    done = 0
    for block in blocks:
        raise_problems(checks.not_finite(name, block, done))
        levels.add(checks.in_16_bits(block))
        done += len(block)
        mono: Waveform = block.mean(axis=1) if block.ndim == 2 else block
        if resampler is not None:
            mono = resampler.resample_chunk(mono, last=done == header.samples)
        yield mono
    raise_problems(levels.silent(name))
    for warning in levels.distorted(name):
        warn(warning)


def _changes(header: AudioInfo, sample_rate: int) -> Iterator[str]:
    if header.channels != 1:
        yield f"{header.channels} channels mixed into one"
    if header.sample_rate != sample_rate:
        yield f"resampled from {header.sample_rate} Hz to {sample_rate} Hz"
    if header.sample_rate < sample_rate:
        yield f"nothing above {header.sample_rate // 2} Hz is in it, so expect more errors"


@contextmanager
def _open(path: str | Path) -> Iterator[tuple[soundfile.SoundFile, AudioInfo, Extent]]:
    path = Path(path)
    extent = extent_of(path)
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError) as error:
        raise DataError(_unreadable(path, error, extent)) from error
    with file:
        # Behind the samples that a SPHERE header promises, libsndfile reads whatever follows.
        samples = file.frames if extent.promised is None else min(file.frames, extent.promised)
        yield file, AudioInfo(samples, file.samplerate, file.channels), extent


def _unreadable(path: Path, error: Exception, extent: Extent) -> str:
    with open(path, "rb") as file:
        header = file.read(1024)
    if header.startswith(b"NIST_1A") and b"shorten" in header:
        return (
            f"{path}: SPHERE compressed with shorten, which no library here reads; expand it "
            f"with `sph2pipe -f wav IN OUT` or `sox IN OUT`"
        )
    if not header:
        return f"{path}: not a readable audio file, it holds 0 bytes; fetch it again"
    if not extent.has_end:
        return f"{path}: truncated, the Ogg stream has no last page; fetch it again"
    reason = str(error).partition(": ")[2].rstrip(".") or "format not recognised"
    return f"{path}: not a readable audio file ({reason}); fetch it again, or leave it out"


def _undamaged(header: AudioInfo, extent: Extent) -> AudioInfo | None:
    """The header before any damage to the file, so that the labels can be checked against it."""
    samples = max(header.samples, extent.promised or 0, extent.stored or 0)
    return replace(header, samples=samples) if samples and extent.has_end else None


def _read(
    path: str | Path, file: soundfile.SoundFile, samples: int, dtype: str, wanted: int | None = None
) -> npt.NDArray[Any]:
    """The next `wanted` samples of a file of `samples`, by default all of them."""
    wanted = samples if wanted is None else wanted
    try:
        block: npt.NDArray[Any] = file.read(wanted, dtype=dtype)
    except soundfile.LibsndfileError as error:
        raise DataError(
            f"{path}: truncated or damaged, the {file.format} stream cannot be decoded; "
            f"fetch it again"
        ) from error
    if len(block) < wanted:
        raise DataError(
            f"{path}: truncated, the header says {samples} samples, the file holds {file.tell()}; "
            f"fetch it again"
        )
    return block
