"""Every method with every search on one corpus: tuned on dev, tested once, in one table.

    python recipes/methods/methods.py search exp/methods-timit-sample/ctc-lstm/1 --overrides …
    python recipes/methods/methods.py table exp/methods-timit-sample --methods gmm ctc-lstm

The commands train, search and score; the Makefile beside this file calls them.
"""

import argparse
import json
import logging
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from asr import scoring
from asr.errors import DataError, exit_code
from asr.files.outputs import atomic_open
from asr.phones import Vocabulary
from asr.records import Utterance, stream_jsonl
from asr.scoring import ErrorCounts, Score, intervals
from asr.training.run_directory import RunDirectory

SEARCHES = {"greedy": "greedy", "beam": "beam", "beam-lm": "beam + phone n-gram"}
REPLICATES = 10_000


# ── searches of one network ───────────────────────────────────────────────────────────────────────


def search(folder: Path, order: int, overrides: Sequence[str], width: int = 100) -> None:
    """Tune each search on dev, decode test once with it, and keep its hypotheses and values.

    `width` is the width of the beams. `searches.json`, written last, has the dev PER of each. HMMs
    are not searched greedily.
    """
    from asr.commands import decode, tune
    from asr.commands.configured import compose
    from asr.criteria import HMM
    from asr.search.arpa import write_arpa
    from asr.search.ngram import estimate

    run_dir = RunDirectory(folder)
    transcripts = (one.phones for one in stream_jsonl(run_dir.manifest("train"), Utterance))
    phones = Vocabulary.load(run_dir.vocabulary).phones
    write_arpa(run_dir.language_model, estimate(transcripts, order, phones))
    criterion = run_dir.recognizer().criterion
    names = list(SEARCHES)[1:] if isinstance(criterion, HMM) else SEARCHES
    dev_pers = {}
    for name in names:
        beam = [] if name == "greedy" else [f"search.beam={width}"]
        config = compose([*overrides, f"search={name}", *beam, "split=test"])
        if criterion.tunable(config.search):
            tune.run(config)
            config = replace(config, tuned=True)
            tuned = json.loads(run_dir.search.read_text(encoding="utf-8"))
            dev_pers[name] = tuned["dev_per"]
        else:
            dev_pers[name] = run_dir.summary()["dev_per"]
        decode.run(config)
        run_dir.hypotheses("test").rename(run_dir.hypotheses("test", name))
        if config.tuned:
            run_dir.search.rename(folder / f"search.{name}.json")
    with atomic_open(folder / "searches.json") as file:
        json.dump(dev_pers, file)


# ── the table ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Result:
    """The results of one method with one search: dev PERs and scores of test, by seed."""

    dev_pers: Sequence[float]
    scores: Sequence[Score]

    def described(self) -> str:
        """Mean PER, its standard deviation over seeds, and the interval by speaker."""
        counts: dict[str, ErrorCounts] = {}
        for score in self.scores:
            for speaker, more in score.speakers.items():
                counts[speaker] = counts.get(speaker, ErrorCounts()) + more
        pers = [score.total.per for score in self.scores]
        spread = f" ± {statistics.stdev(pers):.2f}" if len(pers) > 1 else ""
        interval = intervals.by_speaker(counts, REPLICATES, 0)
        return f"{statistics.fmean(pers):.2f}{spread} ({interval})"


def read(run_dirs: Sequence[Path], protocol: str) -> dict[str, Result]:
    """The results of a method's runs by search; `DataError` if one is not finished."""
    for run_dir in run_dirs:
        if not (run_dir / "searches.json").exists():
            raise DataError(f"{run_dir}: no searches.json; run the same make again to continue")
    pers = [
        json.loads((run_dir / "searches.json").read_text(encoding="utf-8")) for run_dir in run_dirs
    ]
    results = {}
    for name in pers[0]:
        scores = []
        for run_dir in run_dirs:
            run = RunDirectory(run_dir)
            sides = (run.manifest("test"), run.hypotheses("test", name))
            references, hypotheses = (scoring.read_transcripts(path) for path in sides)
            scores.append(
                scoring.score_transcripts(references, hypotheses, scoring.protocol(protocol))
            )
        results[name] = Result([one[name] for one in pers], scores)
    return results


def table(runs: Path, methods: Sequence[str], seeds: Sequence[int], protocol: str) -> str:
    """PER of every method and search, in Markdown."""
    lines: list[str] = []
    for method in methods:
        run_dirs = [runs / method / str(seed) for seed in seeds]
        results = read(run_dirs, protocol)
        if not lines:
            one = next(iter(results.values())).scores[0]
            lines = [
                f"`{runs}`: {one.described()}; seeds {' '.join(map(str, seeds))}.",
                "",
                "| method | weights | epochs |"
                + "".join(f" {title}: dev | test |" for title in SEARCHES.values())
                + " p |",
                "|---|---:|---:|" + "---:|" * (2 * len(SEARCHES) + 1),
            ]
        trainings = [RunDirectory(run_dir).summary() for run_dir in run_dirs]
        epochs = statistics.fmean(training["epochs"] for training in trainings)
        cells = [
            f"{statistics.fmean(results[name].dev_pers):.2f} | {results[name].described()}"
            if name in results
            else " | "
            for name in SEARCHES
        ]
        pairs = zip(results["beam-lm"].scores, next(iter(results.values())).scores, strict=True)
        ps = [
            scoring.compare(a, b, scoring.protocol(protocol), replicates=0).mapsswe.p
            for a, b in pairs
        ]
        lines.append(
            f"| {method} | {trainings[0]['parameters']:,} | {epochs:.0f} | {' | '.join(cells)} | "
            f"{' '.join(f'{p:.3f}' for p in ps)} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            "PER of greedy search, beam search (HMMs: Viterbi), and beam search with a phone",
            "n-gram of the training transcripts, each tuned on dev. Test: mean over seeds ±",
            "standard deviation, in brackets 95 % by speaker. p: MAPSSWE between the last search",
            "and the first, by seed.",
        ]
    )


@exit_code
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=("search", "table"))
    parser.add_argument("folder", type=Path, help="a run; for table the folder of all runs")
    parser.add_argument("--order", type=int, default=2, help="order of the phone n-gram")
    parser.add_argument("--width", type=int, default=100, help="width of the beam")
    parser.add_argument("--overrides", nargs="*", default=[], help="of the run, for search")
    parser.add_argument("--methods", nargs="+", default=[], help="rows of the table")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--protocol", default="strict")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if arguments.command == "table" and not arguments.methods:
            parser.error("table needs --methods")
        if arguments.command == "search":
            search(arguments.folder, arguments.order, arguments.overrides, arguments.width)
            return 0
        text = table(arguments.folder, arguments.methods, arguments.seeds, arguments.protocol)
        with atomic_open(arguments.folder / "methods.md") as file:
            file.write(f"{text}\n")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"\n{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
