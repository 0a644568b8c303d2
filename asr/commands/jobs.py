"""The jobs of a multirun: those that submitit runs, on a cluster too, and how a job ends.

Submitit (`hydra/launcher=submitit_slurm`, or `submitit_local` on this machine) starts each job as
processes of its own, with standard error in a file, and catches a signal that asks for the end.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NoReturn

from asr.errors import DataError
from asr.processor.torchrun import TEMPORARY_FAILURE

FOLDER = "exp/.jobs"  # of what submitit writes: on a disk that all nodes share
REQUEUE_S = 60.0  # in which Slurm ends the processes of a job that is back in the queue
ELSEWHERE = re.compile(r"hydra/launcher=submitit_|cluster=")
SIGNAL = "SUBMITIT_PREEMPT_SIGNAL"  # a variable of submitit: the signal, without SIG


class JobError(Exception):
    """A job of a multirun failed: its exit code, and its message if that was printed elsewhere.

    After an ordinary exception, unlike `SystemExit`, Hydra runs the other jobs. The message is
    printed where the exception arrives from the process of the job.
    """

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _arrived, self.args


def _arrived(code: int, message: str) -> JobError:
    if message:
        print(f"error: {message}", file=sys.stderr)
    return JobError(code, "")


def are_submitted() -> bool:
    """Whether submitit has started this process."""
    return "SUBMITIT_EXECUTOR" in os.environ


def is_restarted() -> bool:
    """Whether Slurm has started this job before: a node failed, or the job was requeued."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") != "0"


@contextmanager
def folder(overrides: Sequence[str]) -> Iterator[str]:
    """The folder that Hydra writes to, which is left if there are files of submitit in it."""
    if any(ELSEWHERE.match(text) for text in overrides):
        os.environ.setdefault(SIGNAL, "USR1")  # which training catches
        name = f"{FOLDER}/{datetime.now():%Y-%m-%d_%H-%M-%S}-{os.getpid()}"
        print(f"Waiting for the jobs; their logs are in {name}", file=sys.stderr)
        yield name
    else:
        with tempfile.TemporaryDirectory(prefix="asr-") as name:
            yield name


def join() -> None:
    """Set what torchrun would set, if this process is one of several tasks of a job."""
    from submitit.helpers import TorchDistributedEnvironment

    environment = TorchDistributedEnvironment()
    if environment.world_size > 1:
        environment.export(set_cuda_visible_devices=False)


def requeue() -> NoReturn:
    """Put this job back into the queue, and end; `DataError` if it may not be.

    Slurm does not list a job as running that was cancelled or is out of time.
    """
    if os.environ["SUBMITIT_EXECUTOR"] == "slurm":
        job = os.environ["SLURM_JOB_ID"]
        if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
            job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
        command = ["squeue", "--noheader", "--format=%T", f"--jobs={job}"]
        state = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        if state != "RUNNING":
            raise DataError(f"job {job} was ended; the same command with resume=auto continues it")
    try:
        # Submitit's handler requeues the job in its first task, which ends there.
        signal.raise_signal(getattr(signal, f"SIG{os.environ.get(SIGNAL, 'USR2')}"))
    except subprocess.CalledProcessError as error:
        if error.returncode > 0:  # otherwise Slurm, which ends this job, has ended scontrol too
            raise DataError(f"{' '.join(error.cmd)}: failed; see its message above") from error
    except Exception as error:
        if not is_of_submitit(error):
            raise
        raise DataError(
            f"{said_by_submitit(error)} The same command with resume=auto continues; "
            f"hydra.launcher.max_num_timeout is how often a job may use all of its time"
        ) from error
    if os.environ["SUBMITIT_EXECUTOR"] == "slurm":  # the end of one process may end the others
        time.sleep(REQUEUE_S)
    sys.exit(TEMPORARY_FAILURE)


def is_of_submitit(error: Exception) -> bool:
    """Whether an exception is about submitting, or about a job that has left no result."""
    return type(error).__module__.startswith("submitit") or '"srun"' in str(error)


def said_by_submitit(error: Exception) -> str:
    """What is wrong, from a message that has a log in it: its last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -=")]
    return lines[-1].removeprefix("error: ") if lines else type(error).__name__
