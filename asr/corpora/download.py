"""Corpora that are free to download: fetched, checked, unpacked.

`asr/tables/downloads.txt` lists them. A later call continues an interrupted download. An archive is
unpacked into a temporary folder and renamed, so that a file or folder with its final name is
complete. Links in an archive are refused.
"""

import errno
import fcntl
import gzip
import hashlib
import http.client
import lzma
import math
import os
import shutil
import stat
import struct
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tqdm import tqdm

from asr import __version__
from asr.errors import FULL, DataError, said_by_system
from asr.files.outputs import temporary_folder
from asr.phones import table_lines

NOTED = ".downloaded"
ATTEMPTS = 5  # in a row without a single byte
PAUSE_S = 2.0  # before the second attempt, doubled before each further one
TIMEOUT_S = 30.0  # without a byte
CHUNK = 1 << 20  # bytes
EXPANSION = 20  # largest ratio of unpacked size to archive size; lossless speech has 2
SMALLEST_LIMIT = 64 << 20  # bytes that any archive may unpack to
MAX_FILES = 2_000_000
LONGEST_HEADER = 1 << 20  # bytes of a tar member before its content, with pax's and GNU's names
# What the libraries raise for bytes that are no archive of theirs.
GZIP_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)
DAMAGED = (
    *(*GZIP_DAMAGED, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, struct.error),
    *(ValueError, ArithmeticError, LookupError, RuntimeError),  # NotImplemented-, RecursionError
)


@dataclass(frozen=True)
class Item:
    """One file to download; `gives` is the resulting file or folder, relative to the target."""

    url: str
    checksum: str | None  # "sha256:…" or "md5:…"
    gives: str

    @property
    def file_name(self) -> str:
        return PurePosixPath(self.url).name

    @property
    def is_archive(self) -> bool:
        return self.file_name.endswith((".tar.gz", ".tgz", ".tar", ".zip"))


def catalogue() -> dict[str, list[Item]]:
    """Name of a corpus, or of a part of it → items, from `asr/tables/downloads.txt`."""
    items: dict[str, list[Item]] = {}
    for line in table_lines("downloads.txt"):
        names, url, checksum, gives = line.split()
        item = Item(url, None if checksum == "-" else checksum, gives)
        for name in names.split(","):
            items.setdefault(name, []).append(item)
    return items


def ensure(item: Item, folder: Path) -> bool:
    """Download and unpack `item` below `folder`; False if it existed.

    Raises `DataError`, one sentence, for every failure of the network, the disk or the archive. The
    same call then continues the download; nothing incomplete has its final name.
    """
    target = folder / item.gives
    if target.exists():
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _note(folder, item.file_name, f"{item.file_name}.part", f"{item.file_name}.part.tag")
        archive = fetch(item.url, folder / item.file_name, item.checksum)
        if item.is_archive:
            _note(folder, *unpack(archive, folder, item.gives))
            archive.unlink()
        elif archive != target:
            target.parent.mkdir(parents=True, exist_ok=True)
            archive.rename(target)
            _note(folder, item.gives)
    except OSError as error:
        raise DataError(said_by_system(error, folder)) from error
    return True


def _note(folder: Path, *names: str) -> None:
    """Add what is downloaded to a list in the folder, by which `make clean` removes it."""
    with open(folder / NOTED, "a", encoding="utf-8") as file:
        file.writelines(f"{name}\n" for name in names)


# ---------------------------------------------------------------- download


