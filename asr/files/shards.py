"""Audio in tar shards: how a manifest names a member, and how it is read without the others.

    FOLDER/000000.tar#1536:38213:9f3c01ab/84-121123-0000.flac

are the 38213 bytes from byte 1536 of the shard, with this CRC-32 and this name. Such a text may be
wherever a path of audio is. `asr.corpora.shards` writes shards.
"""

import io
import os
import re
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from asr.errors import DataError

SPELLING = re.compile(r"(.+\.tar)#(\d{1,18}):(\d{1,18}):([0-9a-f]{8})/([^/]+)", re.DOTALL)


class Member(NamedTuple):
    """A recording in a shard."""

    shard: str  # path
    start: int  # byte
    size: int  # bytes
    crc32: int
    name: str

    @classmethod
    def of(cls, audio: str | Path) -> Self | None:
        """The member that a text names; None for any other path."""
        if (match := SPELLING.fullmatch(os.fspath(audio))) is None:
            return None
        shard, start, size, crc32, name = match.groups()
        return cls(shard, int(start), int(size), int(crc32, 16), name)

    def __str__(self) -> str:
        return f"{self.shard}#{self.start}:{self.size}:{self.crc32:08x}/{self.name}"

    def read(self) -> bytes:
        """The content; `DataError` where the shard is absent, too short, or holds other bytes."""
        end = self.start + self.size
        try:
            with open(self.shard, "rb") as file:
                file.seek(self.start)
                content = file.read(self.size)
                length = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            raise DataError(
                f"{self.shard}: no such file, expected the tar shard that holds {self.name}; copy "
                f"it there, or set its new folder (corpus.root, --root)"
            ) from None
        except OSError as error:
            reason = f"cannot be read ({error.strerror}), for {self.name} at byte {self.start}"
            raise DataError(f"{self.shard}: {reason}; copy the shard again") from error
        if len(content) < self.size:
            raise DataError(
                f"{self.shard}: truncated, {self.name} is in its bytes {self.start} to {end}, the "
                f"file holds {length}; copy the shard again"
            )
        if (crc32 := zlib.crc32(content)) != self.crc32:
            raise DataError(
                f"{self.shard}: its bytes {self.start} to {end} have the CRC-32 {crc32:08x}, "
                f"expected {self.crc32:08x} of {self.name}; the shard is damaged, or was packed "
                f"anew: copy it again, or use the manifest that was packed with it"
            )
        return content


def opened(audio: str | Path) -> BinaryIO:
    """An audio file, or a member of a shard as a file in memory.

    Raises `OSError` for a file that cannot be opened, `DataError` for a member that cannot be read.
    """
    member = Member.of(audio)
    return open(audio, "rb") if member is None else io.BytesIO(member.read())


def file_of(audio: str | Path) -> str:
    """The file on disk that holds the audio: a shard, or itself."""
    member = Member.of(audio)
    return os.fspath(audio) if member is None else member.shard
