"""Whether a training that is ended again and again has the weights of one that is not.

    python recipes/cluster/kill.py --output exp/kill --kills 50
    python recipes/cluster/kill.py --output exp/kill2 --kills 50 --processes 2

A small network is trained once without interruption, and once more with faults at random moments
after its start: SIGKILL for all of its processes, every second time while a state is written;
SIGTERM, which it must answer with exit code 75; with several processes, SIGKILL for one of them;
and a full disk, which it must name before it ends with exit code 1. The state is written after
every step, so that faults meet steps, writes and evaluations alike. For the disk, the run lies in a
small tmpfs that a file fills up, in a mount namespace of its own (unshare of util-linux); where
that is not permitted, this fault is left out.
If the training is complete before all faults have come, it is begun again.

The exit code is 1 unless every training was continued to its end, with every tensor of
checkpoint-last and checkpoint-best, and the losses, bit for bit those of the first.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import torch

from asr import checkpoint
from asr.training.progress import TEMPORARY_FAILURE

DATA = ["corpus=synthetic", "corpus.train_speakers=5", "corpus.dev_speakers=2"]
NETWORK = [
    *("features=mfcc39", "encoder.hidden=16", "encoder.layers=1", "encoder.dropout=0.2"),
    *("training.average=0.9", "training.batch_size=4", "training.batch_frames=1500"),
    *("training.patience=1000", "training.keep_every_minutes=1e-9", "device=cpu", "threads=1"),
]
MARGIN_MB = 4  # of the disk, beyond two states and one that is written
INSIDE = "ASR_KILL_INSIDE"


def processes_of(parent: int) -> list[int]:
    """A process and all that it started, the last ones first."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if int(words[1]) == parent and words[0] != "Z":
            children.append(int(stat.parent.name))
    return [one for child in children for one in processes_of(child)] + [parent]


def is_rank(process: int) -> bool:
    environment = Path(f"/proc/{process}/environ").read_bytes()
    return b"LOCAL_RANK=" in environment


