"""Speech while it comes: from a pipe, or from a microphone, in blocks of any size."""

import io
import queue
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr

from asr.audio import checks
from asr.audio.checks import Waveform
from asr.audio.headers import ENDLESS, WIDTHS, AudioInfo
from asr.errors import DataError, did_you_mean, pip_install, raise_problems

# Encodings of raw samples, as sox and ffmpeg call them, little-endian: libsndfile's names.
ENCODINGS = {
    **{"s8": "PCM_S8", "u8": "PCM_U8", "s16": "PCM_16", "s24": "PCM_24", "s32": "PCM_32"},
    **{"f32": "FLOAT", "f64": "DOUBLE", "ulaw": "ULAW", "alaw": "ALAW"},
}
OF_WAV = {  # coding and bits → encoding
    **{(1, 8): "u8", (1, 16): "s16", (1, 24): "s24", (1, 32): "s32"},
    **{(3, 32): "f32", (3, 64): "f64", (6, 8): "alaw", (7, 8): "ulaw"},
}
EXTENSIBLE = 0xFFFE  # its coding is in the fields behind
MOST_BYTES = 1 << 16  # that are read at a time, of those that are there
MOST_HEADER = 1 << 20  # bytes of a chunk before the samples
INPUT = "standard input"
OTHERS = {b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3", b"NIST": "SPHERE", b"FORM": "AIFF"}
OTHERS |= {b"caff": "CAF", b".snd": "AU", b"RF64": "RF64", b"RIFX": "RIFX"}
WAIT_S = 0.2  # after which a wait for the microphone looks for Ctrl-C


class Incoming(NamedTuple):
    """Where samples come from, and they themselves, each (S, channels) floats in [-1, 1]."""

    name: str
    sample_rate: int
    channels: int
    blocks: Iterator[Waveform]


def pipe(
    file: io.BufferedReader,
    sample_rate: int | None = None,
    encoding: str | None = None,
    channels: int | None = None,
    warn: Callable[[str], object] = lambda _: None,
) -> Incoming:
    """What comes through a pipe: WAV, which says what it is, or raw samples, of which it is said.

    `warn` gets a sentence where a WAV ends before its header says. Raises `DataError` for a
    terminal, another format, and raw samples without rate and encoding.
    """
    if file.isatty():
        raise DataError(
            f"{INPUT} is a terminal, expected audio from a pipe, as in `arecord -f S16_LE -r 16000 "
            f"| asr listen`"
        )
    if channels is not None and channels < 1:
        raise DataError(f"--channels is {channels}, expected 1 or more")
    head = _exactly(file, 4)
    said = {"--rate": sample_rate, "--encoding": encoding, "--channels": channels}
    if head == b"RIFF":
        own_rate, own_encoding, own_channels, size = _wav_header(file)
        own = {"--rate": own_rate, "--encoding": own_encoding, "--channels": own_channels}
        for flag, value in said.items():
            if value not in (None, own[flag]):
                raise DataError(
                    f"{INPUT}: its WAV header has {own[flag]} for {flag} {value}; leave {flag} out"
                )
        blocks = _decoded(file, b"", own_encoding, own_channels, size, warn)
        return Incoming(INPUT, own_rate, own_channels, blocks)
    if not head:
        raise DataError(f"{INPUT}: nothing came, expected WAV or raw samples")
    if sample_rate is None or encoding is None:
        kind = next((name for magic, name in OTHERS.items() if head.startswith(magic)), "")
        if kind:
            fix = "`ffmpeg -i … -f wav - | asr listen` makes it that"
            raise DataError(f"{INPUT}: is {kind}, expected WAV or raw samples; {fix}")
        raise DataError(
            f"{INPUT}: has no WAV header; for raw samples set --rate and --encoding, for example "
            f"--rate 16000 --encoding s16"
        )
    if encoding not in ENCODINGS:
        hint = did_you_mean(encoding, ENCODINGS)
        raise DataError(f"--encoding is {encoding!r}, expected one of {', '.join(ENCODINGS)}{hint}")
    blocks = _decoded(file, head, encoding, channels or 1, None, warn)
    return Incoming(INPUT, sample_rate, channels or 1, blocks)


def _exactly(file: io.BufferedReader, count: int) -> bytes:
    """The next bytes, fewer only at the end."""
    parts = b""
    while len(parts) < count and (part := file.read(count - len(parts))):
        parts += part
    return parts


def _wav_header(file: io.BufferedReader) -> tuple[int, str, int, int | None]:
    """Rate, encoding, channels and bytes of the samples, None up to the end; reads up to these."""
    fields: tuple[int, ...] = ()
    if _exactly(file, 8)[4:] != b"WAVE":
        raise DataError(f"{INPUT}: is RIFF, but no WAV; convert it with `ffmpeg -i … -f wav -`")
    while len(head := _exactly(file, 8)) == 8:
        name, (size,) = head[:4], struct.unpack("<I", head[4:])
        if name == b"data" and fields:
            coding, channels, rate, bits = fields
            encoding = OF_WAV.get((coding, bits))
            if encoding is None or not channels or not rate:
                raise DataError(
                    f"{INPUT}: WAV of coding {coding} with {bits} bits, {channels} channels and "
                    f"{rate} Hz, expected PCM; `ffmpeg -i … -c:a pcm_s16le -f wav -` makes it that"
                )
            return rate, encoding, channels, size if 0 < size < ENDLESS else None
        if name == b"data" or size > MOST_HEADER:
            break
        content = _exactly(file, size + size % 2)
        if name == b"fmt " and len(content) >= 16:
            coding, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
            if coding == EXTENSIBLE and len(content) >= 26:
                (coding,) = struct.unpack("<H", content[24:26])
            fields = coding, channels, rate, bits
    raise DataError(f"{INPUT}: a WAV header without samples behind it; send the whole file")


def _decoded(
    file: io.BufferedReader,
    begin: bytes,
    encoding: str,
    channels: int,
    size: int | None,
    warn: Callable[[str], object],
) -> Iterator[Waveform]:
    """Blocks as they come, (S, channels); `size` counts the bytes of samples."""
    subtype = ENCODINGS[encoding]
    width, rest, left = WIDTHS[subtype] * channels, begin, size
    while left is None or left > 0:
        if not (data := file.read1(MOST_BYTES)):
            if size is not None and left:
                warn(
                    f"{INPUT}: ended behind {size - left} of the {size} bytes of samples that its "
                    f"WAV header says; the end is missing"
                )
            return
        if left is not None:
            data, left = data[:left], left - len(data[:left])
        data = rest + data
        whole = len(data) // width * width
        rest = data[whole:]
        if whole:
            samples = soundfile.read(
                io.BytesIO(data[:whole]),
                dtype="float32",
                always_2d=True,
                samplerate=8000,  # which nothing depends on
                channels=channels,
                format="RAW",
                subtype=subtype,
                endian="LITTLE",
            )[0]
            if not np.isfinite(samples).all():
                raise DataError(
                    f"{INPUT}: read as {encoding}, its samples are no numbers; is the encoding "
                    f"right?"
                )
            yield samples


def microphone(device: str | None, sample_rate: int, warn: Callable[[str], object]) -> Incoming:
    """A microphone, by its name or number in `python -m sounddevice`, or else the default one.

    It is asked for `sample_rate`, and gives its own where it has no other. Raises `DataError` where
    sounddevice, PortAudio or the device is missing.
    """
    try:
        import sounddevice
    except ModuleNotFoundError as error:
        install = pip_install("microphone")
        raise DataError(
            f"the microphone needs sounddevice, which is not installed; run: {install}, or send "
            f"audio through a pipe, as in `arecord -f S16_LE -r 16000 | asr listen`"
        ) from error
    except OSError as error:
        raise DataError(
            f"the microphone needs the library PortAudio ({error}); install it (Debian, Ubuntu: "
            f"apt install libportaudio2)"
        ) from error
    wanted: int | str | None = int(device) if device is not None and device.isdecimal() else device
    try:
        chosen = sounddevice.query_devices(wanted, "input")
        rate = sample_rate
        try:
            sounddevice.check_input_settings(wanted, 1, "float32", None, rate)
        except sounddevice.PortAudioError:
            rate = round(chosen["default_samplerate"])
            sounddevice.check_input_settings(wanted, 1, "float32", None, rate)
    except (sounddevice.PortAudioError, ValueError) as error:
        which = "no microphone" if device is None else f"no microphone {device!r}"
        raise DataError(
            f"{which} that can be read ({error}); `python -m sounddevice` lists them"
        ) from error
    return Incoming(chosen["name"], rate, 1, _recorded(sounddevice, wanted, rate, warn))


def _recorded(
    sounddevice: Any, device: int | str | None, rate: int, warn: Callable[[str], object]
) -> Iterator[Waveform]:
    blocks: queue.SimpleQueue[Waveform] = queue.SimpleQueue()
    lost = False

    def take(data: Any, frames: int, time: Any, status: Any) -> None:
        nonlocal lost
        if status and not lost:
            lost = True
            warn(f"the microphone: {status}; samples were lost, so that times are too early")
        blocks.put(data.copy())

    with sounddevice.InputStream(
        rate, 0, device, 1, "float32", latency="low", callback=take
    ) as stream:
        while stream.active:
            try:
                yield blocks.get(timeout=WAIT_S)
            except queue.Empty:
                continue
    raise DataError("the microphone is gone; connect it again")


def mono(
    blocks: Iterable[Waveform], rate: int, sample_rate: int, channel: int | None = None
) -> Iterator[Waveform]:
    """Blocks (S, channels) at `rate` as (S',) at `sample_rate`, mixed, or one channel from 1.

    Resampled by soxr, which holds some milliseconds back until more comes.
    """
    resampler = soxr.ResampleStream(rate, sample_rate, 1) if rate != sample_rate else None
    for block in blocks:
        one: Waveform = block.mean(axis=1) if channel is None else block[:, channel - 1]
        yield one if resampler is None else resampler.resample_chunk(one)
    if resampler is not None:
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def require_use(incoming: Incoming, channel: int | None) -> None:
    """Raise `DataError` for a rate that is not used, or a channel that is not there."""
    name, rate, channels, _ = incoming
    raise_problems(checks.beyond_use(name, AudioInfo(0, rate, channels)))
    if channel is not None and not 1 <= channel <= channels:
        expected = f"1 to {channels}" if channels > 1 else "1, the only one in it"
        raise DataError(f"{name}: no channel {channel}, expected {expected}")
