"""Functions that numba compiles, at their first call, to machine code."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[F], F]:
    """Compile with numba, and keep the result beside its file where that can be written."""

    def compile(function: F) -> F:
        try:
            return cast(F, numba.njit(cache=True, nogil=True, **options)(function))
        except RuntimeError:  # no place to keep it
            return cast(F, numba.njit(nogil=True, **options)(function))

    return compile
