"""Headers against files: how many samples a file announces, and for how many it has room.

libsndfile trusts headers. It reads truncated RIFF, AIFF, W64, AU and SPHERE files without an error,
stops where a header announces less than there is, and takes an MP3 without a Xing header for what
its first frame's bit rate makes of the file size. Where a header leaves the length open, which is
legal of a stream, the length is found here, and put into the header when the file is opened.
"""

import os
import re
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from asr.audio import frames
from asr.errors import DataError

ENDLESS = 0x7FFF0000  # a data chunk of this size or more: length unknown (ffmpeg and arecord in a
# pipe; sox too, whose 0x7FFFF000 is rounded down to whole samples)
PADDING = 1024  # bytes that may follow the audio without a word
LINE_FEEDS = 50  # a file with fewer bytes 0x0A may have no 0x0D by chance
TEXT_BLOCK = 1 << 18  # bytes
WIDTHS = {  # bytes of a sample
    **dict.fromkeys(("PCM_S8", "PCM_U8", "ULAW", "ALAW"), 1),
    **{"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8},
}


@dataclass(frozen=True)
class AudioInfo:
    """Length, rate and channels of a file: samples per channel, samples per second."""

    samples: int
    sample_rate: int
    channels: int

    @property
    def duration_s(self) -> float:
        return self.samples / self.sample_rate


@dataclass(frozen=True)
class Extent:
    """Samples per channel that a header promises and that the file has room for; None: unknown."""

    promised: int | None = None
    stored: int | None = None
    endless: bool = False  # a stream whose header was never completed
    has_end: bool = True  # false: an Ogg stream without its last page
    fault: str = ""  # how the header contradicts itself or the file
    left: int = 0  # bytes behind the audio and its tags, which are not read
    another: tuple[str, int] | None = None  # kind and place of a recording that is among them
    data: tuple[int | None, int] | None = None  # the bytes of samples: promised, stored
    patch: frames.Patch | None = None  # of the header, where the length was open
    as_text: bool = False  # truncated, and without a byte 0x0D, as after a transfer in text mode

    def in_samples(self, subtype: str, channels: int) -> "Extent":
        """The extent of a file whose samples are of this type of soundfile."""
        if self.data is None or subtype not in WIDTHS:
            return self
        block = WIDTHS[subtype] * channels
        promised, stored = self.data
        return replace(self, promised=promised and promised // block, stored=stored // block)


@dataclass(frozen=True)
class Chunks:
    """How a container writes its chunks."""

    size: str  # struct format of a size
    first: int  # byte where the first chunk begins
    name: int = 4  # bytes of a chunk's name
    alignment: int = 2
    counted: int = 0  # bytes of name and size that a size counts
    before: int = 0  # bytes of the data chunk before the samples
    endless: int = 1 << 63  # a size of this or more is unknown


SEARCHED = 1 << 20  # bytes behind the audio in which another recording is looked for
BEGINNINGS = re.compile(  # of recordings
    rb"(?P<WAV>(?:RIFF|RIFX|RF64)....WAVE)|(?P<FLAC>fLaC[\0\x80]\0\0\x22)|(?P<Ogg>OggS\0\x02)"
    rb"|(?P<AIFF>FORM....AIF[FC])|(?P<SPHERE>NIST_1A\n)|(?P<AU>\.snd\0\0..\0...\0\0\0)"
    rb"|(?P<CAF>caff\0\x01\0\0desc)|(?P<W64>riff\x2e\x91\xcf\x11)"
    rb"|(?P<MP3>\xff[\xe2-\xff][^\xff].(?:.{9}|.{17}|.{32})(?:Xing|Info|VBRI)\0)",
    re.DOTALL,
)
CONTAINERS = {
    b"RIFF": Chunks("<I", 12, endless=ENDLESS),
    b"RIFX": Chunks(">I", 12, endless=ENDLESS),
    b"RF64": Chunks("<I", 12, endless=ENDLESS),
    b"FORM": Chunks(">I", 12, before=8, endless=ENDLESS),
    b"caff": Chunks(">Q", 8, alignment=1, before=4),
    b"riff": Chunks("<Q", 40, name=16, alignment=8, counted=24),
}


def extent_of(file: BinaryIO) -> tuple[Extent, bytes]:
    """The extent of an open file, and its first bytes; `OSError` where it cannot be read."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(1024)
    try:
        extent = _extent(file, size, head)
    except (struct.error, IndexError):  # a header that ends within a number
        return Extent(), head
    if extent.left:
        position = behind_tags(file, size - extent.left, size)
        another = _another(file, size - extent.left)
        extent = replace(extent, left=size - position, another=another)
    promised, stored = extent.data or (extent.promised, extent.stored)
    if promised and stored is not None and stored < promised:
        extent = replace(extent, as_text=_has_no_carriage_return(file))
    return extent, head


def behind_tags(file: BinaryIO, position: int, size: int) -> int:
    """Where the tags end that begin there: ID3, APE and Lyrics3, which may follow any audio."""
    while position < size:
        file.seek(position)
        raw = file.read(32)
        if raw.startswith(b"TAG"):
            length = 227 if raw[3:4] == b"+" else 128
        elif raw.startswith(b"ID3"):
            length = _id3_bytes(raw)
        elif raw.startswith(b"APETAGEX") and len(raw) == 32:
            length = 32 + int.from_bytes(raw[12:16], "little")
        elif raw.startswith(b"LYRICSBEGIN"):
            end = re.search(rb"LYRICSEND|LYRICS200", raw + file.read(SEARCHED))
            length = end.end() if end else 0
        else:
            length = 0
        if not length:
            break
        position += length
    return min(position, size)


def _id3_bytes(head: bytes) -> int:
    """The bytes of the ID3v2 tag that begins so; a byte of its size has 7 bits."""
    return 10 + sum((byte & 0x7F) << 7 * n for n, byte in enumerate(head[9:5:-1]))


def _another(file: BinaryIO, position: int) -> tuple[str, int] | None:
    """The kind and place of a recording that begins soon behind this position."""
    position = max(0, position - 1)  # a chunk of odd length may lack its padding
    file.seek(position)
    match = BEGINNINGS.search(file.read(SEARCHED))
    return (match.lastgroup or "", position + match.start()) if match else None


def unreadable(error: OSError, path: str | Path, name: str | Path) -> DataError:
    """What the system refused of a file, called `name`, as one sentence."""
    if isinstance(error, FileNotFoundError):
        link = f"a link to {os.readlink(path)}, and there is " if Path(path).is_symlink() else ""
        return DataError(f"{name}: {link}no such file")
    if isinstance(error, IsADirectoryError):
        expected = "an audio file, or a folder with audio (.wav, .flac …)"
        return DataError(f"{name}: is a folder, expected {expected}")
    return DataError(f"{name}: cannot be read ({error.strerror})")


def _has_no_carriage_return(file: BinaryIO) -> bool:
    """Whether no byte is 0x0D (CR): a transfer in text mode replaces CR LF and CR by LF."""
    line_feeds = 0
    file.seek(0)
    while block := file.read(TEXT_BLOCK):
        if b"\r" in block:
            return False
        line_feeds += block.count(b"\n")
    return line_feeds >= LINE_FEEDS


def _extent(file: BinaryIO, size: int, head: bytes) -> Extent:
    if head[:4] in CONTAINERS and head[8:12] != b"AVI ":
        return _chunked(file, size, head[:4], CONTAINERS[head[:4]])
    if head.startswith(b"NIST_1A"):
        return _sphere(head, size)
    if head.startswith(b".snd"):
        start, length = struct.unpack(">II", head[4:12])
        stored = max(0, size - start)
        if 0 < length < ENDLESS or not stored:
            return Extent(data=(length, stored), left=max(0, stored - length))
        value = struct.pack(">I", min(stored, ENDLESS))
        return Extent(endless=True, data=(None, stored), patch=frames.Patch(8, 4, value))
    if head.startswith(b"OggS"):
        return _ogg(file, size)
    start = _id3_bytes(head) if head.startswith(b"ID3") else 0
    file.seek(start)
    head = file.read(26)
    if head.startswith(b"fLaC"):
        promised, stored, patch, left = frames.flac(file, size, head, start)
        fault = _more(promised, stored)
        return Extent(promised, stored, patch is not None, fault=fault, left=left, patch=patch)
    if frames.mp3_frame(head) is not None:
        promised, stored, patch, left = frames.mp3(file, size, start)
        fault = _more(promised, stored)
        if left and promised != stored:
            position = behind_tags(file, size - left, size)
            file.seek(position)
            if file.read(3).strip(b"\0"):
                fault = f"behind sample {stored}, {size - position} bytes are no frame"
        return Extent(promised, stored, fault=fault, left=left, patch=patch)
    return Extent()


def _more(promised: int | None, stored: int | None) -> str:
    if promised is None or stored is None or stored <= promised:
        return ""
    return f"it announces {promised} samples, the file holds {stored}"


def _chunked(file: BinaryIO, size: int, form: bytes, kind: Chunks) -> Extent:
    """Follow the chunks of a file to its end; the data chunk holds the samples."""
    width = kind.name + struct.calcsize(kind.size)
    extent, position, wide, fault = Extent(), kind.first, 0, ""
    announced: int | None = None
    file.seek(kind.name)
    (whole,) = struct.unpack(kind.size, file.read(width - kind.name))
    while position + width <= size:
        file.seek(position)
        name = (raw := file.read(width))[:4]
        (length,) = struct.unpack(kind.size, raw[kind.name :])
        start = position + width
        length -= kind.counted
        if not (name.isascii() and name.decode().isprintable()) or length < 0:
            break
        if extent.data is not None and BEGINNINGS.match(raw + file.read(width)):
            break
        file.seek(start)
        if name == b"ds64":
            whole, wide = struct.unpack("<QQ", file.read(16))
        elif name == b"fmt ":
            fault = _contradiction(kind.size[0], file.read(16))
        elif name == b"COMM":
            channels, announced, bits = struct.unpack(">HIH", file.read(8))
            # AIFF-C names a coding behind these fields
            announced = announced * channels * ((bits + 7) // 8) if length == 18 else None
        elif name in (b"data", b"SSND"):
            if form == b"RF64" and length >= ENDLESS:
                length = wide
            start, length = start + kind.before, length - kind.before
            stored = max(0, size - start)
            is_open = length >= kind.endless and length > stored
            if is_open or (length <= 0 < stored and not _is_chunk(file, size, start, kind)):
                patch = None
                if form == b"caff" or not is_open:  # libsndfile reads the others to their end
                    value = struct.pack(kind.size, stored + kind.before + kind.counted)
                    patch = frames.Patch(start - kind.before - len(value), len(value), value)
                return Extent(endless=True, fault=fault, data=(None, stored), patch=patch)
            extent = Extent(data=(max(0, length), stored))
            if announced is not None and announced != length:
                fault = f"it announces {announced} bytes of samples, and then {length}"
        end = start + length + -length % kind.alignment
        if end > size and extent.data is not None and name not in (b"data", b"SSND"):
            break
        position = end
    left = max(0, size - position)
    # whether the form, as it says, contains what is left
    end = size if form == b"caff" else whole if form == b"riff" else whole + 8
    least = PADDING if form == b"caff" else 1
    if extent.data is not None and left > least and abs(end - size) <= 1:
        fault = fault or (
            f"it announces {extent.data[0]} bytes of samples, and {left} bytes follow that are "
            f"in no chunk"
        )
    return replace(extent, fault=fault, left=left)


def _is_chunk(file: BinaryIO, size: int, position: int, kind: Chunks) -> bool:
    """Whether a chunk begins at `position`, and ends within the file."""
    file.seek(position)
    name, raw = file.read(kind.name)[:4], file.read(struct.calcsize(kind.size))
    is_name = len(raw) == struct.calcsize(kind.size) and name.isascii()
    if not is_name or not name.decode().isprintable():
        return False
    (length,) = struct.unpack(kind.size, raw)
    return bool(position + len(raw) + length <= size)


def _contradiction(order: str, fields: bytes) -> str:
    """How the numbers of a `fmt` chunk of PCM contradict each other."""
    coding, channels, rate, byte_rate, block, bits = struct.unpack(order + "HHIIHH", fields)
    if not channels or not rate:
        return f"it announces {channels} channels at {rate} Hz"
    if coding not in (1, 3, 6, 7, 0xFFFE):  # compressed in blocks of several samples
        return ""
    if block != channels * ((bits + 7) // 8):
        return f"it announces {channels} channels of {bits} bits in blocks of {block} bytes"
    if byte_rate not in (0, block * rate):
        return f"it announces {rate} blocks of {block} bytes in a second, and {byte_rate} bytes"
    return ""


def _sphere(head: bytes, size: int) -> Extent:
    fields = {}
    for line in head.split(b"\n"):
        name, _, value = line.partition(b" ")
        if value.split()[-1:] and value.split()[-1].isdigit():  # libsndfile writes some as strings
            fields[name] = int(value.split()[-1])
        elif name == b"sample_coding" and not line.strip().endswith((b"pcm", b"ulaw", b"alaw")):
            return Extent()
    start = head[8:16].strip()
    block = fields.get(b"sample_n_bytes", 2) * fields.get(b"channel_count", 1)
    if b"sample_count" not in fields or not start.isdigit() or not block:
        return Extent()
    promised, data = fields[b"sample_count"], max(0, size - int(start))
    left = max(0, data - promised * block)
    fault = _more(promised, data // block) if promised and left > PADDING else ""
    return Extent(promised, data // block, fault=fault, left=left)


def _ogg(file: BinaryIO, size: int) -> Extent:
    """Whether the pages of an Ogg file follow each other to one that is marked as the last."""
    position, flags = 0, 0
    last: dict[bytes, int] = {}  # samples up to a page, by stream
    while position + 27 <= size:
        file.seek(position)
        page = file.read(27 + 255)
        end = position + 27 + page[26] + sum(page[27 : 27 + page[26]])
        if page[:4] != b"OggS" or end > size:
            break
        flags, samples, stream = page[5], *struct.unpack("<q4s", page[6:18])
        if flags & 2 and any(last.values()):
            break  # another stream
        if samples >= 0:
            if samples < last.get(stream, 0):
                return Extent(fault=f"a page ends with sample {samples}, behind {last[stream]}")
            last[stream] = samples
        position = end
    left = size - position
    # libsndfile looks for pages in all that follows, and fails where there is none
    patch = frames.Patch(end=position) if left and flags & 4 else None
    return Extent(has_end=bool(flags & 4), left=left, patch=patch)
