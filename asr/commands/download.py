"""Door: corpora that are free to download, onto disk, checked.

    asr download librispeech
    asr download timit-sample --to data

What there is stands in `asr/tables/downloads.txt`. An interrupted download is continued; an
archive is unpacked beside its place and renamed into it, so that what has a final name is whole.
It asks for no password, follows no licence agreement for anybody, and unpacks no links.
"""

import argparse
import errno
import fcntl
import gzip
import hashlib
import http.client
import os
import shutil
import stat
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from asr import __version__
from asr.errors import FULL, DataError, exit_code, said_by_system
from asr.phones import table_lines

ATTEMPTS = 5  # in a row that bring not one byte
PAUSE_S = 2.0  # before the second attempt; twice as long before each further one
TIMEOUT_S = 30.0  # without a byte
CHUNK = 1 << 20
EXPANSION = 20  # an archive may grow by this factor; speech compressed without loss: 2
SMALLEST_LIMIT = 64 << 20
MAX_FILES = 2_000_000


@dataclass(frozen=True)
class Item:
    """One file to fetch; `gives` is the file or folder, below the target, that it becomes."""

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
    """Name of a corpus or of a part of it → its items, from `asr/tables/downloads.txt`."""
    items: dict[str, list[Item]] = {}
    for line in table_lines("downloads.txt"):
        names, url, checksum, gives = line.split()
        item = Item(url, None if checksum == "-" else checksum, gives)
        for name in names.split(","):
            items.setdefault(name, []).append(item)
    return items


def ensure(item: Item, folder: Path) -> bool:
    """Have `item` below `folder`; False if it was there already.

    Raises `DataError`, in one sentence, for whatever goes wrong; nothing incomplete then has a
    final name, and the same call continues where this one ended.
    """
    target = folder / item.gives
    if target.exists():
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        archive = fetch(item.url, folder / item.file_name, item.checksum)
        if item.is_archive:
            unpack(archive, folder, item.gives)
            archive.unlink()
        elif archive != target:
            target.parent.mkdir(parents=True, exist_ok=True)
            archive.rename(target)
    except OSError as error:
        raise DataError(said_by_system(error, folder)) from error
    return True


# ---------------------------------------------------------------- fetching


