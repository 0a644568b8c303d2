"""The ladder of Graves, Mohamed & Hinton (2013): its cost on this machine, and its results.

    python recipes/graves2013/ladder.py cost exp/graves2013 --networks ctc-3l-250h --seeds 1 2 3
    python recipes/graves2013/ladder.py table exp/graves2013 --networks ctc-3l-250h --seeds 1 2 3

The folder holds `<network>/<seed>`: manifests for `cost`, hypotheses for `table`. The commands
train, search and score; the Makefile beside this file calls them.
"""

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr import scoring
from asr.errors import DataError, exit_code
from asr.files.outputs import atomic_open
from asr.scoring import ErrorCounts, Score, intervals, significance
from asr.scoring.significance import SIGNIFICANT
from asr.training.run_directory import RunDirectory

PAPER = Path(__file__).with_name("paper.txt")
EXPERIMENTS = Path(__file__).parents[2] / "conf" / "experiment" / "graves2013"
PROTOCOL = "strict"
REPLICATES = 10_000
BATCHES = 8  # for `cost`, from the shortest utterances to the longest

CLAIMS = {
    "LSTM ≫ tanh": ("CTC-3l-250h", "CTC-3l-500h-tanh"),
    "depth beats width at equal weights": ("CTC-3l-250h", "CTC-1l-622h"),
    "bidirectional beats unidirectional": ("CTC-3l-250h", "CTC-3l-421h-uni"),
}


@dataclass(frozen=True)
class Published:
    """One row of the paper's Table 1."""

    name: str
    weights: int
    epochs: int
    per: float

    @property
    def network(self) -> str:
        """The name of the experiment and of its folder."""
        return self.name.lower()


def published() -> list[Published]:
    """The paper's nine rows, in its order."""
    lines = PAPER.read_text(encoding="utf-8").splitlines()
    rows = (line.split() for line in lines if not line.startswith("#"))
    return [Published(name, int(w), int(epochs), float(per)) for name, w, epochs, per in rows]


# ── expected cost ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Cost:
    """The cost of one network and seed: seconds for each utterance, and the assumed epochs."""

    train_s: float
    dev_s: float
    train_utterances: int
    dev_utterances: int
    epochs: int

    @property
    def hours(self) -> float:
        train_s = self.train_utterances * self.train_s
        return self.epochs * (train_s + self.dev_utterances * self.dev_s) / 3600


def measure(row: Published, folder: Path, overrides: Sequence[str]) -> Cost:
    """Train and decode a few batches of a prepared run; nothing is saved."""
    import torch

    from asr.commands.configured import compose
    from asr.dataset import Batches
    from asr.processor.device import choose_device
    from asr.recognizer import Recognizer
    from asr.train import evaluate
    from asr.training.learner import GradientDescent
    from asr.training.schedule import phases

    config = compose([f"experiment=graves2013/{row.network}", f"run_dir={folder}", *overrides])
    training, device = config.training, choose_device(config.device, config.threads)
    torch.manual_seed(0)
    run_dir = RunDirectory(folder)
    vocabulary = run_dir.phones()
    recognizer = Recognizer(config.recognizer, vocabulary).to(device)
    counts, chosen = {}, {}
    for split in ("train", "dev"):
        utterances = run_dir.utterances(split)
        batches = Batches(utterances, vocabulary, config.features.sample_rate, training.batch_size)
        places = {round(n * (len(batches) - 1) / (BATCHES - 1)) for n in range(BATCHES)}
        chosen[split] = [batch.to(device) for place, batch in enumerate(batches) if place in places]
        counts[split] = len(utterances)
    moments = recognizer.moments_of(chosen["train"])
    recognizer.features.fit_normalization(chosen["train"])
    learner = GradientDescent(recognizer, config.optimizer, training, moments=moments)
    noise = phases(training)[-1].weight_noise

    def step(batch_number: int) -> None:
        recognizer.train()
        learner.step(chosen["train"][batch_number], weight_noise=noise)

    step(0)  # warm-up: compilation, memory
    evaluate(recognizer, chosen["dev"][:1], config.search)
    started = time.perf_counter()
    for number in range(len(chosen["train"])):
        step(number)
    trained = time.perf_counter()
    evaluate(recognizer, chosen["dev"], config.search)
    searched = time.perf_counter()
    most = len(phases(training)) * training.epochs
    return Cost(
        (trained - started) / sum(len(batch.ids) for batch in chosen["train"]),
        (searched - trained) / sum(len(batch.ids) for batch in chosen["dev"]),
        counts["train"],
        counts["dev"],
        most if training.patience >= training.epochs else min(most, row.epochs),
    )


