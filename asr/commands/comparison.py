"""Runs side by side: rates, curves, what the same test set tells apart, and what differs."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import TypeVar

from tqdm import tqdm

from asr import scoring, templates
from asr.commands import score
from asr.commands.configured import saved
from asr.commands.overrides import NOT_OF_WEIGHTS
from asr.config import leaves
from asr.errors import DataError, grouped, raise_problems
from asr.pictures import Picture
from asr.scoring import Report, Score, protocol_names
from asr.training import curve, provenance
from asr.training.run_directory import RunDirectory
from asr.training.schedule import History, best, last_phase

T = TypeVar("T")
Values = dict[str, dict[str, list[int]]]  # key → value → numbers of the runs that have it

LONG = 40  # characters of a cell that a page breaks into lines
MOST_COLUMNS = 6  # differing keys that are columns beside the rates
UNSHOWN = NOT_OF_WEIGHTS - {"corpus.root", "corpus.lexicon"}  # of the configuration
RATE = re.compile(r"%[PW]ER (\S+) \[[^]]*\] (.*?)(?:, 95 % by speaker (\S+ … \S+))?")


@dataclass(frozen=True)
class Table:
    """Cells by row, below a title."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def __str__(self) -> str:
        """Markdown, aligned; without rows the note alone."""
        if not self.rows:
            return self.note
        rows = [[cell.replace("|", "\\|") for cell in row] for row in (self.head, *self.rows)]
        columns = []
        for left, (head, *cells) in zip(self.kinds, zip(*rows, strict=True), strict=True):
            width = max(3, *map(len, (head, *cells)))
            ruled = "-" * width if left else "-" * (width - 1) + ":"
            columns.append(
                [c.ljust(width) if left else c.rjust(width) for c in (head, ruled, *cells)]
            )
        lines = [f"| {' | '.join(row)} |" for row in zip(*columns, strict=True)]
        return "\n".join([*lines, *(["", self.note] if self.note else [])])

    @property
    def kinds(self) -> list[str]:
        """Of each column: "" for numbers, "left" for words, "words" for long ones."""
        columns = list(zip(*self.rows, strict=True)) or [()] * len(self.head)
        return [
            ("words" if max(map(len, cells)) > LONG else "left")
            if any(re.search(r"[^\W\d]{2}", cell) for cell in cells)
            else ""
            for cells in columns
        ]


@dataclass(frozen=True)
class Run:
    """A run as far as it is there, with notes on what is absent or damaged.

    `line` is the first of its score, `test_set` what that is the rate of; numbers are in words.
    """

    place: RunDirectory
    config: Mapping[str, str]
    facts: Mapping[str, str]
    history: History
    dev_per: float  # the lowest so far; inf without any
    epochs: str
    line: str
    per: str
    test_set: str
    interval: str
    notes: Sequence[str]


def read(path: str | Path) -> Run:
    """A run, with a note for all that is absent or damaged."""
    run, notes = RunDirectory(path), []

    def content(file: Path, of: Callable[[], T]) -> T | None:
        try:
            return of() if file.exists() else None
        except (DataError, OSError) as error:
            notes.append(str(error))
            return None

    tree = content(run.config, lambda: saved(run.config)) or {}
    config = {k: str(v).replace(f"{tree['run_dir']}", "…") for k, v in leaves(tree).items()}
    if not run.config.exists():
        within = sorted(str(one.parent) for one in run.path.glob("*/config.yaml"))
        hint = f"; runs in it: {', '.join(within)}" if within else ""
        notes.append(f"{run}: no training was begun in it{hint}")
    elif not run.provenance.exists():
        notes.append(f"{run}: trained before commit and machine were kept")
    history = content(run.history, run.epochs) or []
    summary = content(run.training, run.summary)
    dev = best(last_phase(history))["dev_per"] if history else math.inf
    text = content(run.score, lambda: run.score.read_text("utf-8", "replace")) or ""
    line = text.partition("\n")[0]
    if (match := RATE.fullmatch(line)) is None and run.score.exists():
        notes.append(f"{run.score}: damaged, expected the %PER line of `asr score`")
    per, test_set, interval = match.groups("") if match else ("", "", "")
    most = f" of {config.get('training.epochs', '?')}, unfinished"
    return Run(
        run,
        {key: value for key, value in config.items() if key not in UNSHOWN},
        provenance.facts(content(run.provenance, run.starts) or []),
        history,
        summary["dev_per"] if summary else dev,
        f"{len(history)}{'' if summary else most}" if history else "",
        *(line, per, test_set, interval),
        notes,
    )


