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
REPOSITORY = Path(__file__).parents[2]
MOST_BYTES = 16 << 20  # of a diff that is kept
GIT_S = 60.0  # the longest that git may take


class Start(TypedDict):
    """The start of a training, or one of its continuations: an entry of provenance.json.

    Of a repository there are its `commit`, whether the code differs from it (`dirty`), and the file
    that `git apply` takes to make the difference (`diff`; None where nothing differs, or more than
    is kept). `epochs` are finished, and `steps` of the next. `data` are SHA-256 by file;
    `instructions` are those that torch uses.
    """

    time: str
    epochs: int
    steps: int
    command: str
    folder: str
    version: str
    commit: str | None
    dirty: bool | None
    diff: str | None
    packages: dict[str, str]
    data: dict[str, str]
    cpu: str
    instructions: str
    cores: int
    memory_gb: float
    gpus: list[str]
    device: str
    processes: int
    threads: int


def start(
    folder: Path, data: Sequence[Path], epochs: int, steps: int, device: torch.device
) -> Start:
    """What is so now; the difference of the code is written into `folder`, if there is any."""
    commit, diff = _code()
    name = None
    if diff and len(diff) <= MOST_BYTES:
        name = f"code-{hashlib.sha256(diff).hexdigest()[:12]}.diff"
        with atomic_open(folder / name, "wb") as file:
            file.write(diff)
    gpus = range(torch.cuda.device_count() if device.type == "cuda" else 0)
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "epochs": epochs,
        "steps": steps,
        "command": command(),
        "folder": os.getcwd(),
        "version": __version__,
        "commit": commit,
        "dirty": None if diff is None else bool(diff),
        "diff": name,
        "packages": _packages(),
        "data": {path.name: _sha256(path) for path in data},
        "cpu": _cpu(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "gpus": [torch.cuda.get_device_name(number) for number in gpus],
        "device": str(device),
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
        "threads": torch.get_num_threads(),
    }


def write(path: Path, starts: Sequence[Start]) -> None:
    """Write provenance.json, and remove diffs beside it that none of the starts has."""
    with atomic_open(path) as file:
        file.write(json.dumps(starts, indent=2, ensure_ascii=False) + "\n")
    kept = {one["diff"] for one in starts}
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
    return f"{launcher} {'-m' if COMMAND.get() else '--no-python'} {typed}"


def _code() -> tuple[str | None, bytes | None]:
    """The commit of the code, and how the code differs from it; None where git does not know.

    New files that git does not ignore are in the difference.
    """
    if _git("ls-files", "--error-unmatch", "asr/__init__.py") is None:
        return None, None
    commit = (_git("rev-parse", "HEAD") or b"").decode().strip() or None
    index = (_git("rev-parse", "--git-path", "index") or b"").decode().strip()
    there = [name for name in CODE if (REPOSITORY / name).exists()]
    with tempfile.TemporaryDirectory(prefix="asr-") as place, suppress(OSError):
        copied = shutil.copy(REPOSITORY / index, place)
        if _git("add", "--intent-to-add", "--", *there, index=copied) is not None:
            kind = "--binary", "--no-color", "--no-ext-diff", "--no-textconv"
            prefixes = "--src-prefix=a/", "--dst-prefix=b/"
            return commit, _git("diff", *kind, *prefixes, "HEAD", "--", *there, index=copied)
    return commit, None


def _git(*arguments: str, index: str = "") -> bytes | None:
    """What git prints in the repository of this package; None where it fails."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0"} | ({"GIT_INDEX_FILE": index} if index else {})
    # In a container the repository is often another user's; its code runs already.
    begin = "git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false"
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(
            [*begin, *arguments],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_S,
            check=True,
        ).stdout
    return None


def _packages() -> dict[str, str]:
    """Versions of Python and of the packages that this one needs to train, by name."""
    required = ["torch", "numpy"]
    with suppress(metadata.PackageNotFoundError):
        listed = metadata.requires(DISTRIBUTION) or []
        required = [
            line
            for line in listed
            if "extra ==" not in line or re.search(r"extra == ['\"]train['\"]", line)
        ]
    versions = {"python": platform.python_version()}
    for name in sorted(re.split(r"[^\w.-]", line)[0] for line in required):
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _cpu() -> str:
    """The model of the processor."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace")
        if named := re.search(r"^(?:model name|cpu model|Model)\s*:\s*(.+)", lines, re.MULTILINE):
            return " ".join(named[1].split())
    return platform.processor() or platform.machine()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def facts(starts: Sequence[Start]) -> dict[str, str]:
    """What a run was made from, for people; where starts differ, with an arrow between them."""
    each = [_facts(one) for one in starts]
    return {
        key: " → ".join(dict.fromkeys(one[key] for one in each if key in one))
        for key in dict.fromkeys(key for one in each for key in one)
    }


def _facts(one: Start) -> dict[str, str]:
    changes = f" with changes ({one['diff'] or 'not kept'})" if one["dirty"] else ""
    processor = one["cpu"], one["instructions"], f"{one['cores']} cores", *one["gpus"]
    return {
        "commit": f"{(one['commit'] or 'unknown')[:10]}{changes}",
        "machine": ", ".join(processor),
        **{key: f"{one[key]}" for key in ("version", "device", "processes", "threads")},
        **one["packages"],
        **{name: digest[:10] for name, digest in one["data"].items()},
    }