def cost(
    runs: Path, networks: Sequence[str], seeds: Sequence[int], jobs: int, overrides: Sequence[str]
) -> str:
    """The expected hours of training these networks, as a table."""
    lines = [
        f"Expected cost of the ladder here, measured on {BATCHES} batches for each network. Epochs",
        "are the paper's, or training.epochs where they are fewer or patience cannot end training.",
        f"{'':18}{'ms/utterance':>22}{'utterances':>16}{'epochs':>8}{'seeds':>7}{'hours':>8}",
        f"{'':18}{'train':>11}{'dev':>11}{'train':>9}{'dev':>7}",
    ]
    total = 0.0
    for row in published():
        if row.network in networks:
            measured = measure(row, runs / row.network / str(seeds[0]), overrides)
            hours = len(seeds) * measured.hours
            total += hours
            lines.append(
                f"{row.name:18}{1e3 * measured.train_s:11.1f}{1e3 * measured.dev_s:11.1f}"
                f"{measured.train_utterances:9d}{measured.dev_utterances:7d}{measured.epochs:8d}"
                f"{len(seeds):7d}{hours:8.2f}"
            )
    in_all = f"in all {total:.2f} hours"
    if jobs > 1:
        in_all += f", {total / jobs:.2f} with {jobs} jobs at once if they do not slow each other"
    return "\n".join([*lines, in_all])


# ── results ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Result:
    """The finished runs of one network, by seed."""

    scores: Mapping[int, Score]
    dev_pers: Sequence[float]
    epochs: Sequence[float]  # of each phase, the mean over seeds
    weights: int


def pooled(scores: Iterable[Score]) -> dict[str, ErrorCounts]:
    """Counts of each speaker, summed over seeds."""
    counts: dict[str, ErrorCounts] = {}
    for score in scores:
        for speaker, more in score.speakers.items():
            counts[speaker] = counts.get(speaker, ErrorCounts()) + more
    return counts


def read(folder: Path, seeds: Sequence[int]) -> Result | None:
    """The runs of a network that have been decoded, or None."""
    scores, trainings, phase_epochs = {}, [], Counter[int]()
    for seed in seeds:
        run_dir = RunDirectory(folder / str(seed))
        sides = (run_dir.manifest("test"), run_dir.hypotheses("test"))
        if not sides[1].exists():
            continue
        references, hypotheses = (scoring.read_transcripts(path) for path in sides)
        scores[seed] = scoring.score_transcripts(references, hypotheses, scoring.protocol(PROTOCOL))
        trainings.append(run_dir.summary())
        log = run_dir.history.read_text(encoding="utf-8").splitlines()
        phase_epochs.update(json.loads(line)["phase"] for line in log)
    if not scores:
        return None
    return Result(
        scores,
        [training["dev_per"] for training in trainings],
        [phase_epochs[phase] / len(scores) for phase in sorted(phase_epochs)],
        trainings[0]["parameters"],
    )


