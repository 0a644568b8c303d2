"""What can be wrong with labels: phones outside a set, times beyond the audio or out of order."""

import math
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from asr.errors import DataError, raise_problems
from asr.files import name
from asr.phones import unknown_phone
from asr.records import Segment

OVERSHOOT_S = 0.02  # labels of TextGrid and .lab may end this long after the audio
NUMBER = re.compile(r"[+-]?([0-9]{1,20}(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,5})?")


class Row(NamedTuple):
    """A label where it is read: its file and line, and times in the unit of the file."""

    where: str
    start: float
    end: float
    phone: str


def number(text: str) -> float | None:
    """The finite number that a text spells, an `int` where it has digits only; None: it has none.

    Other digits than 0 to 9, a decimal comma, nan and inf are no numbers.
    """
    if not NUMBER.fullmatch(text):
        return None
    value = int(text) if text.isdecimal() else float(text)
    return value if math.isfinite(value) else None


def fault(fields: Sequence[str], most: int) -> str:
    """What is wrong with a line `start end label` of at most `most` fields; "" for nothing."""
    for field in fields[:2]:
        time = number(field)
        if time is None and number(field.replace(",", ".")) is not None:
            return "write a decimal point, not a comma"
        if time is None or time < 0:
            return "a time is a number from 0"
    if len(fields) < 3:
        return "a field is missing"
    if len(fields) > 3 and number(fields[3]) is None:
        return "a label has no space inside"
    return "" if len(fields) <= most else "keep start, end and phone, and no other levels of labels"


def named(rows: Iterable[Row], problems: list[str]) -> list[Row]:
    """The rows with phones in Unicode's form NFC; those that are no names are problems."""
    sound = []
    for row in rows:
        try:
            sound.append(row._replace(phone=sys.intern(name(row.phone, row.where, "label"))))
        except DataError as error:
            problems.extend(error.problems)
    return sound


def checked(
    source: str,
    segments: Sequence[Segment],
    duration_s: float,
    phones: Collection[str] | None = None,
    set_name: str = "",
) -> tuple[Segment, ...]:
    """Segments with the end of the last cut at `duration_s`; every fault is in one `DataError`."""
    problems = [] if segments else [f"{source}: no labels"]
    rows = named(
        (
            Row(f"{source}: {s.phone!r} at {s.start_s:g} s", s.start_s, s.end_s, s.phone)
            for s in segments
        ),
        problems,
    )
    problems += unknown_phones(rows, phones, set_name)
    problems += wrong_times(rows, duration_s, OVERSHOOT_S, "s")
    raise_problems(problems)
    return tuple(Segment(row.phone, row.start, min(row.end, duration_s)) for row in rows)


def unknown_phones(rows: Iterable[Row], phones: Collection[str] | None, set_name: str) -> list[str]:
    """A sentence for each phone outside the set; None is the set of all phones."""
    return [
        f"{row.where}: {unknown_phone(row.phone, phones, set_name)}"
        for row in rows
        if phones is not None and row.phone not in phones
    ]


def wrong_times(rows: Iterable[Row], duration: float, overshoot: float, unit: str) -> Iterator[str]:
    """A sentence for each label beyond audio of `duration`, without length or out of order.

    Where the audio is not known, `duration` is infinite.
    """
    previous_end = 0.0
    for where, start, end, _ in rows:
        if end > duration + overshoot:
            yield (
                f"{where}: label ends at {end:.9g}, the audio at {duration:.9g} {unit}; expected "
                f"an end at most {overshoot:g} {unit} after it"
            )
        elif not start < min(end, duration):
            before = f" and a start before {duration:.9g}" if math.isfinite(duration) else ""
            yield (
                f"{where}: label starts at {start:.9g} and ends at {end:.9g} {unit}, expected an "
                f"end after the start{before}"
            )
        elif start < previous_end - 1e-6:
            yield (
                f"{where}: starts at {start:.9g}, before the previous label's end "
                f"{previous_end:.9g}; put the labels in order of time, without overlap"
                if previous_end
                else f"{where}: starts at {start:.9g}, expected at least 0"
            )
        previous_end = end
