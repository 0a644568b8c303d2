"""Reading transcripts: files of all formats of `FORMATS`, and folders.

The format is detected from the name and the first line unless it is given. Every error names file,
line, what was found and how to fix it.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from asr import labels
from asr.errors import DataError
from asr.files import read_blocks
from asr.files.decoding import decode
from asr.records import Hypothesis, Utterance
from asr.scoring import text
from asr.scoring.text import Lines
from asr.scoring.transcripts import Transcript, Transcripts, keyed

PHN_SAMPLE_RATE = 16_000  # .phn files count samples and do not say of what
FOLDERS = {".phn": "phn", ".textgrid": "textgrid", ".json": "jsonl", ".txt": "text"}
OTHERS = {  # that are known, and not read
    ".rttm": "speakers without phones",
    ".eaf": "annotations of ELAN; export them as TextGrid",
    ".lab": "HTK's labels of one file; give a master label file (#!MLF!#), or TextGrids",
}
NUMBER = re.compile(r"[-+]?\d*\.?\d+(e[-+]?\d+)?|nan|inf", re.I)


@dataclass(frozen=True)
class Phone:
    """A phone of `Transcribed`."""

    phone: str
    start_s: float
    end_s: float
    confidence: float | None = None


@dataclass(frozen=True)
class Spoken:
    """A word of `Transcribed`."""

    word: str
    start_s: float
    end_s: float
    confidence: float
    phones: tuple[str, ...]


@dataclass(frozen=True)
class Transcribed:
    """A recording as `asr transcribe --format json` writes it."""

    file: str
    phones: tuple[Phone, ...]
    duration_s: float | None = None
    words: tuple[Spoken, ...] | None = None


def read_transcripts(
    path: str | Path, format_name: str | None = None, tier: str | None = None
) -> Transcripts:
    """Read one side of a comparison; without `format_name` the format is detected.

    `tier` is the name of the tier of phones of TextGrids; `path` "-" is standard input.
    """
    if format_name not in (None, *FORMATS):
        raise DataError(f"unknown format {format_name!r}: known are {', '.join(FORMATS)}")
    file = Path("/dev/stdin" if str(path) == "-" else path)
    if not file.exists():
        raise DataError(f"{path}: no such file or folder")
    read = _read_folder if file.is_dir() else _read_file
    items = keyed(str(path), read(file, format_name, tier))
    corpora = {one.corpus for one in items.values()} - {""}
    splits = {one.split for one in items.values()} - {""}
    return Transcripts(str(path), items, "+".join(sorted(corpora)), "+".join(sorted(splits)))


def _read_file(path: Path, name: str | None, tier: str | None) -> Iterator[Transcript]:
    ending = path.suffix.lower()
    if name is None and ending in OTHERS:
        raise DataError(f"{path}: {ending} is {OTHERS[ending]}; read are {', '.join(FORMATS)}")
    if name is None and ending[1:] in (*FORMATS, "json"):
        name = "jsonl" if ending == ".json" else ending[1:]
    if name in ("phn", "textgrid"):
        yield _read_labels(path, name, tier)
        return
    blocks = read_blocks(path, "lines of text or JSON text")
    every = (line for block in blocks for line in block.removesuffix("\n").split("\n"))
    lines = (  # read once: it may be a pipe
        (number, line)
        for number, line in enumerate(every, start=1)
        if line and not line.isspace() and not line.startswith(";;")
    )
    for first in lines:
        yield from READERS[name or _format_of(first[1])](str(path), chain([first], lines))


def _format_of(line: str) -> str:
    """The format by the first line."""
    fields = line.split()
    numbers = {n for n, field in enumerate(fields[:5]) if NUMBER.fullmatch(field)}
    if line.lstrip().startswith(("{", "[")):
        return "jsonl"
    if line.startswith("#!MLF!#"):
        return "mlf"
    if re.search(r"\([^()]+\)\s*$", line):
        return "trn"
    if {3, 4} <= numbers and (2 not in numbers or len(fields) > 6 or fields[-1][0] == "<"):
        return "stm"
    if {2, 3} <= numbers and len(fields) > 4 and not (fields[2] + fields[3]).isdecimal():
        return "ctm"
    return "text"


def _read_json(path: str, lines: Lines) -> Iterator[Transcript]:
    """Manifests, hypotheses, or what `asr transcribe` writes."""
    keys: set[str] | None = None  # of the first object
    for number, value in _objects(lines):
        if keys is None:
            with suppress(ValueError, RecursionError):
                first = json.loads(value)
                keys = {*first} if isinstance(first, dict) else None
            keys = keys or {"id"}
        where = f"{path}:{number}"
        if "audio" in keys:
            yield _from_manifest(decode(value, Utterance, where).checked(where), number)
        elif "file" in keys and "id" not in keys:
            yield _from_transcribed(decode(value, Transcribed, where), where, number)
        else:
            one = decode(value, Hypothesis, where).checked(where)
            yield Transcript(one.id, one.phones, number, words=_words(one.words))


def _objects(lines: Lines) -> Iterator[tuple[int, str]]:
    """JSON values and their lines: one a line, or over several lines, in a list or without."""
    first = next(lines)
    with suppress(ValueError, RecursionError):
        if isinstance(json.loads(first[1]), dict):
            yield first
            yield from lines
            return
    rest = [first, *lines]
    document, between, at, line = "\n".join(line for _, line in rest), r"\s*", 0, 0
    with suppress(ValueError, RecursionError):
        if isinstance(json.loads(document), list):
            between = r"[\s,\[\]]*"
    while True:
        gap = re.compile(between).match(document, at)
        start = gap.end() if gap else at
        if start == len(document):
            return
        line += document.count("\n", at, start)
        try:
            _, at = json.JSONDecoder().raw_decode(document, start)
        except (ValueError, RecursionError):
            at = len(document)
        yield rest[line][0], document[start:at]
        line += document.count("\n", start, at)


def _words(words: Sequence[tuple[str, int]] | None) -> str | None:
    return None if words is None else " ".join(word for word, _ in words).lower()


def _from_transcribed(one: Transcribed, where: str, line: int) -> Transcript:
    times = tuple((phone.start_s, phone.end_s) for phone in one.phones)
    for start_s, end_s in times:
        if not 0 <= start_s <= end_s:
            raise DataError(f"{where}: a phone starts at {start_s:g} s, expected 0 to its end_s")
    phones = tuple(one.phone for one in one.phones)
    words = None if one.words is None else _words([(word.word, 0) for word in one.words])
    return Transcript("", phones, line, times, file=one.file, words=words)


def _from_manifest(one: Utterance, line: int) -> Transcript:
    times = None
    if one.segments is not None:
        times = tuple((segment.start_s, segment.end_s) for segment in one.segments)
    words = None if one.words is None else one.words.lower()
    about = {key: getattr(one, key) for key in ("sex", "dialect", "corpus", "split")}
    return Transcript(one.id, one.phones, line, times, one.speaker or None, words=words, **about)


def _read_folder(root: Path, name: str | None, tier: str | None) -> Iterator[Transcript]:
    paths: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in FOLDERS and path.name[0] != ".":
            paths.setdefault(FOLDERS[path.suffix.lower()], []).append(path)
    if name is None:
        labelled = paths.keys() & {"phn", "textgrid"}
        kinds = labelled or paths.keys() & {"jsonl"} or [*paths]
        if len(kinds) != 1:
            raise DataError(
                f"{root}: expected a folder of .phn or of .TextGrid files, or of the .json or "
                f".txt files of `asr transcribe`, found "
                + ("both .phn and .TextGrid; name the format with --format" if kinds else "neither")
            )
        (name,) = kinds
    if name not in paths:
        raise DataError(f"{root}: expected a file of format {name}, found a folder without any")
    for path in paths[name]:
        if name in ("phn", "textgrid"):
            yield _read_labels(path, name, tier, root)
            continue
        for one in _read_file(path, name, tier):
            if not one.file:
                raise DataError(f"{path}: expected a file of `asr transcribe`")
            yield one._replace(line=0)


def _read_labels(path: Path, kind: str, tier: str | None, root: Path | None = None) -> Transcript:
    """`DR1/FCJF0/SI648.PHN` is fcjf0_si648, as in our manifests; else the id is the stem."""
    segments = labels.read(path, PHN_SAMPLE_RATE, tier)
    id_, folder, speaker = path.stem, path.parent.name, None
    if kind == "phn":
        id_, folder = id_.lower(), folder.lower()
    if root not in (None, path.parent):
        speaker = re.sub(r"^dr\d-", "", folder)
        id_ = id_ if id_.startswith(speaker) else f"{speaker}_{id_}"
    phones = tuple(segment.phone for segment in segments)
    times = tuple((segment.start_s, segment.end_s) for segment in segments)
    return Transcript(id_, phones, 0, times, speaker, file=str(path))


READERS = {
    "jsonl": _read_json,
    "trn": text.read_trn,
    "text": text.read_text,
    "ctm": text.read_ctm,
    "stm": text.read_stm,
    "mlf": text.read_mlf,
}
FORMATS = (*READERS, "phn", "textgrid")
