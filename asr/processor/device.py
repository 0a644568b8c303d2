"""The processor that a run computes on."""

import os

import torch

from asr.errors import DataError
from asr.processor import ranks


def devices() -> list[str]:
    """The names of the devices that are here, `cuda` for the first of its kind too."""
    numbered = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *(["cuda"] if numbered else []), *numbered, *mps]


def choose_device(name: str, threads: int = 0) -> torch.device:
    """The device `name`, one of `devices`; with "auto", cuda where there is one.

    Sets the CPU threads of torch, unless `threads` is 0. `DataError` for a device that is not here.
    Of the processes that torchrun starts on a machine, each has a GPU, or its share of the cores.
    """
    here, processes = devices(), ranks.local_count()
    if processes > 1:
        threads = threads or max(1, len(os.sched_getaffinity(0)) // processes)
        if name in ("auto", "cuda") and "cuda" in here:
            name = f"cuda:{ranks.local_rank()}"
        elif name.startswith("cuda:") and name in here:
            raise DataError(f"device is {name} for {processes} processes; set device=cuda")
        if name.startswith("cuda:") and name not in here:
            gpus = len(here) - here.index("cuda") - 1
            raise DataError(f"{processes} processes need a GPU each, expected at most {gpus}")
    if threads:
        torch.set_num_threads(threads)
    if name == "auto":
        return torch.device("cuda" if "cuda" in here else "cpu")
    if name not in here:
        raise DataError(f"device is {name}, expected auto or {', '.join(here)}")
    return torch.device(name)
