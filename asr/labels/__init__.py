"""Label files: phones with their times, as TIMIT's `.phn`, Praat's TextGrid or HTK's `.lab`.

Nothing here opens audio: its number of samples and sample rate are arguments.
"""

import math
import os
import re
import unicodedata
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from asr.errors import DataError, raise_problems
from asr.files import read_lines
from asr.files.outputs import atomic_open
from asr.labels import lab, phn, textgrid
from asr.labels.checks import OVERSHOOT_S, Row, checked, unknown_phones, wrong_times
from asr.records import Segment

ENDINGS = (".phn", ".textgrid", ".lab")
TEXTS = (".txt", ".lab")  # endings of transcripts
TIMED = (".phn", ".wrd", ".textgrid", ".ctm")  # and of files that are none


def read(
    path: str | Path, sample_rate: int = 16_000, tier: str | None = None
) -> tuple[Segment, ...]:
    """The segments as the file has them; `.phn` counts samples of `sample_rate`.

    `tier` is the name of a TextGrid's tier. Gaps between segments stay gaps. Raises one
    `DataError` for all that is not in the format of the file, and for times out of order.
    """
    rows, problems = _rows(Path(path), tier)
    return _segments(Path(path), rows, problems, None, sample_rate)


def phones(path: str | Path, tier: str | None = None) -> tuple[str, ...]:
    """The phones alone, of `.phn` in lower case; raises as `read`, but not for times."""
    rows, problems = _rows(Path(path), tier)
    raise_problems(problems)
    return tuple(row.phone for row in _lowered(Path(path), rows))


def read_checked(
    path: str | Path,
    samples: int,
    sample_rate: int,
    phones: Collection[str] | None = None,
    set_name: str = "",
    tier: str | None = None,
) -> tuple[Segment, ...]:
    """The segments of audio of `samples`; every fault of times and phones is in one `DataError`.

    The last label is cut at the end of the audio, and `.phn` labels come in lower case. `phones`
    is the phone set, called `set_name` in messages; None accepts every phone.
    """
    path = Path(path)
    rows, problems = _rows(path, tier)
    rows = _lowered(path, rows)
    problems += unknown_phones(rows, phones, set_name)
    if not rows and not problems:
        problems.append(f"{path}: no labels, expected at least one")
    elif _is_phn(path) and {row.phone for row in rows} == {"q"}:
        problems.append(f"{path}: no label but q, which scoring deletes; leave the file out")
    return _segments(path, rows, problems, samples, sample_rate)


def write(path: str | Path, segments: Sequence[Segment], samples: int, sample_rate: int) -> None:
    """Write the segments of audio of `samples`, as `.phn` or else as TextGrid.

    Raises `DataError`, and writes nothing, where `read_checked` would refuse the file.
    """
    path, duration_s = Path(path), samples / sample_rate
    segments = checked(str(path), segments, duration_s)
    if _is_phn(path):
        text = phn.text_of(path, segments, samples, sample_rate)
    else:
        text = textgrid.text_of({"phones": segments}, duration_s)
    with atomic_open(path) as file:
        file.write(text)


def _is_phn(path: Path) -> bool:
    return path.suffix.lower() == ".phn"


def _rows(path: Path, tier: str | None) -> tuple[list[Row], list[str]]:
    """The labels of a file with times in its unit, and a sentence for each bad one."""
    if path.suffix.lower() == ".textgrid":
        return textgrid.rows(path, tier)
    if path.suffix.lower() in ENDINGS:
        return phn.rows(path) if _is_phn(path) else lab.rows(path)
    raise DataError(f"{path}: expected a name that ends in {', '.join(ENDINGS)}")


def _lowered(path: Path, rows: list[Row]) -> list[Row]:
    return [row._replace(phone=row.phone.lower()) for row in rows] if _is_phn(path) else rows


def _segments(
    path: Path, rows: list[Row], problems: list[str], samples: int | None, sample_rate: int
) -> tuple[Segment, ...]:
    """Rows as segments with times in seconds; raises `problems` and what is wrong with times."""
    per_second, overshoot, unit = 1, OVERSHOOT_S, "s"
    wrong: list[str] = []
    if _is_phn(path):
        per_second, overshoot, unit = sample_rate, phn.OVERSHOOT_SAMPLES, "samples"
        wrong = phn.wrong_unit(rows, samples or 0, sample_rate)
    elif path.suffix.lower() == ".lab":
        rows, wrong = lab.in_seconds(rows, samples, sample_rate)
    end = math.inf if samples is None else samples * per_second / sample_rate
    raise_problems([*problems, *(wrong or wrong_times(rows, end, overshoot, unit))])
    return tuple(
        Segment(row.phone, row.start / per_second, min(row.end, end) / per_second) for row in rows
    )


def stem(path: str | Path) -> str:
    """The name without its ending, NFC: `SA1` of `SA1.PHN`, `SA1.WAV` and `SA1.WAV.wav`."""
    stem = unicodedata.normalize("NFC", Path(path).stem)
    return stem[:-4] if stem.lower().endswith(".wav") else stem


def words_beside(audio: str | Path) -> str:
    """The `words` of the `.txt` file of an audio file, in any letter case; "": there is none."""
    for path in named_alike(Path(audio), [".txt"]):
        with suppress(DataError):
            return words(path)
    return ""


def is_transcript(text: str) -> bool:
    """Whether a text is the name of a file; `DataError` where it only looks like one."""
    if os.path.isfile(text):
        return True
    if " " not in text and text.lower().endswith((*TEXTS, *TIMED)):
        raise DataError(f"{text}: no such file; give the text itself in quotes, or its file")
    return False


def transcript(path: str | Path) -> str:
    """What is said, of a file of text; `DataError` for an empty one, or labels with times."""
    path = Path(path)
    if path.suffix.lower() in TIMED or (path.suffix.lower() == ".lab" and not lab.is_text(path)):
        raise DataError(
            f"{path}: expected words without times; write what is said into a .txt file. To align "
            f"the phones of label files again, make a manifest of them: asr prepare "
            f"experiment=folder corpus.root=FOLDER"
        )
    if not (text := words(path)):
        raise DataError(f"{path}: no words, expected what is said in the recording")
    return text


def words(path: str | Path) -> str:
    """The text of a file, without TIMIT's numbers of the first and last sample before it."""
    text = " ".join(" ".join(read_lines(path, utf16=True)).split())
    return re.sub(r"^0 \d{3,} ", "", text)


def beside(audio: str | Path) -> Path | None:
    """The label file in the folder of an audio file with its name, in any letter case.

    Raises `DataError` where there are several.
    """
    paths = named_alike(Path(audio), ENDINGS)
    if len(paths) > 1:
        raise DataError(f"{audio}: ambiguous, keep one of {', '.join(map(str, paths))}")
    return paths[0] if paths else None


def named_alike(audio: Path, endings: Collection[str]) -> list[Path]:
    """The files in the folder of an audio file with its name and one of the endings, any case."""
    return [
        path
        for path in sorted(audio.parent.glob("*"))
        if path.suffix.lower() in endings and stem(path).lower() == stem(audio).lower()
    ]
