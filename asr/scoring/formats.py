"""Reading transcripts: our JSONL, sclite .trn, Kaldi text, ctm, folders of .phn or TextGrid.

The format is detected from the name and the first line unless it is given. Every error names file,
line, what was found and how to fix it.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from asr import labels
from asr.errors import DataError
from asr.files import read_lines
from asr.records import Hypothesis, Utterance, read_jsonl, stream_jsonl

FORMATS = ("jsonl", "trn", "text", "ctm", "phn", "textgrid")
PHN_SAMPLE_RATE = 16_000  # .phn files count samples and do not say of what

Lines = Iterator[tuple[int, str]]


class Transcript(NamedTuple):
    """The phones of one utterance on one side, and what else its file says about it.

    `times_s` are (start, end) of every phone in seconds. `line` is 0 where there is no file.
    """

    id: str
    phones: tuple[str, ...]
    line: int = 0
    times_s: tuple[tuple[float, float], ...] | None = None
    speaker: str | None = None
    sex: str | None = None
    dialect: str | None = None


@dataclass(frozen=True)
class Transcripts:
    """One side of a comparison: transcripts by id, in the order of their file."""

    path: str
    items: Mapping[str, Transcript]
    corpus: str = ""
    split: str = ""

    def where(self, transcript: Transcript) -> str:
        """`path:line` of a transcript."""
        return f"{self.path}:{transcript.line}" if transcript.line else self.path


def speaker_of(transcript: Transcript) -> str | None:
    """As its file says, or else its id before the first "-", or before the first "_"."""
    if transcript.speaker is not None:
        return transcript.speaker
    for separator in "-_":
        place = transcript.id.find(separator, 1)
        if place > 0:
            return transcript.id[:place]
    return None


def read_transcripts(
    path: str | Path, format_name: str | None = None, tier: str | None = None
) -> Transcripts:
    """Read one side of a comparison; without `format_name` the format is detected.

    `tier` is the name of the tier of phones of TextGrids.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    name = format_name or detect_format(path)
    if name not in FORMATS:
        raise DataError(f"unknown format {name!r}: known are {', '.join(FORMATS)}")
    if name in ("phn", "textgrid"):
        if not path.is_dir():
            raise DataError(f"{path}: expected a folder of .{name} files, found a file")
        return Transcripts(str(path), _keyed(path, _read_folder(path, name, tier)))
    if path.is_dir():
        raise DataError(f"{path}: expected a file of format {name}, found a folder")
    if name == "jsonl":
        return _read_jsonl(path)
    read = {"trn": _read_trn, "text": _read_text, "ctm": _read_ctm}[name]
    return Transcripts(str(path), _keyed(path, read(path, _lines(path))))


def detect_format(path: Path) -> str:
    """The format of a file or folder, by the ending of its name, or else by its first line."""
    if path.is_dir():
        kinds = {p.suffix.lower() for p in path.rglob("*")} & {".phn", ".textgrid"}
        if len(kinds) != 1:
            raise DataError(
                f"{path}: expected a folder of .phn or of .TextGrid files, found "
                f"{'both' if kinds else 'neither'}; name the format with --format"
            )
        return kinds.pop()[1:]
    by_suffix = {".jsonl": "jsonl", ".json": "jsonl", ".trn": "trn", ".ctm": "ctm"}
    if path.suffix.lower() in by_suffix:
        return by_suffix[path.suffix.lower()]
    for _, line in _lines(path):
        fields = line.split()
        if line.startswith("{"):
            return "jsonl"
        if re.search(r"\([^()\s]+\)\s*$", line):
            return "trn"
        if len(fields) in (5, 6) and _is_number(fields[2]) and _is_number(fields[3]):
            return "ctm"
        return "text"
    return "text"


def _keyed(path: Path, transcripts: Iterator[Transcript]) -> dict[str, Transcript]:
    items: dict[str, Transcript] = {}
    for transcript in transcripts:
        if transcript.id in items:
            raise DataError(
                f"{path}:{transcript.line}: duplicate id {transcript.id!r}, first in line "
                f"{items[transcript.id].line}; keep one of them"
            )
        items[transcript.id] = transcript
    return items


def _lines(path: Path) -> Lines:
    """Lines that are neither empty nor a `;;` comment, with their number."""
    for number, line in enumerate(read_lines(path), start=1):
        if line and not line.isspace() and not line.startswith(";;"):
            yield number, line


def _read_jsonl(path: Path) -> Transcripts:
    first = next((line for _, line in _lines(path)), "")
    if not re.search(r'"audio"\s*:', first):
        hypotheses = enumerate(stream_jsonl(path, Hypothesis), start=1)
        read = (Transcript(one.id, one.phones, number) for number, one in hypotheses)
        return Transcripts(str(path), dict(_checked(path, read)))
    utterances = read_jsonl(path, Utterance)
    corpora, splits = (
        "+".join(sorted({getattr(one, key) for one in utterances} - {""}))
        for key in ("corpus", "split")
    )
    read = (_from_manifest(one, number) for number, one in enumerate(utterances, start=1))
    return Transcripts(str(path), dict(_checked(path, read)), corpora, splits)


def _from_manifest(utterance: Utterance, line: int) -> Transcript:
    segments = utterance.segments
    times = None
    if segments is not None and len(segments) == len(utterance.phones):
        times = tuple((segment.start_s, segment.end_s) for segment in segments)
    about = utterance.speaker or None, utterance.sex, utterance.dialect
    return Transcript(utterance.id, utterance.phones, line, times, *about)


