"""Arrays that take seconds to make: kept on disk at their first use, memory-mapped from then on.

    FOLDER/phones-4f6c…/about.json     size, time and checksum of each file
    FOLDER/phones-4f6c…/arcs.npy       an array

An entry is named by the digest of all that it depends on. It is made under another name and then
renamed, so any number of processes may use, make and remove it. A damaged one is made again.
Without a folder that only this user can write, arrays are made at each use.
"""

import hashlib
import json
import logging
import mmap
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from asr.files.outputs import temporary_folder

NEWEST = 4  # entries of a kind, by their last use; others are removed
PIECE = 1 << 14  # bytes of a large array that have the same advice
MOST_PIECES = 1 << 15  # of this process; Linux has 65,530 for each

say: Callable[[str], object] = logging.getLogger(__name__).info  # programs set another function
_advised = 0


def kept(
    kind: str,
    key: Sequence[str],
    make: Callable[[], Mapping[str, Any]],
    what: str,
    read_whole: bool = False,
) -> dict[str, Any]:
    """The arrays of `make`, read-only, by their names; it is called where they are not kept.

    `kind` begins the name of the entry, and `key` says all that its arrays depend on. At the first
    use `say` tells what is done. Where they are not `read_whole`, only what is read takes memory.
    """
    digest = hashlib.sha256(json.dumps([kind, *key]).encode()).hexdigest()[:32]
    place = None
    for folder in filter(is_own, folders()):
        if arrays := _read(folder / f"{kind}-{digest}", read_whole):
            return arrays
        if os.access(folder, os.W_OK):
            place = folder / f"{kind}-{digest}"
            break
    chosen = os.environ.get("ASR_CACHE")
    reason = f"{chosen} (ASR_CACHE) is no" if chosen else "set ASR_CACHE to a"
    not_kept = f"not kept: {reason} folder that you alone can write"
    where = f"kept in {place.parent}" if place else not_kept
    say(f"first use: unpacking {what}, {where}")
    arrays = dict(make())
    for array in arrays.values():
        array.setflags(write=False)
    if place:
        try:
            _write(place, arrays)
            entries = sorted(place.parent.glob(f"{kind}-*"), key=lambda one: -one.stat().st_mtime)
            for entry in entries[NEWEST:]:
                shutil.rmtree(entry, ignore_errors=True)
        except OSError as error:
            say(f"{place.parent}: not kept ({error.strerror})")
        return _read(place, read_whole) or arrays
    return arrays


def stamp(path: str | Path) -> str:
    """Path, size and times of a file; ctime changes even where the others are set back."""
    about = os.stat(path)
    times = f"{about.st_mtime_ns} {about.st_ctime_ns}"
    return f"{Path(path).absolute()} {about.st_size} {times}"


def give_back(array: Any) -> None:
    """Give the pages of a kept array back to the system, which reads them again when needed."""
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)


def folders() -> Iterator[Path]:
    """Where arrays are kept: the first that is the user's own, made at its first use.

    ASR_CACHE alone, or else `asr-phones` in the user's cache, or a folder for temporary files.
    """
    if chosen := os.environ.get("ASR_CACHE"):
        yield Path(chosen).resolve()
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if cache.is_absolute():
        yield (cache / "asr-phones").resolve()
    yield Path(tempfile.gettempdir(), f"asr-phones-{os.geteuid()}")


def is_own(folder: Path) -> bool:
    """Whether only this user, or the system's administrator, can write to a folder.

    It is made if it is absent.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    about = folder.lstat()  # of a link, all have the right to write
    return about.st_uid in (0, os.geteuid()) and not about.st_mode & 0o022


def _read(entry: Path, whole: bool = True) -> dict[str, Any]:
    """The arrays of an entry, memory-mapped; none where it is absent or damaged."""
    try:
        about = json.loads((entry / "about.json").read_bytes())
        if not all(_is_sound(entry / f"{name}.npy", *stamp) for name, stamp in about.items()):
            return {}
        arrays = {name: np.load(entry / f"{name}.npy", mmap_mode="r") for name in about}
        with suppress(OSError):
            os.utime(entry)
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    for array in () if whole else arrays.values():
        _read_single_pages(array.base)
    return {name: np.asarray(array) for name, array in arrays.items()}


def _is_sound(path: Path, size: int, time_ns: int, checksum: int) -> bool:
    """Whether a file is what was written; it is read only where its time says that it changed."""
    about = path.stat()
    if about.st_size != size:
        return False
    return about.st_mtime_ns == time_ns or _checksum(path) == checksum


def _checksum(path: Path) -> int:
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _read_single_pages(mapped: mmap.mmap) -> None:
    """Have Linux map few pages beside those that are read, where they are few and far apart.

    It maps 16 at once, but none beyond a mapping, and pieces of different advice are different
    mappings. That core dumps leave them out is an advice without other effects.
    """
    global _advised
    pieces = len(mapped) // PIECE
    if not hasattr(mmap, "MADV_DONTDUMP") or pieces < 64 or _advised + pieces > MOST_PIECES:
        return
    _advised += pieces
    with suppress(OSError):
        for start in range(0, pieces * PIECE, 2 * PIECE):
            mapped.madvise(mmap.MADV_DONTDUMP, start, PIECE)


def _write(entry: Path, arrays: Mapping[str, Any]) -> None:
    with temporary_folder(entry.parent, f".{entry.name}-") as folder:
        part = folder / "part"
        part.mkdir()
        for name, array in arrays.items():
            with open(part / f"{name}.npy", "wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        about = {}
        for name in arrays:
            path = part / f"{name}.npy"
            stat = path.stat()
            about[name] = stat.st_size, stat.st_mtime_ns, _checksum(path)
        (part / "about.json").write_text(json.dumps(about))
        if not _read(entry):  # which another process may have made meanwhile
            shutil.rmtree(entry, ignore_errors=True)
            part.rename(entry)
