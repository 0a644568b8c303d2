"""Where it goes wrong: errors by group of utterances, by phone, by class of phones, and in time.

This file counts what `Score` already holds; it aligns nothing and prints nothing.
"""

from collections import Counter
from collections.abc import Mapping
from functools import cache

from asr.phones import TABLES
from asr.scoring.base import (
    CORRECT,
    LENGTH_BIN,
    OPTIONAL,
    Alignment,
    Boundaries,
    Confusion,
    ErrorCounts,
    Matrix,
    Score,
)

EXAMPLES = 2  # shown of every confusion
NEIGHBOURS = 2  # phones on either side of an example
TOLERANCES_S = (0.010, 0.020)
DURATIONS_MS = (0, 30, 60, 100, 150)
NOTHING = "–"
MOST_PHONES = 200


def groups(score: Score) -> dict[str, dict[str, ErrorCounts]]:
    """Counts by speaker, sex, dialect region and length, as far as they are known."""
    found = {"speaker": dict(score.speakers)}
    for title in ("sex", "dialect"):
        sums: dict[str, ErrorCounts] = {}
        for alignment in score.alignments:
            group = getattr(alignment.reference, title)
            if group is not None:
                sums[group] = sums.get(group, ErrorCounts()) + alignment.counts
        found[title] = dict(sorted(sums.items()))
    found["length"] = {
        f"{low}–{low + LENGTH_BIN - 1} phones": counts
        for low, counts in sorted(score.lengths.items())
    }
    return {title: sums for title, sums in found.items() if sums}


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

    None at all above `MOST_PHONES`: such a matrix is of words, and nobody reads it.
    """
    phones = {p for pair in score.confusions for p in pair if p is not None}
    if len(phones) > MOST_PHONES:
        return []
    found = [_matrix("phone", score.confusions)]
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
            found.append(_matrix(title, coarse))
    return found


def _matrix(title: str, counts: Mapping[tuple[str | None, str | None], int]) -> Matrix:
    order = _order()
    names = sorted(
        {name for pair in counts for name in pair if name is not None},
        key=lambda name: (order.get(name, len(order)), name),
    )
    keys: list[str | None] = [*names, None]
    labels = (*names, NOTHING)
    rows = tuple(tuple(counts.get((said, heard), 0) for heard in keys) for said in keys)
    return Matrix(title, labels, labels, rows)


@cache
def phone_classes() -> dict[str, tuple[str, str]]:
    """Manner and place of articulation of the phones of TIMIT and CMUdict."""
    rows = (line.split() for line in _rows())
    return {phone: (manner, place) for phone, manner, place in rows}


@cache
def _order() -> dict[str, int]:
    """Phones, manners and places in the order of their table, in which alike stand together."""
    order: dict[str, int] = {}
    for line in _rows():
        for name in line.split():
            order.setdefault(name, len(order))
    return order


@cache
def _rows() -> tuple[str, ...]:
    lines = (TABLES / "articulation.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


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
                # A nanosecond of mercy: 0.31 - 0.30 is a little more than 0.01 in binary.
                off_s = abs(hyp_times[j][0] - start_s) - 1e-9
                for tolerance in TOLERANCES_S:
                    within[tolerance] += off_s <= tolerance
    return Boundaries(starts, within, dict(sorted(durations.items())))
