"""The processor that a run computes on."""

import torch

from asr.errors import DataError


def devices() -> list[str]:
    """The names of the devices that are here, `cuda` for the first of its kind too."""
    numbered = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *(["cuda"] if numbered else []), *numbered, *mps]


def choose_device(name: str, threads: int = 0) -> torch.device:
    """The device `name`, one of `devices`; with "auto", cuda where there is one.

    Sets the CPU threads of torch, unless `threads` is 0. `DataError` for a device that is not here.
    """
    if threads:
        torch.set_num_threads(threads)
    here = devices()
    if name == "auto":
        return torch.device("cuda" if "cuda" in here else "cpu")
    if name not in here:
        raise DataError(f"device is {name}, expected auto or {', '.join(here)}")
    return torch.device(name)
