"""HTK's `.lab`: a line `start end label` for each phone, of which the file does not say the unit.

HTK counts 100 ns. Other tools write seconds, milliseconds or samples; the audio's length decides.
A fourth field that is a number is HTK's score, which is not used.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

from asr.files import read_rows
from asr.labels.checks import OVERSHOOT_S, Row, fault, named, number

HTK = 10_000_000  # units in a second
NONE = "\0"  # no line is a comment
EXPECTED = "expected `start end label` with times in 100 ns (HTK) or in seconds with a point"
# Seconds from one label to the next, on average; times that give others are in another unit.
MEAN_S = (0.005, 60.0)
# Labels in the usual unit end after this share of the audio, those in another after the larger one:
# no two units fit the same file then, as neighbours differ by a factor of 8 or more.
LEAST_SHARE, LEAST_OTHER_SHARE = 0.01, 0.5


def rows(path: Path) -> tuple[list[Row], list[str]]:
    """The labels as the file has them, and a sentence for each line that has none.

    Times are `int` where they have no point.
    """
    lines = dict(read_rows(path, comment=NONE, utf16=True))
    if _is_text(lines.values()):
        words = " ".join(next(iter(lines.values())))
        return [], [
            f"{path}: found words without times, {words[:60]!r}, {EXPECTED}; if they are what is "
            f"spoken, set corpus.lexicon=FILE"
        ]
    problems: list[str] = []
    labels = []
    for line, fields in lines.items():
        if reason := fault(fields, most=4):
            text = " ".join(fields)[:60]
            problems.append(f"{path}:{line}: found {text!r}, {EXPECTED}; {reason}")
        else:
            start, end = (number(field) or 0 for field in fields[:2])
            labels.append(Row(f"{path}:{line}", start, end, fields[2]))
    return named(labels, problems), problems


def is_text(path: str | Path) -> bool:
    """Whether a file holds words and no times, as users of forced aligners write it."""
    return _is_text([fields for _, fields in read_rows(path, comment=NONE, utf16=True)])


def in_seconds(
    rows: Sequence[Row], samples: int | None, sample_rate: int
) -> tuple[list[Row], list[str]]:
    """The labels with times in seconds, or a sentence where no unit fits.

    Of the units in which the labels end by the end of the audio, the largest is theirs. Where no
    audio is known (`samples` is None) times are in seconds if one has a point, else in 100 ns.
    """
    if not rows:
        return [], []
    last = max(rows, key=lambda row: row.end)
    usual = 1 if any(isinstance(t, float) for row in rows for t in (row.start, row.end)) else HTK
    per_second = usual
    if samples is None:
        mean_s = last.end / usual / len(rows)
        if not MEAN_S[0] <= mean_s <= MEAN_S[1]:
            unit = "seconds" if usual == 1 else "100 ns"
            return [], [
                f"{last.where}: label ends at {last.end:.9g}; in {unit}, the {len(rows)} labels "
                f"would take {mean_s:.3g} s on average: another unit, {EXPECTED}"
            ]
    else:
        duration_s = samples / sample_rate
        units = sorted({1, 1000, sample_rate, HTK})
        fitting = [one for one in units if last.end / one <= duration_s + OVERSHOOT_S]
        per_second = fitting[0] if fitting else usual
        share = LEAST_OTHER_SHARE if per_second != usual else 0.0 if usual == 1 else LEAST_SHARE
        if not fitting or last.end / per_second < share * duration_s:
            return [], [
                f"{last.where}: label ends at {last.end:.9g}, the audio at {duration_s:.9g} s: "
                f"the times do not fit the audio in 100 ns (HTK), samples, milliseconds or "
                f"seconds; give the label file of this recording, in one of these"
            ]
    return [
        row._replace(start=row.start / per_second, end=row.end / per_second) for row in rows
    ], []


def _is_text(lines: Collection[list[str]]) -> bool:
    """Whether there are lines, and none begins with two times, or with one that has a point."""

    def is_time(field: str) -> bool:
        return field.lstrip("+-.,")[:1].isdigit() or field.lower() in ("nan", "inf")

    return bool(lines) and not any(
        all(map(is_time, fields[:2])) or isinstance(number(fields[0]), float) for fields in lines
    )