class Training:
    """A run, and the faults that it met."""

    def __init__(self, run: Path, data: Path, command: list[str]) -> None:
        self.run, self.data, self.command = run, data, command
        self.log = run.with_suffix(".log")
        self.part = run / ".checkpoint-last.safetensors.asr-part"
        self.met: Counter[str] = Counter()
        self.problems: list[str] = []

    def begin(self) -> None:
        """Remove what an earlier training left."""
        for path in self.run.iterdir() if self.run.exists() else ():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        self.run.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.data / "manifests", self.run / "manifests")
        shutil.copy(self.data / "vocabulary.txt", self.run)

    def start(self) -> subprocess.Popen[bytes]:
        """Start or continue it; returns when its steps begin, or it has ended."""
        with open(self.log, "wb") as log:
            process = subprocess.Popen(
                [*self.command, f"run_dir={self.run}", "resume=auto"],
                stderr=log,
                start_new_session=True,
            )
        while process.poll() is None and " parameters, " not in self.log.read_text():
            time.sleep(0.02)
        return process

    def meet(self, fault: str, after_s: float) -> bool:
        """Start it and let it meet a fault; whether it was complete before."""
        process = self.start()
        time.sleep(after_s)
        if process.poll() is not None:
            return self.complete(process)
        expected, ballast = None, self.run / "ballast"
        while fault == "write" and not self.part.exists() and process.poll() is None:
            pass
        if fault in ("kill", "write"):
            self.signal(processes_of(process.pid), signal.SIGKILL)
        elif fault == "rank":
            ranks = [one for one in processes_of(process.pid) if is_rank(one)]
            self.signal([random.choice(ranks)] if ranks else [], signal.SIGKILL)
        elif fault == "term":
            process.send_signal(signal.SIGTERM)
            expected = TEMPORARY_FAILURE
        else:
            with open(ballast, "wb", buffering=0) as file:
                try:
                    while process.poll() is None:
                        file.write(bytes(1 << 16))
                except OSError:
                    expected = 1
        try:
            code = process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            self.problems.append(f"{fault}: no end within 120 s")
            self.signal(processes_of(process.pid), signal.SIGKILL)
            code = process.wait()
        ballast.unlink(missing_ok=True)
        if code == 0:
            return self.complete(process)
        if self.part.exists():
            self.met["writes that were cut"] += 1
        self.met[fault] += 1
        if expected not in (None, code) or (fault == "disk" and "disk" not in self.log.read_text()):
            self.problems.append(f"{fault}: exit code {code}, {self.log.read_text()[-500:]}")
        return False

    def complete(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether it ended as it should; otherwise a problem is noted."""
        if process.wait():
            self.problems.append(f"exit code {process.returncode}: {self.log.read_text()[-500:]}")
        return (self.run / "training.json").exists()

    @staticmethod
    def signal(processes: list[int], number: int) -> None:
        for one in processes:
            try:
                os.kill(one, number)
            except ProcessLookupError:
                continue


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two complete runs, besides seconds."""
    different = []
    for name in ("last", "best"):
        ours, theirs = (
            checkpoint.load(run / f"checkpoint-{name}.safetensors").recognizer.state_dict()
            for run in (one, other)
        )
        different += [f"{name}: {key}" for key in ours if not torch.equal(ours[key], theirs[key])]
    logs = [
        [
            {**json.loads(line), "seconds": 0, "waiting": 0}
            for line in (run / "train.jsonl").read_text().splitlines()
        ]
        for run in (one, other)
    ]
    return different + ["train.jsonl"] * (logs[0] != logs[1])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--kills", type=int, default=50, help="of all processes")
    parser.add_argument("--others", type=int, default=5, help="faults of each other kind")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1, help="of faults and their moments")
    args = parser.parse_args()
    unshare = ["unshare", "--map-root-user", "--mount"]
    if INSIDE not in os.environ:
        has_disk = shutil.which("unshare") and not subprocess.call([*unshare, "true"])
        os.environ[INSIDE] = "disk" if has_disk else "no disk"
        if has_disk:
            os.execvp(unshare[0], [*unshare, sys.executable, *sys.argv])
    output = args.output.absolute()
    data = output / "data"
    if not (data / "vocabulary.txt").exists():
        prepare = ["-m", "asr", "prepare", *DATA, f"run_dir={data}"]
        subprocess.run([sys.executable, *prepare], check=True)
    program = [sys.executable]
    if args.processes > 1:
        program += ["-m", "asr.processor.torchrun", "--standalone"]
        program += [f"--nproc-per-node={args.processes}"]
    overrides = [*DATA, *NETWORK, f"training.epochs={args.epochs}"]
    command = [*program, "-m", "asr", "train", *overrides]

    whole = Training(output / "whole", data, command)
    whole.begin()
    process, started = whole.start(), time.monotonic()
    if not whole.complete(process):
        print("\n".join(whole.problems), file=sys.stderr)
        return 1
    seconds = time.monotonic() - started
    size = sum(path.stat().st_size for path in whole.run.rglob("*") if path.is_file())

    kinds = ["term"] + ["rank"] * (args.processes > 1) + ["disk"] * (os.environ[INSIDE] == "disk")
    kills = [("kill", "write")[n % 2] for n in range(args.kills)]
    faults = kills + args.others * kinds
    random.seed(args.seed)
    random.shuffle(faults)
    ended = Training(output / "ended", data, command)
    ended.run.mkdir(exist_ok=True)
    if os.environ[INSIDE] == "disk":
        megabytes = 2 * size // 1_000_000 + MARGIN_MB
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "asr", f"{ended.run}"]
        subprocess.run(mount, check=True)
    ended.begin()
    most_s, completed, different = 2 * seconds / max(1, len(faults)), 0, []
    while faults:
        if ended.meet(faults[-1], random.uniform(0, most_s)):
            completed += 1
            different += differences(whole.run, ended.run)
            ended.begin()
        else:
            faults.pop()
    if ended.complete(ended.start()):
        completed += 1
        different += differences(whole.run, ended.run)
    else:
        different.append("the last training is not complete")
    print(f"{args.processes} processes, {seconds:.0f} s without a fault; {completed} completed")
    print(", ".join(f"{count} × {fault}" for fault, count in sorted(ended.met.items())))
    print("\n".join([*ended.problems, *different]) or "every tensor and loss is the same")
    return 1 if ended.problems or different else 0


if __name__ == "__main__":
    sys.exit(main())
