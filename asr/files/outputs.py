"""Files that are written as a whole or not at all, and that replace nothing by accident."""

import fcntl
import glob
import gzip
import io
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from asr.errors import FULL, escaped, raise_problems


def require_new(
    paths: Iterable[str | Path], overwrite: bool, inputs: Iterable[str | Path | None]
) -> None:
    """Raise one `DataError` for all files that cannot be written, before the work.

    It names each that is already there, unless `overwrite`; each that is a folder, or one of the
    `inputs`, which are all files that the command was given; and each file where a folder is
    needed.
    """
    read = [Path(path) for path in inputs if path and os.path.exists(path)]
    chosen = [Path(path) for path in paths]
    problems = []
    for folder in dict.fromkeys(path.parent for path in chosen):
        nearest = next(one for one in (folder, *folder.absolute().parents) if os.path.lexists(one))
        if not nearest.is_dir():
            problems.append(f"{nearest}: is a file, expected a folder to write into")
    for path, count in Counter(path.absolute() for path in chosen).items():
        if count > 1:
            problems.append(f"{path}: is the name of {count} outputs, expected one for each")
    for path in chosen:
        if path.is_dir():
            problems.append(f"{path}: is a folder, expected the name of a file to write")
        elif path.exists() and any(map(path.samefile, read)):
            problems.append(f"{path}: is one of the inputs, expected the name of another file")
        elif not overwrite and (path.is_file() or path.is_symlink()):
            problems.append(
                f"{path}: already exists and would be overwritten; choose another place, move it "
                f"away, or set --overwrite"
            )
    raise_problems(dict.fromkeys(map(escaped, problems)))


@contextmanager
def atomic_open(
    path: str | Path, mode: str = "w", previous: Path | None = None
) -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`, which is renamed to `path` at the end.

    The file that it replaces is then called `previous`, if that is given. On an error the temporary
    one is removed; what a killed process left, the next writer of `path` replaces. Errors name
    `path`, not the temporary file.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path, mode) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if previous is not None and path.exists():
                    _keep(path, previous)
                os.replace(file.name, path)
            except BaseException:
                with suppress(OSError):
                    os.unlink(file.name)
                raise
    except OSError as error:
        if error.errno in FULL or Path(str(error.filename)).name.startswith(f".{path.name}."):
            error.filename = str(path)
        raise


@contextmanager
def compressed_open(path: str | Path) -> Iterator[IO[str]]:
    """`atomic_open` of text, which gzip compresses if the name ends in .gz."""
    if Path(path).suffix != ".gz":
        with atomic_open(path) as file:
            yield file
        return
    with (
        atomic_open(path, "wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8") as file,
    ):
        yield file


def _keep(path: Path, other: Path) -> None:
    """Give a file another name too; where the file system has no links, a copy."""
    other.unlink(missing_ok=True)
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)


def _temporary(path: Path, mode: str) -> IO[Any]:
    """`.NAME.asr-part`, locked, maybe left by a killed process; where that is in use, another."""
    encoding = None if "b" in mode else "utf-8"
    with suppress(OSError):
        own = path.with_name(f".{path.name}.asr-part")
        return open(own, mode, encoding=encoding, opener=_locked)
    return open(path.with_name(f".{path.name}.{os.urandom(4).hex()}"), mode, encoding=encoding)


def _locked(name: str, flags: int) -> int:
    """An `opener` that empties a file only when no other process is writing it."""
    file = os.open(name, flags & ~os.O_TRUNC, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(name).st_ino != os.fstat(file).st_ino:
            raise BlockingIOError  # renamed in between
        os.ftruncate(file, 0)
    except BaseException:
        os.close(file)
        raise
    return file


@contextmanager
def temporary_folder(place: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `place` that is removed at the end; so are those that killed processes left.

    Its name is `prefix` and eight characters.
    """
    for left in place.glob(f"{glob.escape(prefix)}????????"):
        with suppress(OSError), _locked_folder(left):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    try:
        with _locked_folder(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    """Raises `OSError` where a living process has locked it."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)
