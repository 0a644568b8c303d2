"""Training on 960 hours, simulated: seconds to the first step, memory, and seconds to continue.

    python recipes/cluster/simulated.py exp/demo/1 --output exp/simulated
    python recipes/cluster/simulated.py exp/demo/1 --output exp/simulated --processes 2

The training set is that of a prepared run, repeated under new names until it has as many utterances
as LibriSpeech's 960 hours; recordings are shared. Its training is started, ended by SIGTERM after
some steps, and continued in the middle of the epoch. Times are from the start of the command to the
state that the first step leaves, which includes the imports; memory is resident, of each process.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

UTTERANCES = 281_241
STEPS_S = 20.0  # of training before it is ended
NETWORK = [
    *("features=fbank40", "encoder.hidden=128", "encoder.layers=2", "training.epochs=1"),
    *("training.keep_every_minutes=1e-9", "device=cpu", "threads=1", "resume=auto"),
]


def write(source: Path, run: Path, utterances: int) -> None:
    """The manifests of a run whose training set is repeated."""
    (run / "manifests").mkdir(parents=True)
    shutil.copy(source / "vocabulary.txt", run)
    for split in ("dev", "test"):
        shutil.copy(source / "manifests" / f"{split}.jsonl", run / "manifests")
    lines = (source / "manifests" / "train.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    with open(run / "manifests" / "train.jsonl", "w") as file:
        for n in range(utterances):
            record = records[n % len(records)]
            file.write(json.dumps({**record, "id": f"{record['id']}-{n:06d}"}) + "\n")


def resident_mb(run: Path) -> list[int]:
    """The resident memory of the processes that train, MB."""
    sizes = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            values = dict(line.split(":", 1) for line in status.read_text().splitlines())
            command = (status.parent / "cmdline").read_text()
        except OSError:
            continue  # it has ended
        if f"run_dir={run}" in command and "torchrun" not in command:
            sizes.append(int(values["VmRSS"].split()[0]) // 1024)
    return sorted(sizes)


def start(command: list[str], state: Path) -> tuple[subprocess.Popen[bytes], float]:
    """Start the training; returns after its first step, with the seconds until then."""
    before, begun = state.stat().st_mtime_ns if state.exists() else 0, time.monotonic()
    process = subprocess.Popen(command, start_new_session=True)
    while not state.exists() or state.stat().st_mtime_ns == before:
        if process.poll() is not None:
            sys.exit("the training has ended by itself")
        time.sleep(0.05)
    return process, time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="a prepared run")
    parser.add_argument("--output", type=Path, required=True, help="folder for the simulated run")
    parser.add_argument("--utterances", type=int, default=UTTERANCES)
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    run = args.output / f"{args.utterances}-{args.processes}"
    shutil.rmtree(run, ignore_errors=True)
    write(args.source, run, args.utterances)
    program = [sys.executable]
    if args.processes > 1:
        program += ["-m", "asr.processor.torchrun", "--standalone"]
        program += [f"--nproc-per-node={args.processes}"]
    corpus = ["corpus=folder", "corpus.root=unused"]
    command = [*program, "-m", "asr", "train", *corpus, *NETWORK, f"run_dir={run}"]
    state = run / "checkpoint-last.safetensors"
    for title in ("first step", "first step after the interruption"):
        process, seconds = start(command, state)
        time.sleep(STEPS_S)
        sizes = " and ".join(map(str, resident_mb(run)))
        process.send_signal(signal.SIGTERM)
        code = process.wait()
        print(f"{title}: {seconds:.1f} s; {sizes} MB resident; exit code {code}", flush=True)


if __name__ == "__main__":
    main()
