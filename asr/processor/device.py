"""The processor that a run computes on."""

import torch

from asr.errors import DataError


def choose_device(name: str, threads: int = 0) -> torch.device:
    """The device `name`, cpu or cuda; with "auto", cuda where there is one.

    Sets the CPU threads of torch, unless `threads` is 0. `DataError` for CUDA where there is none.
    """
    if threads:
        torch.set_num_threads(threads)
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    if name.startswith("cuda") and not available:
        raise DataError(f"device is {name}, but torch finds no CUDA device; set device=cpu")
    return torch.device(name)
