"""Frames of FLAC and MP3 streams: how many samples they hold, whatever the header announces.

FLAC: RFC 9639. MP3: ISO/IEC 11172-3 and 13818-3, and the Xing header of LAME and others, a first
frame of silence that holds the number of frames.
"""

import re
import shutil
import struct
from functools import cache
from typing import BinaryIO, NamedTuple

FLAC_SYNC = re.compile(rb"\xff[\xf8\xf9]")  # how a frame begins,
FLAC_STREAM = re.compile(rb"fLaC[\0\x80]\0\0\x22")  # and a stream
FLAC_HEADER = 6, 16  # bytes of the header of a frame, at least and at most
FLAC_BITS = {1: 8, 2: 12, 4: 16, 5: 20, 6: 24, 7: 32}  # of a sample; 0: as in the stream's header
SMALLEST_TAIL = 256  # bytes from the last frame on, of which no more than a tag can be left
XING = (b"Xing", b"Info", b"VBRI")
KBPS = {  # bit rates by index; version 1, and versions 2 and 2.5
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = (44_100, 48_000, 32_000)  # of version 1; half and a quarter of them in 2 and 2.5
MP3_HEADER = 48  # bytes of a frame up to the end of the word that begins a Xing header
READ = 1 << 20  # bytes


class Patch(NamedTuple):
    """Other bytes in place of `size` bytes of a file at `start`, and nothing from `end` on."""

    start: int = 0
    size: int = 0
    value: bytes = b""
    end: int | None = None

    def apply(self, file: BinaryIO, copy: BinaryIO) -> None:
        """Copy a file with these bytes in it, for libsndfile, which trusts headers."""
        file.seek(0)
        copy.write(file.read(self.start) + self.value)
        file.seek(self.start + self.size)
        shutil.copyfileobj(file, copy)
        if self.end is not None:
            copy.truncate(self.end - self.size + len(self.value))
        copy.seek(0)


class FLACFrame(NamedTuple):
    """The samples with which a frame begins and ends, and the bytes of its header."""

    begin: int
    end: int
    header: int


def flac(
    file: BinaryIO, size: int, head: bytes, start: int
) -> tuple[int | None, int | None, Patch | None, int]:
    """Samples promised and stored, the header of a stream that leaves its length open, bytes left.

    The stream, with this head, starts behind a tag. Stored are the samples up to its last frame,
    behind which the bytes are left.
    """
    fixed, _ = struct.unpack(">HH", head[8:12])
    (fields,) = struct.unpack(">Q", head[18:26])
    promised = fields & (1 << 36) - 1
    channels, bits = (fields >> 41 & 7) + 1, (fields >> 36 & 31) + 1
    place, frame = _last_flac_frame(file, start, fixed)
    stored = frame and frame.end
    left = 0
    if frame is not None and size - place > SMALLEST_TAIL:
        most = frame.header + 2 * (frame.end - frame.begin) * channels * (bits + 8) // 8
        file.seek(place)
        if (length := _flac_frame_bytes(file.read(most), frame, bits)) is not None:
            left = size - place - length
    if promised or stored is None:
        return promised or None, stored, None, left
    return None, stored, Patch(start + 18, 8, struct.pack(">Q", fields | stored)), left


def _last_flac_frame(file: BinaryIO, start: int, fixed: int) -> tuple[int, FLACFrame | None]:
    """The last frame of the stream that starts there, and its place in the file.

    Of what looks like a frame, only those count that begin where another ends, and none behind the
    header of another stream.
    """
    place, last = 0, None
    ends = {0}
    start += 4  # behind this stream's own `fLaC`
    file.seek(start)
    block, begin = file.read(READ), start
    while len(block) >= FLAC_HEADER[0]:
        another = FLAC_STREAM.search(block)
        for match in FLAC_SYNC.finditer(block, 0, another.start() if another else len(block)):
            raw = block[match.start() : match.start() + FLAC_HEADER[1]]
            frame = _flac_frame(raw, fixed)
            if frame is None or (last is not None and frame.begin < last.end):
                continue
            if frame.begin in ends:
                place, last = begin + match.start(), frame
            ends.add(frame.end)
        rest = block[-FLAC_HEADER[1] :]
        more = file.read(READ)
        if another or not more:
            break
        begin += len(block) - len(rest)
        block = rest + more
    return place, last


def _flac_frame(raw: bytes, fixed: int) -> FLACFrame | None:
    """The frame that begins with these bytes, or None where none does.

    `fixed` is the size of blocks, where frames are numbered and not their samples.
    """
    if len(raw) < FLAC_HEADER[0] or raw[3] & 1 or not raw[2] >> 4:
        return None
    if raw[2] & 15 == 15 or raw[3] >> 4 > 10:  # a rate and channels that are not defined
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
    return FLACFrame(begin, begin + samples, place + 1)


def _flac_frame_bytes(raw: bytes, frame: FLACFrame, bits: int) -> int | None:
    """The bytes of a frame of a stream of `bits` a sample; None where it is damaged or cut off.

    Only the lengths of what is in it are read (RFC 9639, section 9.2).
    """
    text = bin(int.from_bytes(b"\1" + raw, "big"))[3:]
    samples, place = frame.end - frame.begin, 8 * frame.header

    def number(width: int) -> int:
        nonlocal place
        place += width
        return int(text[place - width : place], 2)  # of no digits, a ValueError

    def skip_residual(order: int) -> None:
        nonlocal place
        width = (4, 5)[number(2)]
        parts = 1 << number(4)
        for part in range(parts):
            count = samples // parts - (0 if part else order)
            if (rice := number(width)) == (1 << width) - 1:
                place += number(5) * count
                continue
            codes = _rice_codes(rice, count).match(text, place)
            if codes is None:
                raise ValueError("cut off")
            place = codes.end()

    assignment = raw[3] >> 4  # of 8 to 10, one of two channels is a difference, with one bit more
    depth = FLAC_BITS.get(raw[3] >> 1 & 7, bits)
    try:
        for channel in range(assignment + 1 if assignment < 8 else 2):
            width = depth + (channel == {8: 1, 9: 0, 10: 1}.get(assignment))
            kind, has_unused_bits = number(7), number(1)
            if has_unused_bits:
                unary = text.index("1", place) + 1 - place
                place, width = place + unary, width - unary
            if kind == 0:
                place += width
            elif kind == 1:
                place += width * samples
            else:
                order = kind - 8 if kind < 32 else kind - 31
                place += order * width
                if kind >= 32:
                    precision = number(4) + 1
                    place += 5 + order * precision
                skip_residual(order)
    except (ValueError, IndexError):
        return None
    length = -(-place // 8) + 2  # a checksum is at the end
    return length if length <= len(raw) else None


@cache
def _rice_codes(rice: int, count: int) -> re.Pattern[str]:
    """`count` Rice codes of parameter `rice` (RFC 9639, section 9.2.7) in a string of bits."""
    return re.compile(f"(?:0*+1.{{{rice}}}){{{count}}}+")


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = CRC8[crc ^ byte]
    return crc


def _crc8_of_byte(byte: int) -> int:
    for _ in range(8):
        byte = (byte << 1 ^ (0x107 if byte & 0x80 else 0)) & 0x1FF
    return byte


CRC8 = tuple(map(_crc8_of_byte, range(256)))


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
    the frames, also from the header of another stream on.
    """
    file.seek(first)
    content = file.read(4096)
    length, samples = mp3_frame(content[:4]) or (0, 0)
    place = max(content[:length].find(name) for name in XING)
    position, count = first + (length if place >= 0 else 0), 0
    block, begin = b"", position
    while position + 4 <= size:
        if not begin <= position <= begin + len(block) - MP3_HEADER:
            file.seek(position)
            block, begin = file.read(READ), position
        raw = block[position - begin : position - begin + MP3_HEADER]
        if (frame := mp3_frame(raw)) is None:
            break
        if place >= 0 and raw[place : place + 4] in XING:
            break
        count += position + frame[0] <= size
        position += frame[0]
    left = max(0, size - position)
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
        without = Patch(end=position) if left else None  # of which libmpg123 prints warnings
        return promised * samples, count * samples, without, left
    return None, count * samples, patch, left
