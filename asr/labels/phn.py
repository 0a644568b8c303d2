"""TIMIT's `.phn`: one `start end label` line for each phone, in samples."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from asr.errors import raise_problems
from asr.files import read_rows
from asr.labels.checks import Row, fault, named, wrong_times
from asr.records import Segment

# A label may end this many samples after the audio, as TIMIT's last labels do.
OVERSHOOT_SAMPLES = 160
RATES = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000)
EXPECTED = "expected `start end label` in samples"


def text_of(path: Path, segments: Iterable[Segment], samples: int, sample_rate: int) -> str:
    """The text of a file, times rounded to samples; `DataError` where a label gets none."""
    rows = []
    for one in segments:
        start, end = (round(time * sample_rate) for time in (one.start_s, one.end_s))
        rows.append(Row(f"{path}: {one.phone!r} at {one.start_s:g} s", start, end, one.phone))
    raise_problems(wrong_times(rows, samples, OVERSHOOT_SAMPLES, "samples"))
    return "".join(f"{row.start} {row.end} {row.phone}\n" for row in rows)


def rows(path: Path) -> tuple[list[Row], list[str]]:
    """The labels with times in samples, and a sentence for each line that has none."""
    labels: list[Row] = []
    problems: list[str] = []
    seconds = "these look like seconds: multiply them by the sample rate"
    for line, fields in read_rows(path, comment=";;"):
        if len(fields) == 3 and all(re.fullmatch("[0-9]{1,15}", time) for time in fields[:2]):
            labels.append(Row(f"{path}:{line}", int(fields[0]), int(fields[1]), fields[2]))
        else:
            text, reason = " ".join(fields)[:60], fault(fields, most=3) or seconds
            problems.append(f"{path}:{line}: found {text!r}, {EXPECTED}; {reason}")
    return named(labels, problems), problems


def wrong_unit(rows: Sequence[Row], samples: int, sample_rate: int) -> list[str]:
    """A sentence where all times are wrong by the factor of another unit or sample rate."""
    if not rows or samples < 1:
        return []
    where, end = rows[-1].where, rows[-1].end
    factor = 10_000_000 / sample_rate  # samples to HTK's 100 ns
    if end > samples and abs(end / factor - samples) <= 0.1 * samples:
        return [
            f"{where}: label ends at {end}, the audio at sample {samples}: these are HTK's units "
            f"of 100 ns, expected samples; divide by {factor:g}"
        ]
    for rate in RATES:
        if rate != sample_rate and abs(end * rate / sample_rate - samples) <= 0.01 * samples:
            return [
                f"{where}: label ends at sample {end}, the audio at {samples}: as if the audio "
                f"were sampled at {rate} Hz, where its header says {sample_rate} Hz; convert "
                f"the audio to {sample_rate} Hz again"
            ]
    return []
