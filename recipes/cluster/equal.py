"""Whether results depend on the number of processes: loss and dev PER of 1, 2 and 4.

    python recipes/cluster/equal.py --output exp/equal
    python recipes/cluster/equal.py --output exp/equal --overrides corpus=timit corpus.root=/TIMIT

Every criterion is trained for 50 steps with gloo on the CPU, from the same seed, and without
dropout, which each process draws for utterances of its own. The table has the largest difference
from one process in the losses of train and dev after any epoch, and in the dev PER. The exit code
is 1 where a loss differs by more than 1e-5 nats per phone, or a PER at all.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

from asr.processor import torchrun

LIMIT = 1e-5  # nats per phone
STEPS = 50
DATA = ["corpus=synthetic", "corpus.train_speakers=5", "corpus.dev_speakers=2"]
SMALL = ["features=mfcc39", "encoder.hidden=16", "encoder.layers=1", "encoder.dropout=0"]
STACKED = "encoder.subsampling=2"
NETWORK = [*SMALL, "optimizer.learning_rate=1e-3", "training.schedule=constant"]
CRITERIA = {
    "ctc": [*NETWORK, STACKED, "criterion=ctc"],
    "transducer": [
        *(*NETWORK, STACKED, "criterion=transducer", "criterion.hidden=16", "criterion.joint=16")
    ],
    "framewise": [*NETWORK, "criterion=framewise"],
    "gmm": ["features=mfcc39", "criterion=gmm", "encoder.layers=0", "encoder.dropout=0"],
}


def trained(run: Path, processes: int, overrides: list[str]) -> list[dict[str, float]]:
    """The history of a training in several processes."""
    program = ["-m", "asr", "train", *overrides, f"run_dir={run}", "device=cpu"]
    if processes > 1:
        program = [
            "-m",
            torchrun.__name__,
            "--standalone",
            f"--nproc-per-node={processes}",
            *program,
        ]
    subprocess.run([sys.executable, *program], check=True)
    return [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--criteria", nargs="+", choices=CRITERIA, default=list(CRITERIA))
    parser.add_argument("--batch-size", type=int, default=18)
    parser.add_argument("--overrides", nargs="*", default=DATA, help="that choose the corpus")
    args = parser.parse_args()
    data = args.output / "data"
    if not (data / "vocabulary.txt").exists():
        prepare = ["-m", "asr", "prepare", *args.overrides, f"run_dir={data}"]
        subprocess.run([sys.executable, *prepare], check=True)
    utterances = len((data / "manifests" / "train.jsonl").read_text().splitlines())
    epochs = math.ceil(STEPS / math.ceil(utterances / args.batch_size))
    rows = []
    for criterion in args.criteria:
        histories = {}
        for processes in args.processes:
            run = args.output / f"{criterion}-{processes}"
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(data, run)
            length = [f"training.epochs={epochs}", f"training.patience={epochs}"]
            size = [f"training.batch_size={args.batch_size}"]
            overrides = [*args.overrides, *CRITERIA[criterion], *length, *size]
            histories[processes] = trained(run, processes, overrides)
        alone = histories[args.processes[0]]
        for processes, history in histories.items():
            largest = {
                key: max(abs(a[key] - b[key]) for a, b in zip(alone, history, strict=True))
                for key in ("train_loss", "dev_loss", "dev_per")
            }
            rows.append((criterion, processes, len(history), history[-1], largest))
    print(
        f"{'criterion':<11} {'processes':>9} {'epochs':>6} {'dev loss':>9} {'dev %PER':>9}  "
        f"largest difference: train loss, dev loss, dev %PER"
    )
    for criterion, processes, epochs, last, largest in rows:
        print(
            f"{criterion:<11} {processes:>9} {epochs:>6} {last['dev_loss']:>9.5f} "
            f"{last['dev_per']:>9.4f}  {largest['train_loss']:.1e} {largest['dev_loss']:.1e} "
            f"{largest['dev_per']:.4f}"
        )
    differ = [
        largest
        for *_, largest in rows
        if max(largest["train_loss"], largest["dev_loss"]) > LIMIT or largest["dev_per"]
    ]
    return int(bool(differ))


if __name__ == "__main__":
    sys.exit(main())
