"""Audio files to waveforms through soundfile, with the checks that libraries leave out.

`load` and `inspect` read recordings of a corpus, and never resample or mix channels; `stream` reads
any recording, does both, and gives a warning. Files are what libsndfile reads: RIFF, NIST SPHERE
(also inside `.wav`), FLAC, Ogg/Opus and more; a path may name a member of a tar shard
(`asr.files.shards`), and `InMemory` has no path. Memory is bounded by what a file holds, whatever
its header announces.
"""

import hashlib
import io
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from asr.audio import checks, frames
from asr.audio.checks import Channels, Levels, Waveform
from asr.audio.headers import PADDING, AudioInfo, Extent, extent_of, unreadable
from asr.audio.kinds import conversion, other_kind
from asr.errors import DataError, raise_problems
from asr.files import in_a_line, shards

__all__ = ["BLOCK", "ENDINGS", "AudioInfo", "InMemory", "Inspection", "SilenceError", "Waveform"]
__all__ += ["convert", "from_array", "info", "inspect", "load", "on_disk", "stream"]

# Of the files that libsndfile reads, in lower case; it ignores the ending and looks at the content.
ENDINGS = (
    *(".wav", ".flac", ".opus", ".ogg", ".oga", ".mp3", ".aiff", ".aif", ".aifc", ".au"),
    *(".snd", ".sph", ".nist", ".caf", ".w64", ".rf64"),
)
BLOCK = 1 << 18  # samples that `stream` reads at a time
UNKNOWN_LENGTH = (
    "{}: the header does not say how much audio follows (a stream); all {} samples up to the end "
    "of the file are used"
)
NOT_READ = "{}: the last {} bytes are behind the audio, and are not read"
DITHER = "features that are normalised by utterance need features.dither_db=45, if it is not set"
STANDARD_INPUT = "-"
LARGEST_PIPE = 4 << 30  # bytes of a pipe or of standard input
EXACT_IN_INT16 = ("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW")


@dataclass(frozen=True)
class InMemory:
    """The content of an audio file that is on no disk; its name is only for messages."""

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


class SilenceError(DataError):
    """All samples of a recording are equal in 16 bits; nothing else is wrong with it."""

    def __init__(self, message: str, duration_s: float) -> None:
        super().__init__(message)
        self.duration_s = duration_s


@dataclass(frozen=True)
class Inspection:
    """Results of `inspect`; without a header, the file could not be opened."""

    header: AudioInfo | None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    content: int | None = None  # 64-bit hash of the 16-bit samples; None: silent, or not decoded


def info(path: str | Path | InMemory, sample_rate: int | None = None) -> AudioInfo:
    """The header; `DataError` if the file is unreadable, truncated or empty.

    With `sample_rate` also if it is not mono, or sampled at another rate.
    """
    with _open(path) as (_, header, extent):
        path = _named(path)
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
        path = _named(path)
        raise_problems(checks.wrong_format(path, header, sample_rate))
        raise_problems(checks.wrong_extent(path, header, extent))
        waveform: Waveform = _read(path, file, header.samples, "float32")
    raise_problems(checks.no_samples_of_audio(path, waveform))
    return waveform


def inspect(path: str | Path, sample_rate: int, window_samples: int = 1) -> Inspection:
    """Decode a file once and check all of it; problems are returned, nothing is raised.

    `window_samples` is the length of one analysis window of the features.
    """
    warnings: list[str] = []
    try:
        with _open(path) as (file, header, extent):
            path = _named(path)
            problems = [
                *checks.wrong_format(path, header, sample_rate),
                *checks.wrong_extent(path, header, extent),
            ]
            if problems:
                # the header before any damage, so that the labels can be checked against it
                count = max(header.samples, extent.promised or 0, extent.stored or 0)
                known = replace(header, samples=count) if count and extent.has_end else None
                return Inspection(known, tuple(problems))
            warnings.extend(_remarks(path, header, extent))
            dtype = "int16" if file.subtype in EXACT_IN_INT16 else "float32"
            samples = _read(path, file, header.samples, dtype)
    except DataError as error:
        return Inspection(None, error.problems)
    exact = samples
    if dtype == "float32":
        if problems := list(checks.no_samples_of_audio(path, samples)):
            return Inspection(header, tuple(problems))
        samples = checks.in_16_bits(samples)
    levels = Levels(round(checks.ZEROS_S * header.sample_rate))
    levels.add(samples, exact)
    if problems := [*levels.silent(path), *checks.swapped_bytes(path, samples)]:
        return Inspection(header, tuple(problems))
    warnings.extend(levels.distorted(path, checks.ZEROS, DITHER))
    return Inspection(
        header,
        tuple(checks.too_short(path, header.samples, window_samples, sample_rate)),
        tuple(warnings),
        int.from_bytes(hashlib.blake2b(samples.data, digest_size=8).digest(), byteorder="little"),
    )


