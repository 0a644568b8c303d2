"""Praat's TextGrid: named tiers of intervals, in the long or the short text format.

Both formats are read, the long one is written; binary TextGrids are not read.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from asr.errors import DataError
from asr.files import atomic_open
from asr.records import Segment
from asr.templates import render

PHONE_TIERS = ("phones", "phone", "phn", "phonemes", "segments")


def read(path: Path, sample_rate: int) -> tuple[Segment, ...]:
    """The intervals of the phone tier that have a label."""
    tiers = read_tiers(path)
    named = [tier for name, tier in tiers if name.split(" - ")[-1].lower() in PHONE_TIERS]
    if len(named) != 1 and len(tiers) != 1:
        names = ", ".join(repr(name) for name, _ in tiers) or "none"
        raise DataError(
            f"{path}: expected one tier of phones (named {', '.join(PHONE_TIERS)}), found {names}"
        )
    intervals = named[0] if named else tiers[0][1]
    return tuple(
        Segment(one.phone.strip(), one.start_s, one.end_s) for one in intervals if one.phone.strip()
    )


def write(path: Path, segments: Sequence[Segment], duration_s: float) -> None:
    """Write one tier, `phones`."""
    with atomic_open(path) as file:
        file.write(text_of({"phones": segments}, duration_s))


def read_tiers(path: Path) -> list[tuple[str, list[Segment]]]:
    """Name and intervals of each interval tier, empty ones too; point tiers are skipped."""
    # The long and the short text format have the same values in the same order; the long one adds
    # names, which the pattern skips. Strings are in quotes, and a quote inside is doubled.
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
            fields = 3 if kind == "IntervalTier" else 2
            rows = [[next(values) for _ in range(fields)] for _ in range(int(next(values)))]
            if kind == "IntervalTier":
                tier = [Segment(str(phone), float(start), float(end)) for start, end, phone in rows]
                tiers.append((name, tier))
    except (StopIteration, ValueError) as error:
        raise DataError(f"{path}: not a complete TextGrid in Praat's text format") from error
    return tiers


def text_of(tiers: Mapping[str, Sequence[Segment]], duration_s: float) -> str:
    """Praat's long text of interval tiers by name; empty intervals fill the gaps.

    Segments are in order of time, do not overlap, and end by `duration_s`.
    """
    filled = {name: list(_without_gaps(tier, duration_s)) for name, tier in tiers.items()}
    return render("praat.TextGrid", tiers=filled, duration_s=duration_s)


def _without_gaps(segments: Sequence[Segment], duration_s: float) -> Iterator[Segment]:
    reached_s = 0.0
    for segment in segments:
        if segment.start_s > reached_s:
            yield Segment("", reached_s, segment.start_s)
        yield segment
        reached_s = segment.end_s
    if reached_s < duration_s:
        yield Segment("", reached_s, duration_s)
