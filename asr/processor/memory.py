"""The memory of this process: how much it has, how much more it may take, and giving some back."""

import ctypes
import resource
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

PAGE = resource.getpagesize()
UNLIMITED = 1 << 60  # cgroups write a limit as large as this where there is none


def resident() -> int:
    """Bytes of physical memory that this process has; 0 on a system without /proc."""
    return _word(Path("/proc/self/statm"), 1) * PAGE


def available() -> int | None:
    """Bytes that this process may take beside what it has; None: unknown.

    The least of what the machine has free, and of the limits of its control groups and of `ulimit`.
    """
    free = [most - taken for most, taken in _limits()]
    with suppress(OSError, KeyError, ValueError, IndexError):
        of_machine = dict(one.split(":") for one in Path("/proc/meminfo").read_text().splitlines())
        free.append(sum(int(of_machine[k].split()[0]) << 10 for k in ("MemAvailable", "SwapFree")))
    return max(0, min(free)) if free else None


def trim_above(most: int) -> None:
    """Give free pages back to the system where `resident` is more than `most` bytes; 0: never.

    Buffers of ever other sizes leave the heap of glibc full of holes, which it keeps. To trim it
    when that is much is faster than `mallopt`, with which every buffer begins with new pages.
    """
    if most and (trim := _malloc_trim()) and resident() > most:
        trim(0)


@cache
def _malloc_trim() -> Any:
    """The function of glibc; None with another library."""
    with suppress(OSError, TypeError):
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    return None


def _limits() -> Iterator[tuple[int, int]]:
    """Each limit of control groups and of `ulimit`, and what is taken of it, in bytes."""
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        yield most, _word(Path("/proc/self/statm"), 0) * PAGE
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kinds, place = line.split(":", 2)
            root, names = Path("/sys/fs/cgroup"), ("memory.max", "memory.current")
            if kinds == "memory":
                root, names = root / kinds, ("memory.limit_in_bytes", "memory.usage_in_bytes")
            elif kinds:
                continue
            group = root / place.lstrip("/")
            for folder in (group, *group.parents):
                limit, taken = (_word(folder / name, 0) for name in names)
                if folder.is_relative_to(root) and 0 < limit < UNLIMITED:
                    yield limit, taken - _cached(folder)


def _cached(folder: Path) -> int:
    """Bytes of files that a control group has in memory, and gives up where it needs more."""
    with suppress(OSError, ValueError):
        counts = dict(one.split() for one in (folder / "memory.stat").read_text().splitlines())
        return int(counts.get("total_inactive_file", counts.get("inactive_file", 0)))
    return 0


def _word(path: Path, number: int) -> int:
    """A number of a file; 0 where there is none."""
    with suppress(OSError, ValueError, IndexError):
        return int(path.read_text().split()[number])
    return 0
