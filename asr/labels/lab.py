"""HTK's `.lab`: one `start end label` line for each phone, in 100 ns or in seconds."""

from pathlib import Path

from asr.errors import DataError
from asr.files import read_lines
from asr.records import Segment

UNIT_S = 1e-7  # HTK counts 100 ns


def read(path: Path, sample_rate: int) -> tuple[Segment, ...]:
    """The segments; times are in 100 ns or, where one of them has a point, in seconds."""
    lines = enumerate(read_lines(path), start=1)
    rows = [(number, line.split()) for number, line in lines if line.strip()]
    in_seconds = any("." in field for _, row in rows for field in row[:2])
    unit_s = 1.0 if in_seconds else UNIT_S
    segments = []
    for number, row in rows:
        try:
            segments.append(Segment(row[2], float(row[0]) * unit_s, float(row[1]) * unit_s))
        except (IndexError, ValueError):
            raise DataError(
                f"{path}:{number}: found {' '.join(row)!r}, expected `start end label` with times "
                f"in 100 ns (HTK) or in seconds"
            ) from None
    return tuple(segments)


def is_text(path: str | Path) -> bool:
    """Whether a file has words and no line that begins with a time, as aligners' users write it."""
    lines = [line.split() for line in read_lines(path)]
    return any(lines) and not any(row[0][0] in "0123456789.+-" for row in lines if row)
