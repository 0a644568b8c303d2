"""Files to waveforms: `load` and `inspect` for recordings of a corpus, `stream` for any recording.

`load` never resamples and never mixes channels; `stream` does both and gives a warning.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
LOWEST_RATE = 4_000  # below it there is no speech, and the resampled audio would fill any memory
EXACT_IN_INT16 = ("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW")


@dataclass(frozen=True)
class Inspection:
    """Results of `inspect`; without a header, the file could not be opened."""

    header: AudioInfo | None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    content: int | None = None  # 64-bit hash of the 16-bit samples; None: silent, or not decoded


def info(path: str | Path) -> AudioInfo:
    """The header; `DataError` if the file is unreadable, truncated or empty."""
    with _open(path) as (_, header, extent):
        raise_problems(checks.wrong_extent(path, header, extent))
    return header


def load(path: str | Path, sample_rate: int = 16_000) -> Waveform:
    """The waveform (S,) as float32 in [-1, 1].

    Raises `DataError` for a file that is unreadable, truncated, empty, not mono, not at
    `sample_rate`, or that holds a sample that is not a finite number.
    """
    with _open(path) as (file, header, extent):
        checks.require_mono(path, header.channels)
        checks.require_rate(path, header.sample_rate, sample_rate)
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
                *checks.wrong_channels(path, header.channels),
                *checks.wrong_rate(path, header.sample_rate, sample_rate),
                *checks.wrong_extent(path, header, extent),
            ]
            if problems:
                return Inspection(_undamaged(header, extent), tuple(problems))
            if extent.endless:
                warnings.append(checks.unknown_length(path, header.samples))
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
    `LOWEST_RATE`, and after the last block of a file that is silent.
    """
    with _open(path) as (file, header, extent):
        rate = header.sample_rate
        raise_problems(checks.wrong_extent(path, header, extent))
        shortest = window_samples * rate / sample_rate
        raise_problems(checks.too_short(path, header.samples, shortest, rate))
        if rate < LOWEST_RATE:
            raise DataError(
                f"{path}: sampled at {rate} Hz, expected at least {LOWEST_RATE} Hz; is the header "
                f"right?"
            )
        if extent.endless:
            warn(checks.unknown_length(path, header.samples))
        if changes := list(_changes(header, sample_rate)):
            warn(f"{path}: {', '.join(changes)}")
        resampler = soxr.ResampleStream(rate, sample_rate, 1) if rate != sample_rate else None
        levels = Levels()
        size = max(1, BLOCK // header.channels)
        for start in range(0, header.samples, size):
            stop = min(start + size, header.samples)
            block: Waveform = _read(path, file, header.samples, "float32", start, stop)
            raise_problems(checks.not_finite(path, block, start))
            levels.add(checks.in_16_bits(block))
            mono = block.mean(axis=1) if block.ndim == 2 else block
            if resampler is not None:
                mono = resampler.resample_chunk(mono, last=stop == header.samples)
            yield mono
    raise_problems(levels.silent(path))
    for warning in levels.distorted(path):
        warn(warning)


def from_array(samples: npt.ArrayLike, rate: int, sample_rate: int, shortest: int) -> Waveform:
    """An array (S,), or (S, channels), sampled at `rate` Hz, as `stream` reads its file: (S',).

    Integers are scaled to [-1, 1]. Raises `DataError` for another shape, for fewer than `shortest`
    samples at `sample_rate`, for silence, and for samples that are not finite numbers.
    """
    name = "the array"
    array = np.asarray(samples)
    if array.ndim not in (1, 2) or array.dtype.kind not in "iuf":
        raise DataError(
            f"{name}: shape {array.shape} of {array.dtype}, expected (samples,) or (samples, "
            f"channels) of numbers"
        )
    if rate < LOWEST_RATE:
        raise DataError(f"{name}: sampled at {rate} Hz, expected at least {LOWEST_RATE} Hz")
    scale = 1.0 if array.dtype.kind == "f" else float(np.iinfo(array.dtype).max) + 1
    waveform = (array / scale).astype(np.float32)
    raise_problems(checks.too_short(name, len(waveform), shortest * rate / sample_rate, rate))
    raise_problems(checks.not_finite(name, waveform))
    levels = Levels()
    levels.add(checks.in_16_bits(waveform))
    raise_problems(levels.silent(name))
    mono: Waveform = waveform.mean(axis=1) if waveform.ndim == 2 else waveform
    if rate != sample_rate:
        mono = soxr.ResampleStream(rate, sample_rate, 1).resample_chunk(mono, last=True)
    return mono


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
    path: str | Path,
    file: soundfile.SoundFile,
    samples: int,
    dtype: str,
    start: int = 0,
    stop: int | None = None,
) -> npt.NDArray[Any]:
    """Samples `start` to `stop` of a file of `samples`, whose read position is `start`."""
    wanted = (samples if stop is None else stop) - start
    try:
        block: npt.NDArray[Any] = file.read(wanted, dtype=dtype)
    except soundfile.LibsndfileError as error:
        raise DataError(
            f"{path}: truncated or damaged, the {file.format} stream cannot be decoded; "
            f"fetch it again"
        ) from error
    if len(block) < wanted:
        raise DataError(
            f"{path}: truncated, the header says {samples} samples, the file holds "
            f"{start + len(block)}; fetch it again"
        )
    return block
