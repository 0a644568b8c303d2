"""torchrun with one sentence in place of its pages, where it runs this program.

    python -m asr.processor.torchrun --nproc-per-node=2 -m asr train experiment=demo

The same as `torchrun …`: torchrun loads the entry points `torchrun.handlers` before it reads its
arguments, and the one in pyproject.toml calls `prepare`. LOGLEVEL=INFO restores its own messages.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

LAUNCHER = "ASR_TORCHRUN"  # environment variable: the id of torchrun's process
ENDED_WITH_OTHERS = 128 + signal.SIGTERM  # exit code of a rank that has nothing to say itself
TEMPORARY_FAILURE = 75  # EX_TEMPFAIL of sysexits.h: the same command continues the run


def prepare() -> Callable[[Any], NoReturn]:
    """Replace torchrun's tracebacks and warnings, if it runs this program and no LOGLEVEL is set.

    Returns what an entry point of torchrun must: the maker of a rendezvous, which nobody can use.
    """
    if any(os.path.basename(word) == "asr" for word in sys.argv) and "LOGLEVEL" not in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does, with a warning
        os.environ.setdefault("PET_SIGNALS_TO_HANDLE", "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1")
        os.environ[LAUNCHER] = str(os.getpid())
        logging.disable(logging.CRITICAL)
        sys.excepthook = _explain

    def no_rendezvous(_: Any) -> NoReturn:
        raise ValueError("asr has no rendezvous of its own; set --rdzv-backend=c10d")

    return no_rendezvous


def _explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An `excepthook`: exit with the code of the worker that failed first, or 128 + its signal.

    A worker that fails has said why; of one that was killed, the sentence is said here. After a
    signal to torchrun, the exit code is 130 for SIGINT, otherwise TEMPORARY_FAILURE.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    if isinstance(error, SignalException):
        raise SystemExit(130 if error.sigval == signal.SIGINT else TEMPORARY_FAILURE)
    if not isinstance(error, ChildFailedError):
        sys.__excepthook__(kind, error, trace)
        return
    codes = {number: failure.exitcode for number, failure in error.failures.items()}
    if said := [code for code in codes.values() if code > 0 and code != ENDED_WITH_OTHERS]:
        raise SystemExit(said[0])
    killed = [rank for rank, code in codes.items() if code < 0 and code != -signal.SIGTERM]
    if not killed:
        print("error: the training was ended from outside", file=sys.stderr)
        raise SystemExit(ENDED_WITH_OTHERS)
    number = killed[0]
    name = signal.Signals(-codes[number]).name
    reason = ", as the system does where memory is not enough" if name == "SIGKILL" else ""
    print(
        f"error: rank {number} was killed ({name}{reason}); run the same command with resume=auto "
        f"to continue",
        file=sys.stderr,
    )
    raise SystemExit(128 - codes[number])


if __name__ == "__main__":
    prepare()
    from torch.distributed.run import main

    main()
