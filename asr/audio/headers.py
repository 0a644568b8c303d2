"""Headers against file sizes: how many samples a file promises, and for how many it has room.

libsndfile reads a truncated RIFF or SPHERE file without an error, and a RIFF file that a pipe
left unfinished as if it had no end. AIFF, CAF, W64 and RF64 are not examined.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from asr.errors import DataError

ENDLESS = 0x7FFFF000  # a data chunk of this size or more: length unknown (ffmpeg, sox in a pipe)
LONGEST_OGG_PAGE = 65_307  # bytes


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


def extent_of(path: Path) -> Extent:
    """Compare the header of a RIFF, SPHERE or Ogg file with its size; `DataError`: unreadable."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(12)
            if head[:4] == b"RIFF" and head[8:] == b"WAVE":
                return _riff_extent(file, size)
            if head.startswith(b"NIST_1A"):
                return _sphere_extent(file, size)
            return Extent(has_end=not head.startswith(b"OggS") or _has_last_page(file, size))
    except FileNotFoundError:
        link = f"a link to {os.readlink(path)}, and there is " if path.is_symlink() else ""
        raise DataError(f"{path}: {link}no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _riff_extent(file: BinaryIO, size: int) -> Extent:
    position, block = 12, 0
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        position += 8
        if name == b"fmt " and position + 14 <= size:
            coding, _, _, _, block = struct.unpack("<HHIIH", file.read(14))
            if coding not in (1, 3, 6, 7, 0xFFFE):  # compressed in blocks of several samples
                return Extent()
        if name == b"data":
            if not block:
                return Extent()
            stored = (size - position) // block
            if length >= ENDLESS and length > size:
                return Extent(None, stored, endless=True)
            return Extent(length // block, stored)
        position += length + length % 2
    return Extent()


def _sphere_extent(file: BinaryIO, size: int) -> Extent:
    file.seek(0)
    fields = {}
    for line in file.read(1024).split(b"\n"):
        name, _, typed = line.partition(b" -i ")
        if typed.strip().isdigit():
            fields[name] = int(typed)
        elif line.startswith(b"sample_coding") and not line.strip().endswith((b"pcm", b"ulaw")):
            return Extent()
    file.seek(8)
    header_size = file.read(8).strip()
    block = fields.get(b"sample_n_bytes", 2) * fields.get(b"channel_count", 1)
    if b"sample_count" not in fields or not header_size.isdigit() or not block:
        return Extent()
    return Extent(fields[b"sample_count"], max(0, size - int(header_size)) // block)


def _has_last_page(file: BinaryIO, size: int) -> bool:
    """Whether an Ogg stream ends with a whole page that is marked as its last."""
    file.seek(max(0, size - LONGEST_OGG_PAGE))
    tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) <= 27:
        return False
    page_size = 27 + page[26] + sum(page[27 : 27 + page[26]])
    return page_size <= len(page) and bool(page[5] & 4)