def fetch(url: str, path: Path, checksum: str | None = None) -> Path:
    """Download to `path.part`, which a later call continues, and rename it to `path`.

    A file with a wrong checksum is removed: no continuation could repair it.
    """
    if path.exists():
        return path
    part = path.with_name(f"{path.name}.part")
    with open(part, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{part}: another download is writing here; wait for it") from None
        _fetch_all(url, file, part.with_name(f"{part.name}.tag"))
        file.flush()
        os.fsync(file.fileno())
    if checksum is not None and (actual := _checksum(part, checksum)) != checksum:
        part.unlink()
        raise DataError(
            f"{url}: the checksum of the file is {actual}, expected {checksum}; the file was "
            f"removed: fetch it again; if the checksum stays, the file has changed at its source"
        )
    part.rename(path)
    part.with_name(f"{part.name}.tag").unlink(missing_ok=True)
    return path


def _fetch_all(url: str, file: IO[bytes], tag: Path) -> None:
    """Request the missing rest of `file` until it is complete.

    An attempt that brought bytes does not count as a failure.
    """
    failures = 0
    while True:
        before = file.tell()
        try:
            _fetch_some(url, file, tag)
            return
        except urllib.error.HTTPError as error:
            with error:
                reason = f"HTTP {error.code} {error.reason}"
            if error.code == 416:  # the range is empty: the part is complete, or of another file
                if error.headers.get("Content-Range") == f"bytes */{before}":
                    return
                file.truncate(file.seek(0))
            elif error.code < 500:
                raise DataError(f"{url}: {reason}; check whether it has moved") from None
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        failures = failures + 1 if file.tell() <= before else 1
        if failures >= ATTEMPTS:
            progress = f"after {file.tell() / 1e6:.1f} MB " if file.tell() else ""
            raise DataError(
                f"{url}: the download ended early, {progress}({reason}); the same command "
                f"continues it; or download it by other means"
            )
        time.sleep(PAUSE_S * 2 ** (failures - 1))


def _fetch_some(url: str, file: IO[bytes], tag: Path) -> None:
    """One request; returns when the file is complete, raises if the connection ends earlier."""
    begin = file.tell()
    headers = {"User-Agent": f"asr/{__version__}"}
    if begin:
        headers["Range"] = f"bytes={begin}-"
        if tag.exists():
            headers["If-Range"] = tag.read_text()
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        continued = response.headers.get("Content-Range", "").startswith(f"bytes {begin}-")
        if begin and not (response.status == 206 and continued):
            begin = 0
            file.truncate(file.seek(0))
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if validator and not validator.startswith("W/"):
            tag.write_text(validator)
        length = response.headers.get("Content-Length")
        total = begin + int(length) if length else None
        free = shutil.disk_usage(tag.parent).free
        if total is not None and total - begin > free:
            raise OSError(errno.ENOSPC, f"{total - begin} bytes to come, {free} free")
        name = tag.name.removesuffix(".part.tag")
        bar = tqdm(desc=name, total=total, initial=begin, unit="B", unit_scale=True, disable=None)
        with bar:
            while block := response.read(CHUNK):
                file.write(block)
                bar.update(len(block))
    if total is not None and file.tell() < total:
        raise ConnectionError(f"connection closed, {total - file.tell()} bytes are missing")


def _checksum(path: Path, expected: str) -> str:
    kind = expected.partition(":")[0]
    with open(path, "rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


# ---------------------------------------------------------------- unpacking


def unpack(archive: Path, folder: Path, gives: str, limit: int | None = None) -> list[str]:
    """Unpack a tar or zip into a temporary folder, then rename `gives` into `folder`.

    `DataError`, with nothing left behind, for names that lead out of the folder, links, devices,
    duplicates, more than `limit` bytes (default: 20 times the archive), and for an archive that is
    damaged or lacks `gives`. Siblings of `gives` are kept where no file has their name.
    Returns what is new.
    """
    limit = limit or max(SMALLEST_LIMIT, EXPANSION * archive.stat().st_size)
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder, f".{archive.name}.") as work:
        work.chmod(0o755)
        _unpack_all(archive, work, limit)
        if not (work / gives).exists():
            names = ", ".join(sorted(path.name for path in work.iterdir())) or "nothing"
            raise DataError(f"{archive}: holds {names}, expected {gives}; fetch it again")
        new = [gives]
        for path in sorted((work / gives).parent.iterdir()):
            target = folder / path.relative_to(work)
            if path != work / gives and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
                new.append(str(path.relative_to(work)))
        (folder / gives).parent.mkdir(parents=True, exist_ok=True)
        (work / gives).rename(folder / gives)
        return new


def _unpack_all(archive: Path, work: Path, limit: int) -> None:
    """Unpack every member below `work`, under the rules of tarfile's data filter.

    The filter refuses names that lead out of the folder, devices and pipes. It does not refuse
    links and absolute names, and knows no limit of bytes or files and no duplicates.
    """
    if not hasattr(tarfile, "data_filter"):
        raise DataError(
            f"{archive}: not unpacked, Python {sys.version.split()[0]} has no safe way to do so; "
            f"use Python 3.11.4 or later, or unpack it yourself"
        )
    members = _zip_members if archive.name.endswith(".zip") else _tar_members
    left = limit
    try:
        for number, (member, extract) in enumerate(members(archive, work), start=1):
            left -= member.size if member.size >= 0 else limit + 1
            link = member.islnk() or member.issym()
            duplicate = not member.isdir() and (work / member.name).exists()
            if left < 0 or number > MAX_FILES:
                reason = f"more than {limit / 1e6:.0f} MB or {MAX_FILES} files when unpacked"
            elif link or duplicate or member.name.startswith("/") or "\0" in member.name:
                kind = "a link" if link else "a duplicate" if duplicate else "no relative path"
                reason = f"{member.name!r} is {kind}"
            else:
                extract()
                continue
            raise DataError(f"{archive}: {reason}; it is not unpacked")
    except tarfile.FilterError as error:
        raise DataError(f"{archive}: {error}; it is not unpacked") from error
    except DataError:
        raise
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # of the disk
            raise
        raise DataError(
            f"{archive}: damaged or truncated ({error}); remove it and fetch it again"
        ) from error


Member = tuple[tarfile.TarInfo, Callable[[], object]]  # what it is, and the call that extracts it


class _Limited:
    """A stream of which no more than `left` bytes may be read."""

    def __init__(self, raw: Any) -> None:
        self.raw, self.left = raw, float(LONGEST_HEADER)

    def read(self, size: int) -> bytes:
        block: bytes = self.raw.read(size)
        self.left -= len(block)
        if self.left < 0:
            raise tarfile.ReadError(f"a header of more than {LONGEST_HEADER} bytes")
        return block


def _tar_members(archive: Path, work: Path) -> Iterator[Member]:
    opener = gzip.open if archive.name.endswith((".gz", ".tgz")) else open
    with opener(archive, "rb") as raw:
        stream = _Limited(raw)
        with tarfile.open(fileobj=stream, mode="r|") as tar:  # type: ignore[call-overload]
            while (member := tar.next()) is not None:
                stream.left = math.inf
                yield member, partial(tar.extract, member, work, set_attrs=False, filter="data")
                stream.left = LONGEST_HEADER
        while raw.read(CHUNK):  # up to gzip's checksum, which tarfile does not read
            pass


def _zip_members(archive: Path, work: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as pack:
        for entry in pack.infolist():
            member = tarfile.TarInfo(entry.filename)
            member.size = entry.file_size
            if entry.is_dir():
                member.type = tarfile.DIRTYPE
            elif stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
                member.type = tarfile.SYMTYPE  # or a device, refused in the same way
            if entry.flag_bits & 1:
                raise DataError(f"{archive}: {entry.filename!r} is encrypted; it is not unpacked")
            tarfile.data_filter(member, str(work))
            yield member, partial(pack.extract, entry, work)
