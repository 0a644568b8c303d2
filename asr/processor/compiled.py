"""Functions compiled by numba at their first call, and the folder that caches their code."""

import atexit
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import environment, event

from asr.files import kept
from asr.files.kept import is_own

F = TypeVar("F", bound=Callable[..., Any])
QUICK = ("0.68.",)  # releases of numba with which `_load` was tried
RUNTIME = "numba.core.runtime._nrt_python"  # private; without `_load` it is not needed


def compiled(**options: Any) -> Callable[[F], F]:
    """A decorator that compiles with numba, cached on disk where numba has a folder for it."""

    def compile(function: F) -> F:
        try:
            dispatcher = numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # no folder to cache it in
            return cast(F, numba.njit(nogil=True, **options)(function))
        cache = getattr(dispatcher, "_cache", None)  # None where NUMBA_DISABLE_JIT is set
        if cache is not None and numba.__version__.startswith(QUICK):
            cache.load_overload = partial(_load, cache)
        return cast(F, dispatcher)

    return compile


def _load(cache: Any, signature: Any, context: Any) -> Any:
    """Cached code, without the library that numba has for its compiler: 0.15 s and 28 MB less.

    Cached code only needs numba's functions for memory. The compiler loads the rest itself.
    """
    environment._rebuild_env = _rebuilt_environment
    llvm = importlib.import_module("llvmlite.binding")
    for name, address in importlib.import_module(RUNTIME).c_helpers.items():
        llvm.add_symbol(name if name[0] == "_" else f"NRT_{name}", address)
    with cache._guard_against_spurious_io_errors():
        return cache._load_overload(signature, context)


def _rebuilt_environment(module: str, constants: list[Any], name: str) -> Any:
    """numba's function of this name, without importing the module, whose names no code looks up.

    Importing those of numba's own functions would take 0.03 s.
    """
    known = environment.lookup_environment(name)  # type: ignore[no-untyped-call]
    if known is not None:
        return known
    result = environment.Environment({"__name__": module})
    result.consts[:] = constants
    result.env_name = name
    environment.Environment._memo[name] = result
    return result


class FirstUse(event.Listener):
    """Says once in a process that functions are compiled, which takes a while."""

    said = False

    def on_start(self, event: object) -> None:
        if not self.said:
            kept.say("first use: compiling, which may take half a minute")
        self.said = True

    def on_end(self, event: object) -> None:
        pass


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
    if not is_own(folder):
        folder = Path(tempfile.mkdtemp(prefix="asr-numba-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


find_place()
event.register("numba:compile", FirstUse())  # type: ignore[no-untyped-call]