def stream(
    path: str | Path | InMemory,
    sample_rate: int,
    window_samples: int,
    warn: Callable[[str], object],
    channel: int | None = None,
) -> Iterator[Waveform]:
    """Yield a file in blocks (S,), its channels mixed into one, at `sample_rate`.

    With `channel`, counted from 1, only that channel. The path may be a pipe, or `-` for standard
    input, which can be read once (`on_disk`). `warn` is called with a sentence for each change and
    each distortion. Raises `DataError` as `load` does, for a file that is shorter than one window
    of `window_samples` or of a rate that is not used, and `SilenceError` after the last block of a
    silent file.
    """
    with on_disk(path), _open(path) as (file, header, extent):
        path = _named(path)
        raise_problems(checks.wrong_extent(path, header, extent))
        for remark in _remarks(path, header, extent):
            warn(remark)
        size = max(1, BLOCK // header.channels)
        sizes = (min(size, header.samples - n) for n in range(0, header.samples, size))
        blocks = (_read(path, file, header.samples, "float32", wanted) for wanted in sizes)
        yield from _converted(path, header, blocks, sample_rate, window_samples, warn, channel)


def from_array(
    samples: npt.ArrayLike,
    rate: int,
    sample_rate: int,
    shortest: int,
    warn: Callable[[str], object] = lambda _: None,
    channel: int | None = None,
) -> Waveform:
    """An array (S,), or (S, channels), sampled at `rate` Hz, as `stream` reads its file: (S',).

    Integers of 8, 16 and 32 bits are scaled to [-1, 1]. Raises `DataError` for another type, shape
    or rate, for fewer than `shortest` samples at `sample_rate`, for silence, and for samples that
    are NaN, infinite, or far beyond [-1, 1].
    """
    array, most = np.asarray(samples), checks.MOST_CHANNELS
    if array.dtype.kind != "f" and array.dtype.name not in ("int8", "uint8", "int16", "int32"):
        raise DataError(
            f"the array: {array.dtype}, expected floats in [-1, 1], or integers of 8, 16 or 32 bits"
        )
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 0 < array.shape[1] <= most):
        hint = "; transpose it" if array.ndim == 2 and 0 < len(array) <= most else ""
        raise DataError(
            f"the array: shape {array.shape}, expected (samples,) or (samples, channels) with at "
            f"most {most} channels{hint}"
        )
    if not isinstance(rate, Real) or not 0 < rate <= checks.HIGHEST_RATE:
        raise DataError(f"the sample rate is {rate!r}, expected Hz, at most {checks.HIGHEST_RATE}")
    if array.dtype.kind == "f":
        raise_problems(checks.no_samples_of_audio("the array", array))
        block: Waveform = array.astype(np.float32)
    else:
        for warning in checks.in_fewer_bits("the array", array):
            warn(warning)
        middle = 128 if array.dtype == np.uint8 else 0
        block = ((array - float(middle)) * 2.0 ** (1 - 8 * array.itemsize)).astype(np.float32)
    header = AudioInfo(len(block), rate, 1 if block.ndim == 1 else block.shape[1])
    name = "the array"
    return np.concatenate(
        list(_converted(name, header, [block], sample_rate, shortest, warn, channel))
    )


def convert(
    path: str | Path, target: Path, sample_rate: int, window_samples: int, channel: int | None
) -> list[str]:
    """Write what `stream` reads as FLAC of 16 bits, and return its warnings."""
    warnings: list[str] = []
    try:
        with soundfile.SoundFile(target, "w", sample_rate, 1, "PCM_16", format="FLAC") as file:
            for block in stream(path, sample_rate, window_samples, warnings.append, channel):
                file.write(block)
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, soundfile.LibsndfileError):
            raise DataError(f"{target}: cannot be written ({error}); is the disk full?") from error
        raise
    return warnings


