"""What can be wrong with labels: phones outside a set, times beyond the audio or out of order."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from asr.errors import raise_problems
from asr.phones import unknown_phone
from asr.records import Segment

OVERSHOOT_S = 0.02  # labels of TextGrid and .lab may end this long after the audio
Row = tuple[str, float, float, str]  # where it is, start, end, phone


def checked(
    source: str,
    segments: Sequence[Segment],
    duration_s: float,
    phones: Collection[str] | None,
    set_name: str,
) -> tuple[Segment, ...]:
    """Segments with the end of the last cut at `duration_s`; every fault is in one `DataError`."""
    rows = [
        (f"{source}: {s.phone!r} at {s.start_s:g} s", s.start_s, s.end_s, s.phone) for s in segments
    ]
    problems = [
        *unknown_phones(rows, phones, set_name),
        *wrong_times(rows, duration_s, OVERSHOOT_S, "s"),
    ]
    raise_problems(problems if segments else [f"{source}: no labels"])
    return tuple(Segment(s.phone, s.start_s, min(s.end_s, duration_s)) for s in segments)


def unknown_phones(rows: Iterable[Row], phones: Collection[str] | None, set_name: str) -> list[str]:
    """A sentence for each phone outside the set; None is the set of all phones."""
    return [
        f"{where}: {unknown_phone(phone, phones, set_name)}"
        for where, _, _, phone in rows
        if phones is not None and phone not in phones
    ]


def wrong_times(rows: Iterable[Row], duration: float, overshoot: float, unit: str) -> Iterator[str]:
    """A sentence for each label beyond audio of `duration`, without length or out of order."""
    previous_end = 0.0
    for where, start, end, _ in rows:
        if end > duration + overshoot:
            yield (
                f"{where}: label ends at {end:.9g}, the audio at {duration:.9g} {unit}; expected "
                f"an end at most {overshoot:g} {unit} after it"
            )
        elif start >= min(end, duration):
            yield (
                f"{where}: label starts at {start:.9g} and ends at {end:.9g} {unit}, expected an "
                f"end after the start and a start before {duration:.9g}"
            )
        elif start < previous_end - 1e-6:
            yield (
                f"{where}: starts at {start:.9g}, before the previous label's end "
                f"{previous_end:.9g}; put the labels in order of time, without overlap"
            )
        previous_end = end
