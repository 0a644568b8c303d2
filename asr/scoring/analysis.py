"""Where it goes wrong: errors by group of utterances, by phone, by class of phones, and in time.

All of it is counted from what `Score` holds.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from asr.phones import table_rows
from asr.scoring import counts
from asr.scoring.alignment import Alignment
from asr.scoring.counts import CORRECT, OPTIONAL, ErrorCounts
from asr.scoring.result import LENGTH_BIN, Runs, Score
from asr.scoring.significance import Comparison

FREQUENT = 20  # confusions listed
EXAMPLES = 2  # shown of each
NEIGHBOURS = 2  # phones on either side of an example
TOLERANCES_S = (0.010, 0.020)
ROUNDING_S = 1e-9  # 0.31 - 0.30 is a little more than 0.01 in binary
DURATIONS_MS = (0, 30, 60, 100, 150)
NOTHING = "–"
MOST_PHONES = 200
MOST_LISTED = 8  # phones in a note
SCLITE_MARKUP = "is markup to sclite (@ nothing, a* a, a;b a), a phone here: its own counts differ"

Pair = tuple[str | None, str | None]  # said, recognised; None is nothing


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
    comparison: Comparison | None = None
    runs: Runs | None = None
    replicates: int = 0
    seed: int = 0

    @cached_property
    def groups(self) -> dict[str, dict[str, ErrorCounts]]:
        """Counts by speaker, sex, dialect region and length, as far as they are known."""
        score = self.score
        sums = {"speaker": dict(score.speakers)}
        each = counts.by_utterance([alignment.ops for alignment in score.alignments])
        for title in ("sex", "dialect"):
            names = [getattr(alignment.reference, title) for alignment in score.alignments]
            sums[title] = counts.by_group(names, each)
        sums["length"] = {
            f"{low}–{low + LENGTH_BIN - 1} phones": of_length
            for low, of_length in sorted(score.lengths.items())
        }
        return {title: by_name for title, by_name in sums.items() if by_name}

    @cached_property
    def frequent(self) -> list[Confusion]:
        """The most frequent errors, most frequent first, with places where they occur."""
        errors = [
            (pair, n) for pair, n in self.score.confusions.items() if pair[0] != pair[1] and n
        ]
        errors.sort(key=lambda error: (-error[1], error[0][0] or "", error[0][1] or ""))
        places: dict[Pair, list[str]] = {pair: [] for pair, _ in errors[:FREQUENT]}
        for alignment in sorted(self.score.alignments, key=lambda a: a.reference.id):
            if all(len(examples) == EXAMPLES for examples in places.values()):
                break
            for position, (op, said, heard) in enumerate(alignment.phones()):
                examples = places.get((said, heard))
                if op != OPTIONAL and examples is not None and len(examples) < EXAMPLES:
                    examples.append(_example(alignment, position))
        return [Confusion(*pair, n, tuple(places[pair])) for pair, n in errors[:FREQUENT]]

    @cached_property
    def matrices(self) -> list[Matrix]:
        """Phone by phone, then by manner and by place of articulation where all phones have one.

        None at all above `MOST_PHONES`: such a matrix would be of words and unreadable.
        """
        confusions, classes = self.score.confusions, phone_classes()
        phones = _phones_of(confusions)
        if len(phones) > MOST_PHONES:
            return []
        by_class = [_matrix("phone", confusions)]
        for column, title in enumerate(("manner", "place") if phones <= classes.keys() else ()):
            coarse: Counter[Pair] = Counter()
            for pair, count in confusions.items():
                said, heard = (None if p is None else classes[p][column] for p in pair)
                coarse[said, heard] += count
            by_class.append(_matrix(title, coarse))
        return by_class

    @cached_property
    def boundaries(self) -> Boundaries | None:
        """Errors in time; None where the reference has no times."""
        off_s: list[float] = []
        steps: dict[int, list[str]] = {}
        for alignment in self.score.alignments:
            ref_times, hyp_times = alignment.reference.times_s, alignment.hypothesis.times_s
            for op, i, j in alignment.steps() if ref_times is not None else ():
                if i is None or ref_times is None:
                    continue
                start_s, end_s = ref_times[i]
                duration_ms = round(1000 * (end_s - start_s), 3)
                steps.setdefault(max(t for t in DURATIONS_MS if t <= duration_ms), []).append(op)
                if op == CORRECT and j is not None and hyp_times is not None:
                    off_s.append(abs(hyp_times[j][0] - start_s) - ROUNDING_S)
        within = {tolerance: sum(off <= tolerance for off in off_s) for tolerance in TOLERANCES_S}
        durations = {low: ErrorCounts.of(*ops) for low, ops in sorted(steps.items())}
        return Boundaries(len(off_s), within, durations) if steps else None

    @cached_property
    def warnings(self) -> list[str]:
        """What makes the rate another one than its reader may think."""
        score, warnings, never = self.score, list[str](), Counter[str]()
        heard = {phone for _, phone in score.confusions}
        for (phone, _), number in score.confusions.items():
            if phone is not None and phone not in heard:  # silence, where a system has none
                never[phone] += number
        if never:
            listed = ", ".join(f"{phone} ({n}×)" for phone, n in never.most_common(MOST_LISTED))
            more = f" and {len(never) - MOST_LISTED} more" if len(never) > MOST_LISTED else ""
            warnings.append(
                f"phones of the references that no hypothesis has: {listed}{more}; each counts as "
                f"an error under {score.protocol}, of {score.total.err} errors"
            )
        paths = [Path(path).resolve() for path in (score.reference, score.hypothesis) if path]
        if len(paths) == 2 and paths[0] == paths[1]:
            warnings.append("the reference and the hypotheses are the same file")
        return warnings

    @cached_property
    def notes(self) -> list[str]:
        """What a reader of the rate has to know."""
        score, notes = self.score, []
        if score.is_synthetic:
            notes.append("the speech is synthetic: this rate says nothing about people's speech")
        if score.missing:
            notes.append(
                f"{score.missing} utterances without hypothesis count as deletions "
                f"(--missing delete)"
            )
        notes += self.warnings
        if len(score.speakers) < 2:
            known = "one speaker" if score.speakers else "no speakers"
            notes.append(
                f"{known} known, so no interval by speaker: it would be wider than this one"
            )
        if score.scorer == "sclite":
            notes += [
                f"{p!r} {SCLITE_MARKUP}"
                for p in sorted(_phones_of(score.confusions))
                if p == "@" or ";" in p or (len(p) > 1 and p[-1] == "*")
            ]
        return notes


def _phones_of(confusions: Mapping[Pair, int]) -> set[str]:
    return {phone for pair in confusions for phone in pair if phone is not None}


def _example(alignment: Alignment, position: int) -> str:
    shown = []
    for at, (_, said, heard) in enumerate(alignment.phones()):
        if at == position:
            shown.append(f"[{said or NOTHING}→{heard or NOTHING}]")
        elif abs(at - position) <= NEIGHBOURS:
            shown.append(said or heard or NOTHING)
    return f"{alignment.reference.id}: {' '.join(shown)}"


def _matrix(title: str, confusions: Mapping[Pair, int]) -> Matrix:
    order = list(dict.fromkeys(name for row in table_rows("articulation.txt") for name in row))
    place = {name: number for number, name in enumerate(order)}
    names = sorted(_phones_of(confusions), key=lambda name: (place.get(name, len(place)), name))
    keys = [*names, None]
    rows = tuple(tuple(confusions.get((said, heard), 0) for heard in keys) for said in keys)
    return Matrix(title, (*names, NOTHING), rows)


@cache
def phone_classes() -> dict[str, tuple[str, str]]:
    """Manner and place of articulation of the phones of TIMIT and CMUdict."""
    return {phone: (manner, place) for phone, manner, place in table_rows("articulation.txt")}