def _converted(
    name: str | Path,
    header: AudioInfo,
    blocks: Iterable[Waveform],
    sample_rate: int,
    window_samples: int,
    warn: Callable[[str], object],
    channel: int | None,
) -> Iterator[Waveform]:
    """Blocks (S,) or (S, channels), checked, mixed and resampled, each (S',)."""
    rate = header.sample_rate
    is_number = isinstance(channel, int | np.integer)
    if channel is not None and not (is_number and 1 <= channel <= header.channels):
        raise DataError(
            f"{name}: no channel {channel!r}, expected "
            + (f"1 to {header.channels}" if header.channels > 1 else "1, the only one in it")
        )
    shortest = window_samples * rate / sample_rate
    raise_problems(checks.beyond_use(name, header))
    raise_problems(checks.too_short(name, header.samples, shortest, rate))
    changes = {
        f"{header.channels} channels mixed into one": header.channels != 1 and channel is None,
        f"resampled from {rate} Hz to {sample_rate} Hz": rate != sample_rate,
        f"nothing above {rate // 2} Hz is in it, so expect more errors": rate < sample_rate,
    }
    if any(changes.values()):
        warn(f"{name}: {', '.join(change for change, is_made in changes.items() if is_made)}")
    resampler = soxr.ResampleStream(rate, sample_rate, 1) if rate != sample_rate else None
    run = round(checks.ZEROS_S * rate * (1 if channel else header.channels))
    levels, channels = Levels(run), Channels(header.channels)
    done = 0
    for block in blocks:
        raise_problems(checks.no_samples_of_audio(name, block, done))
        if block.ndim == 2 and channel is None:
            channels.add(block)
        elif block.ndim == 2:
            block = block[:, (channel or 1) - 1]
        samples = checks.in_16_bits(block)
        if not done:
            raise_problems(checks.swapped_bytes(name, samples.reshape(len(block), -1)[:, 0]))
        levels.add(samples, block)
        done += len(block)
        mono: Waveform = block.mean(axis=1) if block.ndim == 2 else block
        if resampler is not None:
            mono = resampler.resample_chunk(mono, last=done == header.samples)
        yield mono
    for problem in levels.silent(name):
        raise SilenceError(problem, header.duration_s)
    distorted = levels.distorted(name, checks.MOSTLY_ZEROS, "expected speech; cut that out")
    for warning in (*distorted, *channels.unfit_to_mix(name)):
        warn(warning)


def _remarks(path: str | Path, header: AudioInfo, extent: Extent) -> Iterator[str]:
    if extent.endless:
        yield UNKNOWN_LENGTH.format(path, header.samples)
    if extent.left > PADDING:
        yield NOT_READ.format(path, extent.left)


# ── pipes ────────────────────────────────────────────────────────────────────────────────────

_copies: dict[str, str] = {}  # of pipes that are being read → files with what came


