"""Label files of TIMIT: `.phn`, one `start end label` line for each phone, in samples.

It opens no audio: what it must know of it, the length and the rate, it is told. Other formats
have modules of their own.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from asr.errors import raise_problems
from asr.files import atomic_open, read_lines
from asr.phones import unknown_phone
from asr.records import Segment

# A label may end this far behind the audio: TIMIT's last labels overshoot by a few samples.
OVERSHOOT_SAMPLES = 160
RATES = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000)
EXPECTED = "expected `start end label` in samples"


def read_phn(
    path: str | Path, samples: int, sample_rate: int, known: frozenset[str]
) -> tuple[Segment, ...]:
    """Read `start end label` lines of audio of `samples`; all bad lines are in one `DataError`.

    Ends up to 160 samples behind the audio are moved to its end; labels may be in any letter case.
    Gaps are left as they are.
    """
    problems: list[str] = []
    rows: list[tuple[str, int, int, str]] = []
    for number, line in enumerate(read_lines(path), start=1):
        parts = line.split()
        if not parts:
            continue
        where = f"{path}:{number}"
        if len(parts) != 3 or not all(p.isascii() and p.isdecimal() for p in parts[:2]):
            problems.append(f"{where}: found {line.strip()!r}, {EXPECTED}{_remedy(parts)}")
            continue
        phone = sys.intern(parts[2].lower())
        if phone not in known:
            problems.append(f"{where}: {unknown_phone(phone, known, 'the TIMIT labels')}")
        rows.append((where, int(parts[0]), int(parts[1]), phone))
    if not rows and not problems:
        problems.append(f"{path}: no labels, {EXPECTED}, one line for each phone")
    elif rows and {phone for *_, phone in rows} == {"q"}:
        problems.append(f"{path}: no label but q, which scoring deletes; leave the file out")
    wrong = _wrong_unit(rows, samples, sample_rate)
    problems.extend([wrong] if wrong else _wrong_times(rows, samples))
    raise_problems(problems)
    return tuple(
        Segment(phone, start / sample_rate, min(end, samples) / sample_rate)
        for _, start, end, phone in rows
    )


def write_phn(path: str | Path, segments: Iterable[Segment], sample_rate: int) -> None:
    """Write `start end label` lines in samples."""
    with atomic_open(path) as file:
        for segment in segments:
            start, end = (round(time * sample_rate) for time in (segment.start_s, segment.end_s))
            file.write(f"{start} {end} {segment.phone}\n")


def _remedy(parts: list[str]) -> str:
    """What a line that is not `start end label` looks like."""
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
        return "; no time lies before 0"
    return "; these look like seconds: multiply them by the sample rate"


def _wrong_unit(
    rows: list[tuple[str, int, int, str]], samples: int, sample_rate: int
) -> str | None:
    """One sentence where all times are off by the same factor, as by another unit or rate."""
    if not rows or samples < 1:
        return None
    where, _, end, _ = rows[-1]
    factor = 10_000_000 / sample_rate  # samples to HTK's 100 ns
    if end > samples and abs(end / factor - samples) <= 0.1 * samples:
        return (
            f"{where}: label ends at {end}, the audio at sample {samples}: these are HTK's units "
            f"of 100 ns, expected samples; divide by {factor:g}"
        )
    for rate in RATES:
        if rate != sample_rate and abs(end * rate / sample_rate - samples) <= 0.01 * samples:
            return (
                f"{where}: label ends at sample {end}, the audio at {samples}: as if the audio "
                f"were sampled at {rate} Hz, where its header says {sample_rate} Hz; write the "
                f"audio anew, at {sample_rate} Hz"
            )
    return None


def _wrong_times(rows: list[tuple[str, int, int, str]], samples: int) -> list[str]:
    problems = []
    previous_end = 0
    for where, start, end, _ in rows:
        if end > samples + OVERSHOOT_SAMPLES:
            problems.append(
                f"{where}: label ends at sample {end}, the audio at {samples}; expected an end at "
                f"most {OVERSHOOT_SAMPLES} samples behind it"
            )
        elif start >= min(end, samples):
            problems.append(
                f"{where}: label starts at {start} and ends at {end}, expected an end behind the "
                f"start and a start within {samples} samples"
            )
        elif start < previous_end:
            problems.append(
                f"{where}: starts at {start}, before the last label's end {previous_end}; labels "
                f"follow each other in time"
            )
        previous_end = end
    return problems
