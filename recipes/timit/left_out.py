"""Leave every speaker out in turn: folds of speakers, one set of test hypotheses.

    python recipes/timit/left_out.py split ROOT FOLDS OUTPUT
    python recipes/timit/left_out.py join exp/timit-sample-6-folds --seeds 1 2 3

`split` writes a speaker list for each fold, `fold-1.txt`, …: one part of the speakers is test, the
next part dev, the others train. `left-out.mk` trains the folds. `join` writes the test utterances
of all folds to one file of references, and one of hypotheses for each seed, for `asr score`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from asr.corpora.timit import survey
from asr.errors import DataError, exit_code
from asr.files.outputs import atomic_open
from asr.records import Hypothesis, read_jsonl, write_jsonl
from asr.training.run_directory import RunDirectory


def split(root: Path, folds: int, output: Path) -> None:
    """Write the speaker lists; the parts take speakers in turn, which spreads the dialects."""
    recordings, _ = survey(root)
    regions = {one.speaker.lower(): one.dialect or "" for one in recordings}
    speakers = sorted(regions, key=lambda speaker: (regions[speaker], speaker))
    if not 3 <= folds <= len(speakers):
        raise DataError(
            f"{folds} folds, expected 3 to {len(speakers)}: {root} has {len(speakers)} speakers, "
            f"and each fold needs some for train, dev and test; change FOLDS"
        )
    for fold in range(folds):
        parts = {fold: "test", (fold + 1) % folds: "dev"}
        lines = [
            f"{speaker} {parts.get(place % folds, 'train')}\n"
            for place, speaker in enumerate(speakers)
        ]
        with atomic_open(output / f"fold-{fold + 1}.txt") as file:
            file.writelines(lines)


def join(runs: Path, seeds: Sequence[int]) -> None:
    """Write `references.jsonl` and `heard-SEED.jsonl` of the test utterances of all folds."""
    folds = sorted(runs.glob("fold-*.txt"), key=lambda path: int(path.stem.partition("-")[2]))
    run_dirs = {
        seed: [RunDirectory(path.with_suffix("") / str(seed)) for path in folds] for seed in seeds
    }
    tests = [one.utterances("test") for one in run_dirs[seeds[0]]]
    write_jsonl(runs / "references.jsonl", [utterance for test in tests for utterance in test])
    for seed in seeds:
        paths = [one.hypotheses("test") for one in run_dirs[seed]]
        hypotheses = [one for path in paths for one in read_jsonl(path, Hypothesis)]
        write_jsonl(runs / f"heard-{seed}.jsonl", hypotheses)


@exit_code
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    splitting = commands.add_parser("split")
    splitting.add_argument("root", type=Path)
    splitting.add_argument("folds", type=int)
    splitting.add_argument("output", type=Path)
    joining = commands.add_parser("join")
    joining.add_argument("runs", type=Path)
    joining.add_argument("--seeds", nargs="+", type=int, default=[1])
    arguments = parser.parse_args(argv)
    if arguments.command == "split":
        split(arguments.root, arguments.folds, arguments.output)
    else:
        join(arguments.runs, arguments.seeds)


if __name__ == "__main__":
    sys.exit(main())