def fetch(url: str, path: Path, checksum: str | None = None) -> Path:
    """Download to `path`, by way of `path.part`, which a later call continues.

    A checksum that does not fit removes the file, since continuing it could not mend it.
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
    if checksum is not None and (found := _checksum(part, checksum)) != checksum:
        part.unlink()
        raise DataError(
            f"{url}: the checksum of the file is {found}, expected {checksum}; the file was "
            f"removed: fetch it again; if the sum is the same again, it has changed at its source"
        )
    part.rename(path)
    part.with_name(f"{part.name}.tag").unlink(missing_ok=True)
    return path


def _fetch_all(url: str, file: IO[bytes], tag: Path) -> None:
    """Ask for what `file` lacks until it is whole; an attempt that brought bytes is no failure."""
    failures = 0
    while True:
        before = file.tell()
        try:
            _fetch_some(url, file, tag)
            return
        except urllib.error.HTTPError as error:
            with error:
                reason = f"HTTP {error.code} {error.reason}"
            if error.code == 416:  # nothing lies behind the part: it is whole, or of another file
                if error.headers.get("Content-Range") == f"bytes */{before}":
                    return
                _start_again(file)
            elif error.code < 500:
                raise DataError(f"{url}: {reason}; look whether it has moved") from None
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        failures = failures + 1 if file.tell() <= before else 1
        if failures >= ATTEMPTS:
            have = f"after {file.tell() / 1e6:.1f} MB " if file.tell() else ""
            raise DataError(
                f"{url}: broke off {have}({reason}); the same command continues it, or fetch it by "
                f"other means and say where it is"
            )
        time.sleep(PAUSE_S * 2 ** (failures - 1))


def _fetch_some(url: str, file: IO[bytes], tag: Path) -> None:
    """One request; returns when the file is whole, raises where the connection ends before."""
    from tqdm import tqdm

    begin = file.tell()
    headers = {"User-Agent": f"asr/{__version__}"}
    if begin and tag.exists():
        headers |= {"Range": f"bytes={begin}-", "If-Range": tag.read_text()}
    elif begin:
        headers |= {"Range": f"bytes={begin}-"}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        if begin and not _continues(response, begin):
            begin = 0
            _start_again(file)
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if validator and not validator.startswith("W/"):
            tag.write_text(validator)
        length = response.headers.get("Content-Length")
        total = begin + int(length) if length else None
        if total is not None:
            free = shutil.disk_usage(tag.parent).free
            if total - begin > free:
                raise OSError(errno.ENOSPC, f"{total - begin} bytes to come, {free} free")
        with tqdm(
            desc=tag.name.removesuffix(".part.tag"),
            total=total,
            initial=begin,
            unit="B",
            unit_scale=True,
            disable=None,
        ) as bar:
            while block := response.read(CHUNK):
                file.write(block)
                bar.update(len(block))
    if total is not None and file.tell() < total:
        raise ConnectionError(f"connection closed, {total - file.tell()} bytes are missing")


def _start_again(file: IO[bytes]) -> None:
    file.seek(0)
    file.truncate()


def _continues(response: http.client.HTTPResponse, begin: int) -> bool:
    return response.status == 206 and response.headers.get("Content-Range", "").startswith(
        f"bytes {begin}-"
    )


def _checksum(path: Path, expected: str) -> str:
    kind = expected.partition(":")[0]
    with open(path, "rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


# ---------------------------------------------------------------- unpacking


def unpack(archive: Path, folder: Path, gives: str, limit: int | None = None) -> None:
    """Unpack a tar or zip into a sibling of its place; then `gives` gets its name below `folder`.

    Refused, with nothing left behind: names that lead out of the folder, links, devices, more
    than `limit` bytes (default: 20 times the archive), and an archive that is damaged or lacks
    `gives`. Files beside `gives` come along where there is none of their name.
    """
    limit = limit or max(SMALLEST_LIMIT, EXPANSION * archive.stat().st_size)
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{archive.name}.", dir=folder))
    try:
        work.chmod(0o755)
        _unpack_all(archive, work, limit)
        if not (work / gives).exists():
            there = ", ".join(sorted(path.name for path in work.iterdir())) or "nothing"
            raise DataError(f"{archive}: expected {gives} in it, found {there}")
        for path in sorted((work / gives).parent.iterdir()):
            beside = folder / path.relative_to(work)
            if path != work / gives and not beside.exists():
                beside.parent.mkdir(parents=True, exist_ok=True)
                path.rename(beside)
        (folder / gives).parent.mkdir(parents=True, exist_ok=True)
        (work / gives).rename(folder / gives)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _unpack_all(archive: Path, work: Path, limit: int) -> None:
    members = _zip_members if archive.name.endswith(".zip") else _tar_members
    left, count = limit, 0
    try:
        for name, content in members(archive):
            path = work / _safe(name, archive)
            count += 1
            if count > MAX_FILES:
                raise DataError(f"{archive}: more than {MAX_FILES} files; it is not unpacked")
            if content is None:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "xb") as file:
                while block := content.read(CHUNK):
                    left -= len(block)
                    if left < 0:
                        raise DataError(
                            f"{archive}: grows to more than {limit / 1e6:.0f} MB; "
                            f"it is not unpacked"
                        )
                    file.write(block)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(f"{archive}: holds {name!r} twice; it is not unpacked") from error
    except (
        EOFError,
        zlib.error,
        gzip.BadGzipFile,
        tarfile.TarError,
        zipfile.BadZipFile,
        NotImplementedError,
    ) as error:
        raise DataError(
            f"{archive}: damaged or cut short ({error}); remove it and fetch it again"
        ) from error


def _tar_members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    opener = gzip.open if archive.name.endswith((".gz", ".tgz")) else open
    with opener(archive, "rb") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            if member.isdir():
                yield member.name, None
            elif member.isfile():
                content = tar.extractfile(member)
                assert content is not None
                yield member.name, content
            else:
                kind = "a link" if member.islnk() or member.issym() else "a device or pipe"
                raise DataError(f"{archive}: {member.name!r} is {kind}; it is not unpacked")
        while stream.read(CHUNK):  # up to gzip's own sum, which tarfile does not look at
            pass


def _zip_members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with zipfile.ZipFile(archive) as pack:
        for member in pack.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise DataError(
                    f"{archive}: {member.filename!r} is a link or a device; it is not unpacked"
                )
            if member.flag_bits & 1:
                raise DataError(f"{archive}: {member.filename!r} is encrypted")
            if member.is_dir():
                yield member.filename, None
            else:
                with pack.open(member) as content:
                    yield member.filename, content


def _safe(name: str, archive: Path) -> PurePosixPath:
    """The name of a member as a path that stays inside; `DataError` for any other."""
    path = PurePosixPath(name)
    odd = not name or "\0" in name or "\\" in name or ":" in (path.parts or ("",))[0]
    if odd or path.is_absolute() or ".." in path.parts:
        raise DataError(f"{archive}: {name!r} leads out of the folder; it is not unpacked")
    return path


# ---------------------------------------------------------------- the command


@exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit code 0 done, 1 not possible, 2 wrong use, 130 interrupted."""
    known = catalogue()
    parser = argparse.ArgumentParser(
        prog="asr download", description="Fetch corpora that are free to download."
    )
    parser.add_argument("corpus", nargs="+", choices=sorted(known), metavar="CORPUS")
    parser.add_argument("--to", default="data", metavar="FOLDER", help="default: data")
    parser.epilog = f"Known: {', '.join(sorted(known))}. What is there already is left alone."
    options = parser.parse_args(arguments)
    folder = Path(options.to)
    for item in (item for corpus in options.corpus for item in known[corpus]):
        if not ensure(item, folder):
            print(f"{folder / item.gives}: there already")
        elif item.checksum:
            print(f"{folder / item.gives}: fetched, its {item.checksum.partition(':')[0]} fits")
        else:
            print(f"{folder / item.gives}: fetched; no checksum is known, its size was checked")


if __name__ == "__main__":
    sys.exit(main())