class Comparison:
    """Several runs, the lowest dev PER of each corpus first, with what can be said of them all."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        """Read the runs; `DataError` for all paths that are no folders. A folder counts once."""
        places = {Path(path).resolve(): path for path in reversed(paths)}
        raise_problems(
            f"{path}: {'a file' if place.exists() else 'no such folder'}, expected that of a run"
            for place, path in reversed(places.items())
            if not place.is_dir()
        )
        runs = [read(path) for path in reversed(places.values())]
        corpora = list(dict.fromkeys(run.config.get("corpus.name", "") for run in runs))
        if not any(run.config for run in runs):
            raise_problems(note for run in runs for note in run.notes)

        def order(run: Run) -> tuple[bool, int, float]:
            return not run.config, corpora.index(run.config.get("corpus.name", "")), run.dev_per

        self.runs = dict(enumerate(sorted(runs, key=order), start=1))
        self.notes = [note for run in self.runs.values() for note in run.notes]
        if len(places) < len(paths):
            self.notes.append("a run that was given several times is shown once")

    def __str__(self) -> str:
        """All tables in Markdown, then the notes."""
        parts = [f"{table.title}\n\n{table}".lstrip() for table in self.tables]
        return "\n\n".join([*parts, "\n".join(f"note: {one}" for one in grouped(self.notes))])

    def html(self) -> str:
        """One page: tables, and the curves in a picture."""
        curves = {f"{n} {run.place}": run.history for n, run in self.runs.items() if run.history}
        alt = "training loss, dev loss and dev PER over epochs, a line for each run"
        return templates.render(
            "comparison.html",
            runs=len(self.runs),
            tables=self.tables,
            picture=Picture.png(curve.together(curves), alt) if curves else None,
            notes=list(grouped(self.notes)),
        )

    @cached_property
    def tables(self) -> list[Table]:
        """The rates, the means over seeds, paired tests, and what differs."""
        configs = self._values(lambda run: run.config)
        columns = list(configs) if len(configs) <= MOST_COLUMNS else []
        tables = [self._rates(columns), *self._seeds(columns), *self._tests()]
        if not columns and configs:
            tables.append(_differing("What differs in the configuration", configs))
        facts = self._values(lambda run: run.facts)
        common = next((run.facts for run in self.runs.values() if run.facts), {})
        same = "; ".join(f"{k} {v}" for k, v in common.items() if k not in facts)
        if common:
            title = f"{'What differs in code' if facts else 'Code'}, data and machine"
            tables.append(_differing(title, facts, f"The same in all: {same or 'nothing'}."))
        return tables

    def _values(self, part: Callable[[Run], Mapping[str, str]]) -> Values:
        """The values of a part of the runs that have it, for keys with more than one."""
        given = {n: values for n, run in self.runs.items() if (values := part(run))}
        by_value: Values = {}
        for key in dict.fromkeys(key for values in given.values() for key in values):
            for n, values in given.items():
                by_value.setdefault(key, {}).setdefault(values.get(key, "–"), []).append(n)
        return {key: values for key, values in by_value.items() if len(values) > 1}

    def _rates(self, keys: Sequence[str]) -> Table:
        sets = list(dict.fromkeys(run.test_set for run in self.runs.values() if run.test_set))
        several = ["test set"] * (len(sets) > 1)
        rows = []
        for n, run in self.runs.items():
            dev = f"{run.dev_per:.2f}" if run.dev_per < math.inf else ""
            cells = [f"{n}", f"{run.place}", dev, run.per, run.interval, run.epochs]
            cells += [run.test_set for _ in several]
            rows.append([*cells, *(run.config.get(key, "") for key in keys)])
        head = ["#", "run", "dev PER", "test PER", "95 % by speaker", "epochs"]
        note = f"Test PER: {sets[0]}." if len(sets) == 1 else ""
        return Table("", [*head, *several, *keys], rows, note)

    def _seeds(self, keys: Sequence[str]) -> Iterator[Table]:
        """Mean and standard deviation over runs that differ in their seed alone."""
        groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
        for n, run in self.runs.items():
            if run.place.training.exists() and run.config:
                rest = tuple(item for item in run.config.items() if item[0] != "seed")
                groups.setdefault(rest, []).append(n)
        shown, rows = [key for key in keys if key != "seed"], []
        for numbers in groups.values():
            runs = [self.runs[n] for n in numbers]
            seeds = sorted({int(run.config["seed"]) for run in runs})
            if len(seeds) == len(runs) > 1:
                is_whole = len({(run.test_set, run.per == "") for run in runs}) == 1 and runs[0].per
                means = [
                    _mean([run.dev_per for run in runs]),
                    _mean([float(run.per) for run in runs if is_whole]),
                ]
                listed = ", ".join(map(str, seeds))
                values = [runs[0].config.get(key, "") for key in shown]
                rows.append([_listed(numbers), *means, listed, *values])
        if rows:
            head = ["#", "dev PER", "test PER", "seeds", *shown]
            yield Table("Mean ± standard deviation over seeds", head, rows)

    def _tests(self) -> Iterator[Table]:
        """Of the runs that decoded one test set, each against the first."""
        by_set: dict[str, list[int]] = {}
        for n, run in self.runs.items():
            if run.per:
                by_set.setdefault(run.test_set, []).append(n)
        for numbers in (numbers for numbers in by_set.values() if len(numbers) > 1):
            base: Score | None = None
            rows: list[list[str]] = []
            title = ""
            for n in tqdm(numbers, "paired tests", leave=False, disable=None):
                run = self.runs[n]
                reports = scored(run.place, run.line)
                if not reports:
                    why = "not the score of what is there, or not with --protocol alone"
                    self.notes.append(f"{run.place.score}: {why}; no paired test")
                elif base is None:
                    base = reports[0].score
                    title = f"Test PER minus that of #{n} {run.place}"
                elif _said(base) != _said(reports[0].score):
                    self.notes.append(f"{run.place}: the test set has other labels; no paired test")
                else:
                    rows.append([f"{n}", f"{run.place}", *_tested(reports[0].score, base)])
            if rows:
                head = ["#", "run", "difference", "95 %", "p MAPSSWE", "p bootstrap", "told apart"]
                chance = f"Of {len(rows)} equal systems, {len(rows) / 20:.0f} or so would be told "
                chance += "apart by chance, at 5 %."
                yield Table(title, head, rows, chance if len(rows) >= 10 else "")


def scored(run: RunDirectory, line: str) -> list[Report]:
    """The report whose first line this is; empty where options of `asr score` made it another."""
    name = next((name for name in protocol_names() if f" {name} (" in line), "none")
    try:
        reports = score.run(run.manifest("test"), [run.hypotheses("test")], protocol=name)
    except (DataError, OSError):
        return []
    return reports if reports[0].score.line() == line else []


def _said(of: Score) -> dict[str, Sequence[str]]:
    return {aligned.reference.id: aligned.reference.phones for aligned in of.alignments}


def _tested(a: Score, b: Score) -> list[str]:
    result = scoring.compare(a, b, scoring.protocol(a.protocol))
    drawn, p = result.bootstrap, _p(result.mapsswe.p)
    numbers = [f"{drawn.interval}", p, _p(drawn.p)] if drawn else ["", p, ""]
    return [f"{result.difference:+.2f}", *numbers, "yes" if result.told_apart else "no"]


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _mean(values: Sequence[float]) -> str:
    return f"{fmean(values):.2f} ± {stdev(values):.2f}" if values else ""


def _differing(title: str, values: Values, note: str = "") -> Table:
    rows = [
        [key, "; ".join(f"{value} ({_listed(numbers)})" for value, numbers in by_value.items())]
        for key, by_value in values.items()
    ]
    return Table(title, ["key", "values, with the numbers of the runs"], rows, note)


def _listed(numbers: Iterable[int]) -> str:
    """`1–3, 5` for ascending numbers."""
    spans = [
        [number for _, number in span]
        for _, span in groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0])
    ]
    return ", ".join(f"{s[0]}" if len(s) == 1 else f"{s[0]}–{s[-1]}" for s in spans)