def _checked(path: Path, transcripts: Iterator[Transcript]) -> Iterator[tuple[str, Transcript]]:
    # A string is a sequence of strings too: "aa b" would be read as the phones a, a, space, b.
    for transcript in transcripts:
        where = f"{path}:{transcript.line}"
        if not (isinstance(transcript.id, str) and transcript.id):
            raise DataError(f"{where}: expected a string as id, found {transcript.id!r}")
        odd = [p for p in transcript.phones if not isinstance(p, str) or not p or p.isspace()]
        if odd:
            raise DataError(f"{where}: expected phones as a list of strings, found {odd[0]!r}")
        yield transcript.id, transcript


def _read_trn(path: Path, lines: Lines) -> Iterator[Transcript]:
    for number, line in lines:
        text, parenthesis, id_and_end = line.rpartition("(")
        id_, closed, rest = id_and_end.partition(")")
        if not (parenthesis and closed and id_.strip()) or rest.strip():
            raise DataError(
                f"{path}:{number}: expected `phone phone (utterance-id)`, found {_shown(line)}"
            )
        phones = _phones(text.split())
        if "{" in line and "{" in phones:
            raise DataError(
                f"{path}:{number}: alternatives {{ a / b }} are not scored; "
                f"keep the one that was spoken"
            )
        yield Transcript(id_.strip(), phones, number)


def _read_text(path: Path, lines: Lines) -> Iterator[Transcript]:
    for number, line in lines:
        if line[0].isspace():
            raise DataError(
                f"{path}:{number}: expected `utterance-id phone phone`, "
                f"found a line that begins with space: {_shown(line)}"
            )
        id_, *phones = line.split()
        yield Transcript(id_, _phones(phones), number)


def _phones(words: Iterable[str]) -> tuple[str, ...]:
    """One string for all occurrences of a phone: millions of them would need 50 bytes each."""
    return tuple(map(sys.intern, words))


def _read_ctm(path: Path, lines: Lines) -> Iterator[Transcript]:
    by_id: dict[str, list[tuple[float, float, str]]] = {}
    first_line: dict[str, int] = {}
    for number, line in lines:
        fields = line.split()
        if len(fields) not in (5, 6) or not (_is_number(fields[2]) and _is_number(fields[3])):
            raise DataError(
                f"{path}:{number}: expected `utterance-id channel start duration phone`, "
                f"found {_shown(line)}"
            )
        id_, start, duration = fields[0], float(fields[2]), float(fields[3])
        first_line.setdefault(id_, number)
        by_id.setdefault(id_, []).append((start, start + duration, fields[4]))
    for id_, timed in by_id.items():
        timed.sort(key=lambda entry: entry[0])
        phones = _phones(phone for _, _, phone in timed)
        times = tuple((start, end) for start, end, _ in timed)
        yield Transcript(id_, phones, first_line[id_], times)


def _read_folder(root: Path, kind: str, tier: str | None) -> Iterator[Transcript]:
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() != f".{kind}" or path.name.startswith("."):
            continue
        segments = labels.read(path, PHN_SAMPLE_RATE, tier)
        id_, speaker = _id_from_path(root, path, kind)
        phones = _phones(segment.phone for segment in segments)
        times = tuple((segment.start_s, segment.end_s) for segment in segments)
        yield Transcript(id_, phones, 0, times, speaker)


def _id_from_path(root: Path, path: Path, kind: str) -> tuple[str, str | None]:
    """Id and speaker: `DR1/FCJF0/SI648.PHN` is fcjf0_si648, as in our manifests; else the stem."""
    stem = path.stem.lower() if kind == "phn" else path.stem
    if path.parent == root:
        return stem, None
    folder = path.parent.name.lower() if kind == "phn" else path.parent.name
    speaker = re.sub(r"^dr\d-", "", folder)
    return (stem if stem.startswith(speaker) else f"{speaker}_{stem}"), speaker


def _is_number(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False


def _shown(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:57] + "…")


def pair(
    references: Transcripts, hypotheses: Transcripts, missing: str = "error"
) -> tuple[Transcripts, int]:
    """The hypotheses in the order of the references, and how many were missing.

    A hypothesis without reference is an error; so is a reference without hypothesis, unless
    `missing` is "delete", which gives it an empty hypothesis.
    """
    extra = [t for id_, t in hypotheses.items.items() if id_ not in references.items]
    absent = [t for id_, t in references.items.items() if id_ not in hypotheses.items]
    if not extra and (not absent or missing == "delete"):
        items = {id_: hypotheses.items.get(id_, Transcript(id_, ())) for id_ in references.items}
        return replace(hypotheses, items=items), len(absent)
    lowered = {id_.lower(): id_ for id_ in references.items}
    problems = []
    for t in extra[:10]:
        like = lowered.get(t.id.lower())
        hint = f"; the reference has {like!r}: fix the letter case" if like else ""
        problems.append(f"{hypotheses.where(t)}: id {t.id!r} is not in {references.path}{hint}")
    if len(extra) > 10:
        problems.append(f"… and {len(extra) - 10} more ids that are not in the reference")
    if absent:
        named = ", ".join([*(repr(t.id) for t in absent[:5]), *["…"] * (len(absent) > 5)])
        problems.append(
            f"{hypotheses.path}: no hypothesis for {len(absent)} of {len(references.items)} "
            f"utterances of {references.path}: {named} ({references.where(absent[0])}); "
            f"add them, or count them as deletions with --missing delete"
        )
    raise DataError("\n".join(problems))
