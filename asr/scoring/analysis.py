"""Where it goes wrong: errors by group of utterances, by phone, by class of phones, and in time.

This file counts what `Score` holds; it aligns nothing and prints nothing.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from asr.phones import table_lines
from asr.scoring import counts
from asr.scoring.alignment import Alignment
from asr.scoring.counts import CORRECT, OPTIONAL, ErrorCounts
from asr.scoring.result import LENGTH_BIN, Runs, Score
from asr.scoring.significance import Comparison

EXAMPLES = 2  # shown of every confusion
NEIGHBOURS = 2  # phones on either side of an example
TOLERANCES_S = (0.010, 0.020)
DURATIONS_MS = (0, 30, 60, 100, 150)
NOTHING = "–"
MOST_PHONES = 200
SCLITE_MARKUP = "is markup to sclite (@ nothing, a* a, a;b a), a phone here: its own counts differ"


@dataclass(frozen=True)
class Confusion:
    """A phone that was said and what was recognised for it; None is nothing."""

    said: str | None
    heard: str | None
    count: int
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.said is None:
            return f"{self.heard} inserted"
        return f"{self.said} deleted" if self.heard is None else f"{self.said} → {self.heard}"


@dataclass(frozen=True)
class Matrix:
    """Counts of each label recognised (columns) for each one said (rows); the last is nothing."""

    title: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Boundaries:
    """Errors in time: starts of correct phones, and errors by the duration of phones.

    `within` are numbers of correct phones that start within a tolerance in seconds of the
    reference, of `starts`. `durations` are counts of reference phones by least duration in
    milliseconds.
    """

    starts: int
    within: Mapping[float, int]
    durations: Mapping[int, ErrorCounts]

    def shares(self, separator: str) -> str:
        """`80.0 % within 10 ms`, for each tolerance; there must be starts."""
        return separator.join(
            f"{100.0 * number / self.starts:.1f} % within {1000 * tolerance:.0f} ms"
            for tolerance, number in self.within.items()
        )

    def by_duration(self) -> Iterator[tuple[str, ErrorCounts]]:
        """`30–60 ms` and its counts, from the shortest phones to the longest."""
        bins = list(self.durations)
        for low, high in zip(bins, [*bins[1:], None], strict=True):
            yield f"≥ {low} ms" if high is None else f"{low}–{high} ms", self.durations[low]


@dataclass(frozen=True)
class Report:
    """One score with its analysis, ready to be written as text, JSON or HTML."""

    score: Score
    groups: Mapping[str, Mapping[str, ErrorCounts]]
    frequent: Sequence[Confusion]
    matrices: Sequence[Matrix]
    boundaries: Boundaries | None = None
    comparison: Comparison | None = None
    runs: Runs | None = None
    notes: Sequence[str] = ()
    replicates: int = 0
    seed: int = 0


def investigate(
    score: Score,
    *,
    comparison: Comparison | None = None,
    runs: Runs | None = None,
    replicates: int = 0,
    seed: int = 0,
) -> Report:
    """The full analysis of a score: groups, confusions, boundaries, notes."""
    return Report(
        score=score,
        groups=groups(score),
        frequent=frequent(score),
        matrices=matrices(score),
        boundaries=boundaries(score),
        comparison=comparison,
        runs=runs,
        notes=_notes(score),
        replicates=replicates,
        seed=seed,
    )


def groups(score: Score) -> dict[str, dict[str, ErrorCounts]]:
    """Counts by speaker, sex, dialect region and length, as far as they are known."""
    sums = {"speaker": dict(score.speakers)}
    for title in ("sex", "dialect"):
        names = [getattr(alignment.reference, title) for alignment in score.alignments]
        if any(name is not None for name in names):
            each = counts.by_utterance([alignment.ops for alignment in score.alignments])
            sums[title] = counts.by_group(names, each)
    sums["length"] = {
        f"{low}–{low + LENGTH_BIN - 1} phones": of_length
        for low, of_length in sorted(score.lengths.items())
    }
    return {title: by_name for title, by_name in sums.items() if by_name}


def frequent(score: Score, number: int = 20) -> list[Confusion]:
    """The most frequent errors, most frequent first, with places where they occur."""
    errors = [
        Confusion(said, heard, count)
        for (said, heard), count in score.confusions.items()
        if said != heard and count
    ]
    errors.sort(key=lambda error: (-error.count, error.said or "", error.heard or ""))
    wanted: dict[tuple[str | None, str | None], list[str]] = {
        (error.said, error.heard): [] for error in errors[:number]
    }
    for alignment in sorted(score.alignments, key=lambda a: a.reference.id):
        if all(len(places) == EXAMPLES for places in wanted.values()):
            break
        for position, (op, i, j) in enumerate(alignment.steps()):
            if op in (CORRECT, OPTIONAL):
                continue
            said = None if i is None else alignment.reference.phones[i]
            heard = None if j is None else alignment.hypothesis.phones[j]
            places = wanted.get((said, heard))
            if places is not None and len(places) < EXAMPLES:
                places.append(_example(alignment, position))
    return [
        Confusion(e.said, e.heard, e.count, tuple(wanted[e.said, e.heard])) for e in errors[:number]
    ]


def _example(alignment: Alignment, position: int) -> str:
    steps = list(alignment.steps())
    shown = []
    for at in range(max(position - NEIGHBOURS, 0), min(position + NEIGHBOURS + 1, len(steps))):
        _, i, j = steps[at]
        said = NOTHING if i is None else alignment.reference.phones[i]
        heard = NOTHING if j is None else alignment.hypothesis.phones[j]
        shown.append(f"[{said}→{heard}]" if at == position else said if i is not None else heard)
    return f"{alignment.reference.id}: {' '.join(shown)}"


def matrices(score: Score) -> list[Matrix]:
    """Phone by phone, then by manner and by place of articulation where all phones have one.

    None at all above `MOST_PHONES`: such a matrix would be of words and unreadable.
    """
    phones = {p for pair in score.confusions for p in pair if p is not None}
    if len(phones) > MOST_PHONES:
        return []
    by_class = [_matrix("phone", score.confusions)]
    classes = phone_classes()
    if phones <= classes.keys():
        for column, title in enumerate(("manner", "place")):
            coarse: Counter[tuple[str | None, str | None]] = Counter()
            for (said, heard), count in score.confusions.items():
                pair = (
                    None if said is None else classes[said][column],
                    None if heard is None else classes[heard][column],
                )
                coarse[pair] += count
            by_class.append(_matrix(title, coarse))
    return by_class


def _matrix(title: str, counts: Mapping[tuple[str | None, str | None], int]) -> Matrix:
    order = _order()
    names = sorted(
        {name for pair in counts for name in pair if name is not None},
        key=lambda name: (order.get(name, len(order)), name),
    )
    keys: list[str | None] = [*names, None]
    labels = (*names, NOTHING)
    rows = tuple(tuple(counts.get((said, heard), 0) for heard in keys) for said in keys)
    return Matrix(title, labels, rows)


@cache
def phone_classes() -> dict[str, tuple[str, str]]:
    """Manner and place of articulation of the phones of TIMIT and CMUdict."""
    rows = (line.split() for line in table_lines("articulation.txt"))
    return {phone: (manner, place) for phone, manner, place in rows}


@cache
def _order() -> dict[str, int]:
    """Phones, manners and places in the order of their table, where similar ones are neighbours."""
    order: dict[str, int] = {}
    for line in table_lines("articulation.txt"):
        for name in line.split():
            order.setdefault(name, len(order))
    return order


def boundaries(score: Score) -> Boundaries | None:
    """Errors in time; None where the reference has no times."""
    timed = [a for a in score.alignments if a.reference.times_s is not None]
    if not timed:
        return None
    starts = 0
    within = dict.fromkeys(TOLERANCES_S, 0)
    durations: dict[int, ErrorCounts] = {}
    for alignment in timed:
        ref_times, hyp_times = alignment.reference.times_s, alignment.hypothesis.times_s
        assert ref_times is not None
        for op, i, j in alignment.steps():
            if i is None:
                continue
            start_s, end_s = ref_times[i]
            bin_ms = max(low for low in DURATIONS_MS if low <= round(1000 * (end_s - start_s), 3))
            durations[bin_ms] = durations.get(bin_ms, ErrorCounts()) + ErrorCounts.of(op)
            if op == CORRECT and j is not None and hyp_times is not None:
                starts += 1
                # less a nanosecond: 0.31 - 0.30 is a little more than 0.01 in binary
                off_s = abs(hyp_times[j][0] - start_s) - 1e-9
                for tolerance in TOLERANCES_S:
                    within[tolerance] += off_s <= tolerance
    return Boundaries(starts, within, dict(sorted(durations.items())))


def _notes(score: Score) -> list[str]:
    notes = []
    if score.is_synthetic:
        notes.append("the speech is synthetic: this rate says nothing about people's speech")
    if score.missing:
        notes.append(
            f"{score.missing} utterances without hypothesis count as deletions (--missing delete)"
        )
    if len(score.speakers) < 2:
        known = "one speaker" if score.speakers else "no speakers"
        notes.append(f"{known} known, so no interval by speaker: it would be wider than this one")
    if score.scorer == "sclite":
        phones = {phone for said_heard in score.confusions for phone in said_heard if phone}
        markup = sorted(p for p in phones if p == "@" or ";" in p or (len(p) > 1 and p[-1] == "*"))
        notes += [f"{phone!r} {SCLITE_MARKUP}" for phone in markup]
    return notes
