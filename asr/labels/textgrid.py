"""Labels with times that are no `.phn`: Praat's TextGrid and the `.lab` files of HTK and others.

Both give `(start_s, end_s, label)`. This file knows no phone set and checks no times against
audio; it reads Praat's text formats, long and short, writes the long one, and knows no binary
TextGrid.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from asr.errors import DataError
from asr.files import atomic_open
from asr.records import Segment

PHONE_TIERS = ("phones", "phone", "phn", "phonemes", "segments")
HTK_UNIT_S = 1e-7  # HTK counts 100 ns

Interval = tuple[float, float, str]


def read_phones(path: Path) -> Iterator[Interval]:
    """Intervals of the phone tier; an empty interval says that nothing is labelled there."""
    tiers = read_tiers(path)
    named = [tier for name, tier in tiers if name.split(" - ")[-1].lower() in PHONE_TIERS]
    if len(named) != 1 and len(tiers) != 1:
        names = ", ".join(repr(name) for name, _ in tiers) or "none"
        raise DataError(
            f"{path}: expected one tier of phones (named {', '.join(PHONE_TIERS)}), found {names}"
        )
    for start, end, label in named[0] if named else tiers[0][1]:
        if label.strip():
            yield start, end, label.strip()


def write_phones(path: Path, segments: Sequence[Segment], duration_s: float) -> None:
    """Write one tier, `phones`."""
    intervals = [(segment.start_s, segment.end_s, segment.phone) for segment in segments]
    with atomic_open(path) as file:
        file.write(text_of({"phones": intervals}, duration_s))


def read_tiers(path: Path) -> list[tuple[str, list[Interval]]]:
    """Name and intervals of each interval tier; point tiers are passed over."""
    # Praat's long and short text formats hold the same values in the same order; the long one
    # adds names, which are skipped here: strings stand in quotes, a quote inside is doubled.
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    utf16 = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = raw.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: neither UTF-8 nor UTF-16 text") from error
    pattern = r'"((?:[^"]|"")*)"|(?<![\w\[.])(-?\d+(?:\.\d+)?(?:[eE]-?\d+)?)(?![\w\].])'
    values: Iterator[str | float] = (
        float(m[2]) if m[2] else m[1].replace('""', '"') for m in re.finditer(pattern, text)
    )
    tiers = []
    try:
        if (next(values), next(values)) != ("ooTextFile", "TextGrid"):
            raise ValueError
        next(values), next(values)
        for _ in range(int(next(values))):
            kind, name = next(values), str(next(values))
            next(values), next(values)
            intervals = []
            for _ in range(int(next(values))):
                if kind == "IntervalTier":
                    intervals.append((float(next(values)), float(next(values)), str(next(values))))
                else:
                    next(values), next(values)
            if kind == "IntervalTier":
                tiers.append((name, intervals))
    except (StopIteration, ValueError) as error:
        raise DataError(f"{path}: not a complete TextGrid in Praat's text format") from error
    return tiers


def text_of(tiers: Mapping[str, Sequence[Interval]], duration_s: float) -> str:
    """Interval tiers by name as Praat's long text; what lies between intervals is left empty.

    Intervals are in order, do not overlap, and end by `duration_s`.
    """
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {duration_s!r}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, (name, intervals) in enumerate(tiers.items(), start=1):
        filled = list(_without_gaps(intervals, duration_s))
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f"        name = {_quoted(name)}",
            "        xmin = 0",
            f"        xmax = {duration_s!r}",
            f"        intervals: size = {len(filled)}",
        ]
        for place, (start_s, end_s, label) in enumerate(filled, start=1):
            lines += [
                f"        intervals [{place}]:",
                f"            xmin = {start_s!r}",
                f"            xmax = {end_s!r}",
                f"            text = {_quoted(label)}",
            ]
    return "\n".join(lines) + "\n"


def _without_gaps(intervals: Sequence[Interval], duration_s: float) -> Iterator[Interval]:
    reached = 0.0
    for start_s, end_s, label in intervals:
        if start_s > reached:
            yield reached, start_s, ""
        yield start_s, end_s, label
        reached = end_s
    if reached < duration_s:
        yield reached, duration_s, ""


def _quoted(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def read_lab(path: Path) -> Iterator[Interval]:
    """Lines `start end label`, times in 100 ns (HTK) or, where one has a point, in seconds."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from error
    rows = [(number, line.split()) for number, line in enumerate(lines, start=1) if line.strip()]
    in_seconds = any("." in field for _, row in rows for field in row[:2])
    for number, row in rows:
        try:
            start, end, label = float(row[0]), float(row[1]), row[2]
        except (IndexError, ValueError):
            raise DataError(
                f"{path}:{number}: found {' '.join(row)!r}, expected `start end label` with times "
                f"in 100 ns (HTK) or in seconds"
            ) from None
        unit = 1.0 if in_seconds else HTK_UNIT_S
        yield start * unit, end * unit, label
