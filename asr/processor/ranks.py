"""The processes that train one model together, as torchrun starts them (torch.distributed).

Each has a rank, 0…N − 1; rank 0 alone writes and logs. Without torchrun there is one process, and
all of this does nothing. The backend is gloo for tensors of the CPU and NCCL for those of GPUs.
"""

import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import zip_longest
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from asr.errors import DataError
from asr.processor.torchrun import ENDED_WITH_OTHERS, LAUNCHER

Value = TypeVar("Value")

LOST = re.compile(r"gloo|NCCL|Connection (closed|reset|refused)|Timed out|Broken pipe|TCPStore")
TIMED_OUT = re.compile(r"[Tt]imed out|[Tt]imeout")
GRACE_S = 2.0  # in which the rank that failed first prints its error, and torchrun ends the others


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """How many processes train together, N."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes and logs."""
    return rank() == 0


def gather(value: Value) -> list[Value]:
    """The values of all ranks, in their order; every rank must call it."""
    if count() == 1:
        return [value]
    values: list[Value | None] = [None] * count()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def sum_(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over all ranks; every rank must call it."""
    if count() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)


def share(tensors: Iterable[Tensor]) -> None:
    """Give every rank the values of rank 0; every rank must call it."""
    if count() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def in_turn(values: list[Value]) -> list[Value]:
    """The values of all ranks: the first of each rank, then the second of each, and so on.

    With each rank's results of the batches rank, rank + N, …, these are in the order of batches.
    """
    absent = object()
    turns = zip_longest(*gather(values), fillvalue=absent)
    return [value for turn in turns for value in turn if value is not absent]  # type: ignore[misc]


def barrier() -> None:
    """Wait until every rank is here."""
    gather(None)


def are_launched() -> bool:
    """Whether torchrun started this process as one of several."""
    known = {"RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    return known <= os.environ.keys() and os.environ.get("WORLD_SIZE", "1") != "1"


def local_rank() -> int:
    """The number of this process among those of its machine."""
    return int(os.environ["LOCAL_RANK"]) if are_launched() else 0


def local_count() -> int:
    """How many of the processes are on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if are_launched() else 1


def launch() -> str:
    """What names the launch of torchrun that this process is part of, "" without torchrun."""
    on_one_machine = os.environ.get("GROUP_WORLD_SIZE") == "1"
    name = os.environ.get("TORCHELASTIC_RUN_ID", "")
    return f"{name} {os.getppid()}" if name and on_one_machine else name


def is_restart() -> bool:
    """Whether torchrun started this process in place of one that failed (`--max-restarts`)."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


@contextmanager
def started(timeout_s: float) -> Iterator[None]:
    """Join the processes that torchrun started, if it did; leave them at the end.

    A rank that waits `timeout_s` for another raises `DataError`. Of several ranks that fail, the
    first raises its error; the others end in silence, as does every rank when torchrun has died.
    """
    if not are_launched():
        yield
        return
    _end_with(int(os.environ.get(LAUNCHER, os.getppid())))
    where, store = f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}", None
    try:
        timeout = timedelta(seconds=timeout_s)
        store, number, size = next(rendezvous("env://", timeout=timeout))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = PrefixStore(f"asr/{attempt}", store)  # torchrun keeps it between attempts
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=timeout, world_size=size, rank=number, store=store)
        if not is_main():
            logging.disable()
        yield
        dist.destroy_process_group()
    except SystemExit:
        raise
    except KeyboardInterrupt:
        if not is_main():
            sys.exit(130)
        raise
    except BaseException as error:
        text = str(error)
        is_lost = isinstance(error, RuntimeError) and LOST.search(text) is not None
        on_one_machine = os.environ["WORLD_SIZE"] == os.environ["LOCAL_WORLD_SIZE"]
        if is_lost and on_one_machine and not TIMED_OUT.search(text):
            end_in_silence()  # torchrun says which process has died
        if not _is_first(store):
            end_in_silence()
        if is_lost:
            raise DataError(
                f"{where}: another process has died, or gave no answer for {timeout_s:g} s; run "
                f"the same command with resume=auto to continue, or set a longer timeout_s"
            ) from error
        raise


def _is_first(store: Store | None) -> bool:
    """Whether no other rank has failed before."""
    with suppress(RuntimeError):  # the store is lost too
        return store is None or store.add("asr.failed", 1) == 1
    return True


def end_in_silence() -> NoReturn:
    """End this process, where another one says what is wrong, after it has had time for that."""

    def end(*_: object) -> NoReturn:
        sys.exit(ENDED_WITH_OTHERS)

    signal.signal(signal.SIGTERM, end)
    time.sleep(GRACE_S)
    sys.exit(ENDED_WITH_OTHERS)


def _end_with(parent: int) -> None:
    """Exit when the parent has died: a rank in a collective operation would wait for others."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