def table(runs: Path, networks: Sequence[str], seeds: Sequence[int]) -> str:
    """The ladder beside the paper's, and its three claims, in Markdown."""
    rows = published()
    results = {row.network: read(runs / row.network, seeds) for row in rows}
    finished = [result for result in results.values() if result is not None]
    if not finished:
        raise DataError(f"{runs}: no network has been trained and decoded")
    one = next(iter(finished[0].scores.values()))
    lines = [
        f"`{runs}`: {one.described()}; seeds {' '.join(map(str, seeds))}.",
        "Epochs are those of each phase."
        + " Synthetic speech: these rates say nothing about human speech." * one.is_synthetic,
        "",
        "| network | weights | epochs | dev PER | test PER | 95 % by speaker | the paper's epochs "
        "| PER |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        *(_row(row, results[row.network], row.network in networks, len(seeds)) for row in rows),
        "",
        "| claim of the paper | difference | 95 % by speaker | p | by seed | p by seed | here |",
        "|---|---:|---:|---:|---:|---:|---|",
        *(
            f"| {claim}: {a} − {b} | {_tested(results[a.lower()], results[b.lower()])} |"
            for claim, (a, b) in CLAIMS.items()
        ),
        "",
        "Test PER is the mean over seeds ± standard deviation. Intervals and the first p are of",
        f"{REPLICATES:,} draws of speakers, with all seeds of both networks, so that they show the",
        "uncertainty over speakers. The columns by seed, with the p of MAPSSWE between the two",
        "runs of a seed, show whether a difference depends on the seed. A claim holds if all seeds",
        "agree and every p is below 5 %.",
    ]
    return "\n".join(lines)


def _row(row: Published, result: Result | None, wanted: bool, seeds: int) -> str:
    theirs = f"{row.epochs} | {row.per:.1f} |"
    if result is None:
        state = "no experiment"
        if (EXPERIMENTS / f"{row.network}.yaml").exists():
            state = "not finished" if wanted else "not selected"
        return f"| {row.name} | {row.weights:,} | | | {state} | | {theirs}"
    pers = [score.total.per for score in result.scores.values()]
    spread = f" ± {statistics.stdev(pers):.2f}" if len(pers) > 1 else ""
    if len(pers) < seeds:
        spread += f" ({len(pers)} of {seeds} seeds)"
    return (
        f"| {row.name} | {result.weights:,} | {' + '.join(f'{n:.0f}' for n in result.epochs)} | "
        f"{statistics.fmean(result.dev_pers):.2f} | {statistics.fmean(pers):.2f}{spread} | "
        f"{intervals.by_speaker(pooled(result.scores.values()), REPLICATES, 0)} | {theirs}"
    )


def _tested(better: Result | None, worse: Result | None) -> str:
    """Cells of a claim: difference, interval, p, differences and ps of each seed, verdict."""
    seeds = sorted(better.scores.keys() & worse.scores.keys()) if better and worse else []
    if better is None or worse is None or not seeds:
        return "| | | | | not finished"
    drawn = significance.paired_bootstrap(
        pooled([better.scores[seed] for seed in seeds]),
        pooled([worse.scores[seed] for seed in seeds]),
        "speaker",
        REPLICATES,
        0,
    )
    if drawn is None:
        raise DataError("one speaker in the test set, expected several to test the claims over")
    protocol = scoring.protocol(PROTOCOL)
    each = [
        scoring.compare(better.scores[seed], worse.scores[seed], protocol, replicates=0)
        for seed in seeds
    ]
    ps = [comparison.mapsswe.p for comparison in each]
    verdict = "undecided"
    if max(drawn.p, *ps) < SIGNIFICANT:
        if all(comparison.difference < 0 for comparison in each):
            verdict = "**holds**"
        elif all(comparison.difference > 0 for comparison in each):
            verdict = "**the opposite**"
    return (
        f"{drawn.difference:+.2f} | {drawn.interval} | {drawn.p:.4f} | "
        f"{' '.join(f'{comparison.difference:+.2f}' for comparison in each)} | "
        f"{' '.join(f'{p:.4f}' for p in ps)} | {verdict}"
    )


@exit_code
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=("cost", "table"))
    parser.add_argument("runs", type=Path, help="folder of <network>/<seed>")
    parser.add_argument("--networks", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--jobs", type=int, default=1, help="simultaneous trainings, for cost")
    parser.add_argument("--overrides", nargs="*", default=[], help="of the experiments, for cost")
    arguments = parser.parse_args(argv)
    runs, networks, seeds = arguments.runs, arguments.networks, arguments.seeds
    try:
        if arguments.command == "cost":
            text = cost(runs, networks, seeds, arguments.jobs, arguments.overrides)
        else:
            text = table(runs, networks, seeds)
            with atomic_open(runs / "ladder.md") as file:
                file.write(f"{text}\n")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"\n{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
