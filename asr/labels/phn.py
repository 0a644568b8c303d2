"""TIMIT's `.phn`: one `start end label` line for each phone, in samples."""

import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from asr.errors import raise_problems
from asr.files import atomic_open, read_lines
from asr.labels.checks import Row, unknown_phones, wrong_times
from asr.records import Segment

# A label may end this many samples after the audio, as TIMIT's last labels do.
OVERSHOOT_SAMPLES = 160
RATES = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000)
EXPECTED = "expected `start end label` in samples"


def read(path: Path, sample_rate: int) -> tuple[Segment, ...]:
    """The segments as the file has them; all lines of another form are in one `DataError`."""
    rows, problems = _rows(path)
    raise_problems(problems)
    return tuple(Segment(p, start / sample_rate, end / sample_rate) for _, start, end, p in rows)


def read_checked(
    path: Path, samples: int, sample_rate: int, phones: Collection[str] | None, set_name: str
) -> tuple[Segment, ...]:
    """The segments in lower case, checked as `labels.read_checked` says."""
    rows, problems = _rows(path)
    rows = [(where, start, end, sys.intern(label.lower())) for where, start, end, label in rows]
    problems += unknown_phones(rows, phones, set_name)
    if not rows and not problems:
        problems.append(f"{path}: no labels, {EXPECTED}, one line for each phone")
    elif rows and {label for *_, label in rows} == {"q"}:
        problems.append(f"{path}: no label but q, which scoring deletes; leave the file out")
    wrong_unit = _wrong_unit(rows, samples, sample_rate)
    problems += wrong_unit or wrong_times(rows, samples, OVERSHOOT_SAMPLES, "samples")
    raise_problems(problems)
    return tuple(
        Segment(label, start / sample_rate, min(end, samples) / sample_rate)
        for _, start, end, label in rows
    )


def write(path: Path, segments: Iterable[Segment], sample_rate: int) -> None:
    """Write times rounded to samples."""
    with atomic_open(path) as file:
        for segment in segments:
            start, end = (round(time * sample_rate) for time in (segment.start_s, segment.end_s))
            file.write(f"{start} {end} {segment.phone}\n")


def _rows(path: Path) -> tuple[list[Row], list[str]]:
    """The labels of a file, and a sentence for each line that has no `start end label`."""
    rows: list[Row] = []
    problems: list[str] = []
    for number, line in enumerate(read_lines(path), start=1):
        parts = line.split()
        if len(parts) == 3 and all(part.isascii() and part.isdecimal() for part in parts[:2]):
            rows.append((f"{path}:{number}", int(parts[0]), int(parts[1]), parts[2]))
        elif parts and not line.startswith(";;"):
            problems.append(f"{path}:{number}: found {line.strip()!r}, {EXPECTED}{_remedy(parts)}")
    return rows, problems


def _remedy(parts: list[str]) -> str:
    """What the line seems to have instead of `start end label`."""
    if len(parts) > 3 and all(part.isdecimal() for part in parts[:2]):
        return "; a label has no space inside"
    times = []
    for part in parts[:2]:
        try:
            times.append(float(part))
        except ValueError:
            return ""
    if len(parts) < 3:
        return "; a field is missing"
    if min(times) < 0:
        return "; a time is at least 0"
    return "; these look like seconds: multiply them by the sample rate"


def _wrong_unit(rows: list[Row], samples: int, sample_rate: int) -> list[str]:
    """A sentence where all times are wrong by the factor of another unit or sample rate."""
    if not rows or samples < 1:
        return []
    where, _, end, _ = rows[-1]
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
