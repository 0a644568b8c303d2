"""Frames of FLAC and MP3 streams: how many samples they hold, whatever the header announces.

FLAC: RFC 9639. MP3: ISO/IEC 11172-3 and 13818-3, and the Xing header of LAME and others, a first
frame of silence that holds the number of frames.
"""

import re
import shutil
import struct
from typing import BinaryIO, NamedTuple

FLAC_TAIL = 1 << 15  # bytes that may follow the frames: tags, zeros
FLAC_SYNC = re.compile(rb"\xff[\xf8\xf9]")
TAGS = (b"TAG", b"APE", b"ID3", b"LYR", b"\0\0\0")  # that may follow the frames of an MP3
KBPS = {  # bit rates by index; version 1, and versions 2 and 2.5
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = (44_100, 48_000, 32_000)  # of version 1; half and a quarter of them in 2 and 2.5
READ = 1 << 20  # bytes


class Patch(NamedTuple):
    """Other bytes in place of `size` bytes of a file at `start`."""

    start: int
    size: int
    value: bytes

    def apply(self, file: BinaryIO, copy: BinaryIO) -> None:
        """Copy a file with these bytes in it, for libsndfile, which trusts headers."""
        file.seek(0)
        copy.write(file.read(self.start) + self.value)
        file.seek(self.start + self.size)
        shutil.copyfileobj(file, copy)
        copy.seek(0)


def flac(
    file: BinaryIO, size: int, head: bytes, start: int
) -> tuple[int | None, int | None, Patch | None]:
    """Samples promised and stored, and the header of a stream that leaves its length open.

    The stream, with this head, starts behind a tag. Stored are the samples up to the last frame,
    which says with which sample it begins; of what looks like a frame, only those count that begin
    where another ends.
    """
    fixed, largest = struct.unpack(">HH", head[8:12])
    (fields,) = struct.unpack(">Q", head[18:26])
    promised = fields & (1 << 36) - 1
    channels, bits = (fields >> 41 & 7) + 1, (fields >> 36 & 31) + 1
    wanted = FLAC_TAIL + 2 * largest * channels * (bits + 8) // 8  # the last two frames
    file.seek(max(0, size - wanted))
    tail = file.read(wanted)
    ends = {0}
    stored = None
    for match in FLAC_SYNC.finditer(tail):
        frame = _flac_frame(tail[match.start() : match.start() + 16], fixed)
        if frame is not None:
            ends.add(frame[1])
            stored = frame[1] if frame[0] in ends else stored
    if promised or stored is None:
        return promised or None, stored, None
    return None, stored, Patch(start + 18, 8, struct.pack(">Q", fields | stored))


def _flac_frame(raw: bytes, fixed: int) -> tuple[int, int] | None:
    """The samples with which a frame begins and ends, or None where it is no frame.

    `fixed` is the size of blocks, where frames are numbered and not their samples.
    """
    if len(raw) < 6 or raw[3] & 1 or not raw[2] >> 4:
        return None
    ones = 8 - (raw[4] ^ 0xFF).bit_length()  # the number is coded as in UTF-8
    extra = max(0, ones - 1)
    number = raw[4] & (0x7F >> ones)
    for byte in raw[5 : 5 + extra]:
        number = number << 6 | byte & 0x3F
    code, place = raw[2] >> 4, 5 + extra
    width = {6: 1, 7: 2}.get(code, 0)
    if width:
        samples = int.from_bytes(raw[place : place + width], "big") + 1
    else:
        samples = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
    place += width + {12: 1, 13: 2, 14: 2}.get(raw[2] & 15, 0)
    if place >= len(raw) or _crc8(raw[:place]) != raw[place]:
        return None
    begin = number if raw[1] & 1 else number * fixed
    return begin, begin + samples


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (0x107 if crc & 0x80 else 0)) & 0x1FF
    return crc


def mp3_frame(raw: bytes) -> tuple[int, int] | None:
    """Bytes and samples of the frame that begins with four bytes, None where none does."""
    if len(raw) < 4 or raw[0] != 0xFF or raw[1] & 0xE6 != 0xE2:
        return None
    version, rate = raw[1] >> 3 & 3, raw[2] >> 2 & 3
    if version == 1 or rate == 3 or raw[2] >> 4 in (0, 15):
        return None
    kbps = KBPS[3 if version == 3 else 2][raw[2] >> 4]
    hz = RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    samples = 1152 if version == 3 else 576
    return samples * kbps * 125 // hz + (raw[2] >> 1 & 1), samples


def mp3(file: BinaryIO, size: int, first: int) -> tuple[int | None, int | None, Patch | None, int]:
    """Samples of the frames that the Xing header announces, and of those that there are.

    Where no header announces a number, then a patch with the right one. At last the bytes behind
    the frames that are no tag.
    """
    file.seek(first)
    content = file.read(4096)
    length, samples = mp3_frame(content[:4]) or (0, 0)
    place = max(content[:length].find(name) for name in (b"Xing", b"Info", b"VBRI"))
    position, count = first + (length if place >= 0 else 0), 0
    block, begin, left = b"", position, 0
    while position + 4 <= size:
        if not begin <= position <= begin + len(block) - 4:
            file.seek(position)
            block, begin = file.read(READ), position
        raw = block[position - begin :][:4]
        if (frame := mp3_frame(raw)) is None:
            left = 0 if raw.startswith(TAGS) else size - position
            break
        count += position + frame[0] <= size
        position += frame[0]
    if place >= 0 and content[place + 7] & 1 and content[place:][:4] != b"VBRI":
        (promised,) = struct.unpack(">I", content[place + 8 : place + 12])
        patch = Patch(first + place + 8, 4, struct.pack(">I", count))
    else:
        promised = 0
        side = {1152: (32, 17), 576: (17, 9)}[samples][content[3] >> 6 == 3]
        header = bytes([255, content[1] | 1]) + content[2:4] + bytes(side)
        xing = header + b"Xing" + struct.pack(">II", 1, count)
        patch = Patch(first, length if place >= 0 else 0, xing.ljust(length, b"\0"))
    if promised:
        return promised * samples, count * samples, None, left
    return None, count * samples, patch, left
