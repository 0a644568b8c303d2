"""Praat's TextGrid: named tiers of intervals, in the long or the short text format.

Both formats are read, the long one is written; binary and chronological TextGrids are refused.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

from asr.errors import DataError
from asr.files import read_lines
from asr.labels.checks import OVERSHOOT_S, Row, checked, named, number
from asr.records import Segment
from asr.templates import render

PHONE_TIERS = ("phones", "phone", "phn", "phonemes", "segments")
WORD_TIERS = ("words", "word", "text", "ort", "orthography", "sentence", "utterance", "transcript")
REMEDY = "open it in Praat, and save it as text file"
# The long and the short text format have the same values in the same order: numbers, texts in
# quotes and a flag. The long one adds names and indices; these and comments ("!") are skipped.
VALUE = re.compile(
    r"(?:\s|![^\n]*|=|\[\d*\]:?|(?:file|type|object|class|xmin|xmax|tiers\?|size|item|name|number"
    r"|time|mark|text|intervals|points):?(?![^\s\"!=\[]))*"
    r'("[^"]*(?:""[^"]*)*"|[^\s"!=\[]+|\S|\Z)',
    re.IGNORECASE,
)


class Tier(NamedTuple):
    """A tier and its intervals, empty ones too; a tier of points has None."""

    name: str
    intervals: list[Row] | None


def rows(path: Path, tier: str | None = None) -> tuple[list[Row], list[str]]:
    """The intervals with a label of the phone tier, in seconds, and a sentence for each bad label.

    `tier` is its name; None: the one tier that is called as phones are, or the only one.
    """
    chosen = _chosen(path, read_tiers(path), tier)
    problems: list[str] = []
    stripped = (row._replace(phone=row.phone.strip()) for row in chosen)
    return named((row for row in stripped if row.phone), problems), problems


def read_tiers(path: Path) -> list[Tier]:
    """The tiers of a file of which every value is accounted for; raises `DataError` with line."""
    with suppress(OSError), open(path, "rb") as file:
        if file.read(12) == b"ooBinaryFile":
            raise DataError(f"{path}: a binary TextGrid; {REMEDY}")
    lines = read_lines(path, utf16=True)
    if "chronological" in lines[0]:
        raise DataError(f"{path}:1: a chronological TextGrid; {REMEDY}")
    values = _Values(path, "\n".join(lines).rstrip())
    values.one_of("ooTextFile", "ooTextFile short")
    values.one_of("TextGrid")
    edges = values.number("xmin of the file"), values.number("xmax of the file")
    values.one_of("<exists>")
    tiers: list[Tier] = []
    count = values.count("size, the number of tiers")
    of, before = f"of {count} (size in line {values.line})", ""
    for place in range(1, count + 1):
        kind = values.one_of(
            "IntervalTier", "TextTier", of=f", the class of tier {place} {of}{before}"
        )
        name = values.text(f"the name of tier {place} {of}").strip()
        low, high = (values.number(f"{x} of tier {place} {of}") for x in ("xmin", "xmax"))
        limits = max(low, edges[0]), min(high, edges[1])
        intervals, before = _intervals(values, name, kind == "IntervalTier", limits)
        tiers.append(Tier(name, intervals if kind == "IntervalTier" else None))
    if values.next():
        values.fail(f"the end of the file after tier {count} {of}{before}")
    return tiers


def text_of(tiers: Mapping[str, Sequence[Segment]], duration_s: float) -> str:
    """Praat's long text of interval tiers by name; empty intervals fill the gaps.

    Raises `DataError` for segments that are not in order of time, overlap, or are beyond
    `duration_s`.
    """
    filled = {
        name: list(_without_gaps(checked(name, tier, duration_s) if tier else (), duration_s))
        for name, tier in tiers.items()
    }
    return render("praat.TextGrid", tiers=filled, duration_s=duration_s)


def _intervals(
    values: "_Values", tier: str, has_ends: bool, limits: tuple[float, float]
) -> tuple[list[Row], str]:
    """The intervals or points of a tier, and what to say where the next value does not fit."""
    what = "interval" if has_ends else "point"
    count = values.count(f"size, the number of {what}s of tier {tier!r}")
    of = f" of {count} (size in line {values.line}) of tier {tier!r}"
    rows: list[Row] = []
    reached = limits[0] - OVERSHOOT_S
    for place in range(1, count + 1):
        where = f"of {what} {place}{of}"
        start = values.number(f"the time {where}")
        line = values.line
        end = values.number(f"the end {where}") if has_ends else start
        if not reached - 1e-6 <= start <= end <= limits[1] + OVERSHOOT_S:
            raise DataError(
                f"{values.path}:{line}: found {start:.9g} to {end:.9g} s {where}, expected an end "
                f"after the start, no overlap with the one before, and times between xmin "
                f"{limits[0]:.9g} and xmax {limits[1]:.9g} of the tier and the file"
            )
        label = values.text(f"the label {where}")
        rows.append(Row(f"{values.path}:{values.line}", start, end, label))
        reached = end
    return rows, f" and {what} {count}{of}; correct a wrong size"


def _chosen(path: Path, tiers: Sequence[Tier], wanted: str | None) -> list[Row]:
    """The intervals of the tier with a name, whatever its letter case, or of the phone tier."""

    def called(names: Sequence[str]) -> list[Tier]:
        known = {_plain(name) for name in names}
        exactly = [tier for tier in tiers if _plain(tier.name) in known]
        return exactly or [t for t in tiers if _plain(t.name.split(" - ")[-1]) in known]

    if wanted is not None:
        fitting, expected = called([wanted]), f"one tier of intervals named {wanted!r}"
    else:
        fitting = [tier for tier in called(PHONE_TIERS) if tier.intervals is not None]
        of_intervals = [tier for tier in tiers if tier.intervals is not None]
        if not fitting and len(of_intervals) == 1 and of_intervals[0] not in called(WORD_TIERS):
            fitting = of_intervals
        expected = f"one tier of phones (named {', '.join(PHONE_TIERS)})"
    if len(fitting) == 1 and fitting[0].intervals is not None:
        return fitting[0].intervals
    names = ", ".join(repr(t.name) + (" (points)" * (t.intervals is None)) for t in tiers) or "none"
    raise DataError(
        f"{path}: expected {expected}, found {names}; name the tier with corpus.tier=NAME "
        f"(tier of asr score)"
    )


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().casefold()


class _Values:
    """The values of a TextGrid in the order of the file; `line` is that of the last one."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.line = path, 1
        self._text, self._matches, self._reached = text, VALUE.finditer(text), 0
        self._token = ""

    def next(self) -> str:
        """The next value as it is written, without names and comments; "" after the last."""
        match = next(self._matches, None)
        if match is None:
            return ""
        self.line += self._text.count("\n", self._reached, match.start(1))
        self._reached, self._token = match.start(1), match[1]
        return self._token

    def text(self, what: str) -> str:
        token = self.next()
        if len(token) < 2 or token[0] != '"':
            self.fail(f"{what}, in quotes")
        return token[1:-1].replace('""', '"')

    def one_of(self, *expected: str, of: str = "") -> str:
        token = self.next().strip('"')
        if token not in expected:
            self.fail(" or ".join(map(repr, expected)) + of)
        return token

    def number(self, what: str) -> float:
        value = number(self.next())
        if value is None:
            self.fail(f"{what}, a number")
        return value

    def count(self, what: str) -> int:
        value = self.number(what)
        if not isinstance(value, int):
            self.fail(f"{what}, a whole number from 0")
        return value

    def fail(self, expected: str) -> NoReturn:
        shown = self._token if len(self._token) <= 40 else f"{self._token[:39]}…"
        raise DataError(
            f"{self.path}:{self.line}: not a complete TextGrid in Praat's text format: found "
            f"{shown or 'the end of the file'}, expected {expected}"
        )


def _without_gaps(segments: Sequence[Segment], duration_s: float) -> Iterator[Segment]:
    reached_s = 0.0
    for segment in segments:
        if segment.start_s > reached_s:
            yield Segment("", reached_s, segment.start_s)
        yield segment
        reached_s = segment.end_s
    if reached_s < duration_s:
        yield Segment("", reached_s, duration_s)
