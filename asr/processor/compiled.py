"""Functions that numba compiles, at their first call, to machine code, and where it is kept."""

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
    """Compile with numba, and keep the result where there is a place for it."""

    def compile(function: F) -> F:
        try:
            return cast(F, numba.njit(cache=True, nogil=True, **options)(function))
        except RuntimeError:  # no place to keep it
            return cast(F, numba.njit(nogil=True, **options)(function))

    return compile


def find_place() -> None:
    """Have numba keep compiled code in the folder of temporary files where it knows no other place.

    Its places are beside the source and in the user's cache. In a read-only installation that is
    used without a home it has neither, and then librosa cannot be imported: its functions ask to be
    kept.
    """
    known = os.environ.get("NUMBA_CACHE_DIR") or os.path.expanduser("~") != "~"
    librosa = importlib.util.find_spec("librosa")
    sources = [__file__, *([librosa.origin] if librosa and librosa.origin else [])]
    if known and all(map(can_keep, sources)):
        return
    with suppress(OSError):  # none at all: what asks to be kept fails
        os.environ["NUMBA_CACHE_DIR"] = str(_own_folder())
        numba.config.reload_config()  # type: ignore[no-untyped-call]


def can_keep(source: str) -> bool:
    """Whether numba has a place for functions of a source file."""
    names: dict[str, Any] = {}
    exec(compile("def nothing(): pass", source, "exec"), names)
    try:
        numba.njit(cache=True)(names["nothing"])
    except RuntimeError:
        return False
    return True


def _own_folder() -> Path:
    """A folder among the temporary files that nobody else may write; the same one if it is ours."""
    folder = Path(tempfile.gettempdir(), f"asr-numba-{os.geteuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if folder.is_symlink() or about.st_uid != os.geteuid() or about.st_mode & 0o077:
        folder = Path(tempfile.mkdtemp(prefix="asr-numba-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


find_place()
