"""On what a trained model runs, decided without torch where no GPU is asked for."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

from asr.errors import DataError, pip_install

DRIVERS = (Path("/proc/driver/nvidia"), Path("/dev/dxg"), Path("/dev/kfd"))


def device_for(name: str, threads: int = 0) -> str:
    """The device `name`; with "auto", cuda where there is one. Raises as `choose_device`.

    `threads`, unless 0, are those of the process, and of the processes that it starts.
    """
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    if not re.fullmatch(r"auto|cpu|(cuda|mps)(:\d+)?", name):
        raise DataError(f"device is {name}, expected auto, cpu, cuda, cuda:N or mps")
    if name == "cpu" or (name == "auto" and not may_have_gpu()):
        return "cpu"
    try:
        from asr.processor.device import choose_device
    except ModuleNotFoundError as error:
        install = pip_install("train")
        raise DataError(
            f"device is {name}, which needs torch, and torch is not installed; run: {install}"
        ) from error
    return str(choose_device(name, threads))


def may_have_gpu() -> bool:
    """Whether torch and the driver of a GPU are there; torch says whether it can use it."""
    return any(path.exists() for path in DRIVERS) and find_spec("torch") is not None


def thread_count() -> int:
    """The threads that a computation may have."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdecimal() and int(told):
        return int(told)
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
