"""Functions compiled by numba at their first call, and the folder that caches their code."""

import atexit
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[F], F]:
    """A decorator that compiles with numba, cached on disk where numba has a folder for it."""

    def compile(function: F) -> F:
        try:
            return cast(F, numba.njit(cache=True, nogil=True, **options)(function))
        except RuntimeError:  # no folder to cache it in
            return cast(F, numba.njit(nogil=True, **options)(function))

    return compile


def find_place() -> None:
    """Set numba's cache to a folder for temporary files, if it can write to no other.

    numba caches beside the source or in the user's cache. In a read-only installation without a
    home folder it has neither, and librosa cannot be imported, because its functions need a cache.
    """
    known = os.environ.get("NUMBA_CACHE_DIR") or os.path.expanduser("~") != "~"
    librosa = importlib.util.find_spec("librosa")
    sources = [__file__, *([librosa.origin] if librosa and librosa.origin else [])]
    if known and all(map(can_keep, sources)):
        return
    with suppress(OSError):  # without any folder, functions that need a cache fail
        os.environ["NUMBA_CACHE_DIR"] = str(_own_folder())
        numba.config.reload_config()  # type: ignore[no-untyped-call]


def can_keep(source: str) -> bool:
    """Whether numba has a folder to cache the functions of a source file in."""
    names: dict[str, Any] = {}
    exec(compile("def nothing(): pass", source, "exec"), names)
    try:
        numba.njit(cache=True)(names["nothing"])
    except RuntimeError:
        return False
    return True


def _own_folder() -> Path:
    """A folder for temporary files that only this user may write, the same one every time."""
    folder = Path(tempfile.gettempdir(), f"asr-numba-{os.geteuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if folder.is_symlink() or about.st_uid != os.geteuid() or about.st_mode & 0o077:
        folder = Path(tempfile.mkdtemp(prefix="asr-numba-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


find_place()
