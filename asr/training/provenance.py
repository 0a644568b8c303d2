"""What a run was made from: command, code, packages, data and machine.

`provenance.json` has one entry for the start of a run and one for each time that it was continued,
with what was so then; changes of the code that no commit has are kept beside it, as a diff.
"""

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TypedDict

import torch

from asr import __version__
from asr.errors import DISTRIBUTION
from asr.files.outputs import atomic_open

COMMAND = ContextVar("COMMAND", default="")  # as it was typed; "" where no command runs
CODE = ("asr", "conf", "recipes")  # folders of the repository that decide a run
MOST_BYTES = 16 << 20  # of a diff that is kept
GIT_S = 60.0  # the longest that git may take


class Code(TypedDict):
    """The code's version; where it is a repository, its commit, and what differs from that.

    `diff` is the name of a file beside provenance.json that `git apply` takes; None where nothing
    differs, or too much to be kept.
    """

    version: str
    commit: str | None
    dirty: bool | None
    diff: str | None


class Machine(TypedDict):
    """What computes: `cores` are those that the process may use, `instructions` are torch's."""

    cpu: str
    architecture: str
    instructions: str
    cores: int
    memory_gb: float
    gpus: list[str]
    system: str


class Start(TypedDict):
    """The start of a training, or one of its continuations."""

    time: str
    epochs: int
    command: str
    folder: str
    code: Code
    packages: dict[str, str]
    data: dict[str, str]
    machine: Machine
    device: str
    processes: int
    threads: int


class Provenance(TypedDict):
    """The content of provenance.json: the start of a run, then its continuations."""

    starts: list[Start]


def start(
    folder: Path, data: Sequence[Path], epochs: int, device: torch.device, processes: int = 1
) -> Start:
    """What is so now. `epochs` are finished; `data` are files, whose SHA-256 is taken.

    The diff of the code is written into `folder`, if there is any.
    """
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "epochs": epochs,
        "command": command(),
        "folder": os.getcwd(),
        "code": code(folder),
        "packages": packages(),
        "data": {path.name: _sha256(path) for path in data},
        "machine": machine(device),
        "device": str(device),
        "processes": processes,
        "threads": torch.get_num_threads(),
    }


def write(path: Path, starts: Sequence[Start]) -> None:
    """Write provenance.json, and remove diffs beside it that none of the starts has."""
    with atomic_open(path) as file:
        file.write(json.dumps(Provenance(starts=list(starts)), indent=2, ensure_ascii=False) + "\n")
    kept = {one["code"]["diff"] for one in starts}
    for diff in path.parent.glob("code-*.diff"):
        if diff.name not in kept:
            diff.unlink()


def command(environment: Mapping[str, str] = os.environ) -> str:
    """The command that runs, as it can be typed again in the same folder."""
    typed = COMMAND.get() or shlex.join(sys.orig_argv)
    if "TORCHELASTIC_RUN_ID" not in environment:
        return typed
    world, local = (int(environment.get(k, 1)) for k in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    nodes = world // max(local, 1)
    several = f"--nnodes={nodes} --rdzv-backend=c10d --rdzv-endpoint=HOST:PORT "
    launcher = f"torchrun {several if nodes > 1 else ''}--nproc-per-node={local}"
    if not COMMAND.get():
        return f"{launcher} --no-python {typed}"
    return f"{launcher} -m {typed}"


def code(folder: Path) -> Code:
    """The code that runs; what no commit has is written into `folder`."""
    commit, dirty, name = None, None, None
    if _git("ls-files", "--error-unmatch", "asr/__init__.py") is not None:
        commit = (_git("rev-parse", "HEAD") or b"").decode().strip() or None
    if commit is not None and (diff := _difference()) is not None:
        dirty = bool(diff)
        if 0 < len(diff) <= MOST_BYTES:
            name = f"code-{hashlib.sha256(diff).hexdigest()[:12]}.diff"
            with atomic_open(folder / name, "wb") as file:
                file.write(diff)
    return {"version": __version__, "commit": commit, "dirty": dirty, "diff": name}


def _difference() -> bytes | None:
    """The diff from the last commit, with new files that git does not ignore."""
    there = [name for name in CODE if (_repository() / name).exists()]
    index = _git("rev-parse", "--git-path", "index")
    if index is None:
        return None
    with tempfile.TemporaryDirectory(prefix="asr-") as place, suppress(OSError):
        copied = shutil.copy(_repository() / index.decode().strip(), place)
        if _git("add", "--intent-to-add", "--", *there, index=copied) is not None:
            kind = "--binary", "--no-color", "--no-ext-diff", "--no-textconv"
            prefixes = "--src-prefix=a/", "--dst-prefix=b/"
            return _git("diff", *kind, *prefixes, "HEAD", "--", *there, index=copied)
    return None


def _git(*arguments: str, index: str = "") -> bytes | None:
    """What git prints in the repository of this package; None where it fails."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0"} | ({"GIT_INDEX_FILE": index} if index else {})
    # In a container the repository is often another user's; its code runs already.
    begin = "git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false"
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(
            [*begin, *arguments],
            cwd=_repository(),
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_S,
            check=True,
        ).stdout
    return None


def _repository() -> Path:
    return Path(__file__).parents[2]


def packages() -> dict[str, str]:
    """Versions of Python and of the packages that this one needs, by name."""
    required = ["torch", "numpy"]
    with suppress(metadata.PackageNotFoundError):
        listed = metadata.requires(DISTRIBUTION) or []
        required = [line for line in listed if "extra ==" not in line]
    versions = {"python": platform.python_version()}
    for name in sorted(re.split(r"[^\w.-]", line)[0] for line in required):
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def machine(device: torch.device) -> Machine:
    """The machine; of its GPUs those that are visible, where the run computes on one."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    memory = 0
    with suppress(ValueError, OSError):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    gpus = range(torch.cuda.device_count() if device.type == "cuda" else 0)
    return {
        "cpu": _cpu(),
        "architecture": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": cores,
        "memory_gb": round(memory / 1e9, 1),
        "gpus": [torch.cuda.get_device_name(number) for number in gpus],
        "system": f"{platform.system()} {platform.release()}",
    }


def _cpu() -> str:
    """The model of the processor, or "" where the system does not say."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace")
        if named := re.search(r"^(?:model name|cpu model|Model)\s*:\s*(.+)", lines, re.MULTILINE):
            return " ".join(named[1].split())
    with suppress(OSError, subprocess.SubprocessError):
        asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ── in words ─────────────────────────────────────────────────────────────────────────────────


def facts(starts: Sequence[Start]) -> dict[str, str]:
    """Each fact by its name, for people; those of several starts with an arrow between them."""
    each = [_facts(one) for one in starts]
    return {
        key: " → ".join(dict.fromkeys(one[key] for one in each if key in one))
        for key in dict.fromkeys(key for one in each for key in one)
    }


def _facts(one: Start) -> dict[str, str]:
    code, machine = one["code"], one["machine"]
    changed = f" with changes ({code['diff'] or 'not kept'})" if code["dirty"] else ""
    gpus = ", ".join(machine["gpus"])
    return {
        "commit": f"{(code['commit'] or 'unknown')[:10]}{changed}",
        "version": code["version"],
        "machine": f"{machine['cpu'] or machine['architecture']}, {machine['instructions']}, "
        f"{machine['cores']} cores{gpus and f', {gpus}'}",
        "device": one["device"],
        "processes": f"{one['processes']}",
        "threads": f"{one['threads']}",
        **one["packages"],
        **{name: digest[:10] for name, digest in one["data"].items()},
    }