@contextmanager
def on_disk(path: str | Path | InMemory) -> Iterator[None]:
    """While this is open, a pipe or standard input (`-`) can be read as often as a file.

    It is copied to a temporary file, of at most `LARGEST_PIPE` bytes. Raises `DataError` for a
    device, a socket, or a terminal.
    """
    if isinstance(path, InMemory):
        yield
        return
    name, called = str(path), _named(path)
    is_input = name == STANDARD_INPUT
    if name in _copies or not (is_input or _is_special(path)):
        yield
        return
    with ExitStack() as stack:
        copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="asr-audio-"))
        try:
            opened = sys.stdin.buffer if is_input else stack.enter_context(open(path, "rb"))
            mode = os.fstat(opened.fileno()).st_mode
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                kind = "a terminal" if opened.isatty() else "a device"
                raise DataError(f"{called}: is {kind}, expected audio from a file or a pipe")
            size = 0
            while block := opened.read(1 << 20):
                size += len(block)
                if size > LARGEST_PIPE:
                    raise DataError(
                        f"{called}: more than {LARGEST_PIPE >> 20} MB came; "
                        f"write it to a file first"
                    )
                copy.write(block)
            copy.flush()
        except (OSError, ValueError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{called}: cannot be read ({error})") from error
        _copies[name] = copy.name
        try:
            yield
        finally:
            del _copies[name]


def _is_special(path: str | Path) -> bool:
    """Whether a path is neither a file nor a folder, nor absent."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _named(path: str | Path | InMemory) -> str:
    """How messages call a recording."""
    return in_a_line(path.name if isinstance(path, InMemory) else path)


# ── files ────────────────────────────────────────────────────────────────────────────────────


def _opened(path: str | Path | InMemory, place: str | Path) -> BinaryIO:
    """A file, or what is in memory; `place` is where a pipe was copied to, or the path."""
    if isinstance(path, InMemory):
        return io.BytesIO(path.content)
    if place is path and _is_special(path):
        raise DataError(f"{_named(path)}: is a pipe or a device, expected a file; copy it to one")
    try:
        return shards.opened(place)
    except OSError as error:
        raise unreadable(error, place, _named(path)) from None


def _nameless(is_here: bool) -> BinaryIO:
    """A file without a name on the disk; `is_here`: in memory, where the system has such files.

    libsndfile reads damaged files through it as it reads others. Through Python's own files in
    memory it does not: they raise where it seeks before the beginning.
    """
    if is_here and hasattr(os, "memfd_create"):
        return open(os.memfd_create("asr-audio"), "w+b")
    return cast(BinaryIO, tempfile.TemporaryFile())


@contextmanager
def _open(
    source: str | Path | InMemory,
) -> Iterator[tuple[soundfile.SoundFile, AudioInfo, Extent]]:
    path = _named(source)
    place = path if isinstance(source, InMemory) else _copies.get(str(source), source)
    with ExitStack() as stack:
        original = stack.enter_context(_opened(source, place))
        try:
            extent, head = extent_of(original)
        except OSError as error:
            raise unreadable(error, place, path) from None
        if not head:
            raise DataError(f"{path}: not a readable audio file, it holds 0 bytes; fetch it again")
        if (kind := other_kind(path, head)) is not None:
            raise DataError(f"{path}: {kind}")
        if head.startswith((b"ID3", b"\xff")):  # of a damaged MP3, libmpg123 prints warnings
            raise_problems(checks.wrong_extent(path, AudioInfo(1, 1, 1), extent))
        try:
            original.seek(0)
            # soundfile cannot encode every name
            view: int | bytes = os.fsencode(place)
            is_here = isinstance(original, io.BytesIO)
            if extent.patch is not None or is_here:
                # without a name, which a killed process would leave
                copy = stack.enter_context(_nameless(is_here))
                (extent.patch or frames.Patch()).apply(original, copy)
                view = copy.fileno()
            file = stack.enter_context(soundfile.SoundFile(view, closefd=False))
        except (soundfile.LibsndfileError, TypeError) as error:
            raise_problems(checks.wrong_extent(path, AudioInfo(1, 1, 1), extent))
            reason = getattr(error, "error_string", "").rstrip(".")
            if not reason or "not exist" in reason:  # which libsndfile says of some MPEG audio
                reason = "format not recognised"
            raise DataError(
                f"{path}: not a readable audio file ({reason}); fetch it again, or "
                f"{conversion(path)}"
            ) from error
        extent = extent.in_samples(file.subtype, file.channels)
        # Behind the samples that a SPHERE header promises, libsndfile reads whatever follows.
        samples = file.frames if extent.promised is None else min(file.frames, extent.promised)
        yield file, AudioInfo(samples, file.samplerate, file.channels), extent


def _read(
    path: str | Path, file: soundfile.SoundFile, samples: int, dtype: str, wanted: int | None = None
) -> npt.NDArray[Any]:
    """The next `wanted` samples of a file of `samples`, by default all of them."""
    parts: list[npt.NDArray[Any]] = []
    left = samples if wanted is None else wanted
    while left or not parts:
        size = min(left, BLOCK)  # memory for what is there, not for what was announced
        try:
            part = file.read(size, dtype=dtype)
        except (soundfile.LibsndfileError, AssertionError) as error:
            raise DataError(
                f"{path}: truncated or damaged, the {file.format} stream cannot be decoded; "
                f"fetch it again"
            ) from error
        if len(part) < size:
            raise DataError(
                f"{path}: truncated, the header says {samples} samples, the file holds "
                f"{file.tell()}; fetch it again"
            )
        parts.append(part)
        left -= size
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
