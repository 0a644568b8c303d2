"""Reading transcripts: files of all formats of `FORMATS`, and folders.

The format is detected from the name and the first line unless it is given. Every error names file,
line, what was found and how to fix it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asr import labels
from asr.errors import DataError, raise_problems
from asr.files import read_lines
from asr.files.decoding import decode
from asr.records import Hypothesis, Utterance, read_jsonl, stream_jsonl
from asr.scoring import timed
from asr.scoring.timed import Lines, refuse_alternatives, shown
from asr.scoring.transcripts import Transcript, Transcripts, keyed, named_by_file

FORMATS = ("jsonl", "trn", "text", "ctm", "stm", "mlf", "phn", "textgrid")
PHN_SAMPLE_RATE = 16_000  # .phn files count samples and do not say of what
FOLDERS = {".phn": "phn", ".textgrid": "textgrid", ".json": "jsonl", ".txt": "text"}
OTHERS = {  # that are known, and not read
    ".rttm": "speakers without phones",
    ".eaf": "annotations of ELAN; export them as TextGrid",
    ".srt": "subtitles",
    ".vtt": "subtitles",
    ".lab": "HTK's labels of one file; give a master label file (#!MLF!#), or TextGrids",
    ".lat": "a lattice",
    ".slf": "a lattice",
}
TRANSCRIBED = re.compile(r"# (.+), (\d+\.\d\d) s:(.*)")  # the first line of `asr transcribe`


@dataclass(frozen=True)
class Phone:
    """A phone of `Transcribed`."""

    phone: str
    start_s: float
    end_s: float
    confidence: float | None = None


@dataclass(frozen=True)
class Transcribed:
    """A recording as `asr transcribe --format json` writes it."""

    file: str
    phones: tuple[Phone, ...]
    duration_s: float | None = None


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
    if path.is_dir():
        if name not in FOLDERS.values():
            raise DataError(f"{path}: expected a file of format {name}, found a folder")
        return Transcripts(str(path), keyed(str(path), _read_folder(path, name, tier)))
    if name in ("phn", "textgrid"):
        raise DataError(f"{path}: expected a folder of .{name} files, found a file")
    if name == "jsonl":
        return _read_json(path)
    if name == "stm":
        return timed.read_stm(str(path), _lines(path))
    read = {"trn": _read_trn, "text": _read_text, "ctm": timed.read_ctm, "mlf": timed.read_mlf}
    transcripts = read[name](str(path), _lines(path))
    if name == "mlf" or (name == "text" and _is_transcribed(path)):
        transcripts = iter(named_by_file(transcripts))
    return Transcripts(str(path), keyed(str(path), transcripts))


def detect_format(path: Path) -> str:
    """The format of a file or folder, by the ending of its name, or else by its first line."""
    if path.is_dir():
        endings = {p.suffix.lower() for p in path.rglob("*") if not p.name.startswith(".")}
        kinds = endings & {".phn", ".textgrid"} or endings & {".json"} or endings & {".txt"}
        if len(kinds) != 1:
            raise DataError(
                f"{path}: expected a folder of .phn or of .TextGrid files, or of the .json or "
                f".txt files of `asr transcribe`, found "
                + ("both .phn and .TextGrid; name the format with --format" if kinds else "neither")
            )
        return FOLDERS[kinds.pop()]
    ending = path.suffix.lower()
    if ending in OTHERS:
        raise DataError(f"{path}: {ending} is {OTHERS[ending]}; read are {', '.join(FORMATS)}")
    if ending in (".jsonl", ".json"):
        return "jsonl"
    if ending[1:] in ("trn", "ctm", "stm", "mlf"):
        return ending[1:]
    for _, line in _lines(path):
        fields = line.split()
        numbers = {n for n, field in enumerate(fields[:5]) if _is_number(field)}
        if line.startswith(("{", "[")):
            return "jsonl"
        if line.startswith("#!MLF!#"):
            return "mlf"
        if re.search(r"\([^()]+\)\s*$", line):
            return "trn"
        if {3, 4} <= numbers and (2 not in numbers or (fields[5:] and fields[5][0] == "<")):
            return "stm"
        if {2, 3} <= numbers and len(fields) > 4 and not (fields[2] + fields[3]).isdecimal():
            return "ctm"
        return "text"
    return "text"


def _lines(path: Path) -> Lines:
    """Lines that are neither empty nor a `;;` comment, with their number."""
    for number, line in enumerate(read_lines(path), start=1):
        if line and not line.isspace() and not line.startswith(";;"):
            yield number, line


def _is_transcribed(path: Path) -> bool:
    """Whether `asr transcribe` wrote the file."""
    line = next((line for _, line in _lines(path)), "")
    in_json = re.match(r'[\[{]\s*$|(?!.*"(id|audio)"\s*:).*"file"\s*:', line)
    return bool(TRANSCRIBED.fullmatch(line) or in_json)


def _read_json(path: Path) -> Transcripts:
    if _is_transcribed(path):
        return Transcripts(str(path), keyed(str(path), named_by_file(_read_transcribed(path))))
    first = next((line for _, line in _lines(path)), "")
    if not re.search(r'"audio"\s*:', first):
        hypotheses = enumerate(stream_jsonl(path, Hypothesis), start=1)
        read = (Transcript(one.id, one.phones, number) for number, one in hypotheses)
        return Transcripts(str(path), keyed(str(path), read))
    utterances = read_jsonl(path, Utterance)
    corpora, splits = (
        "+".join(sorted({getattr(one, key) for one in utterances} - {""}))
        for key in ("corpus", "split")
    )
    read = (_from_manifest(one, number) for number, one in enumerate(utterances, start=1))
    return Transcripts(str(path), keyed(str(path), read), corpora, splits)


def _read_transcribed(path: Path) -> Iterator[Transcript]:
    """A JSON object a line, or objects over several lines, or a list of them."""
    line = 1
    for text in re.split(r"(?<=\})\n(?=\{)", "\n".join(read_lines(path)).strip()):
        where = f"{path}:{line}"
        if text.startswith("["):
            every = decode(text, list[Transcribed], where)
        else:
            every = [decode(text, Transcribed, where)]
        for one in every:
            times = tuple((segment.start_s, segment.end_s) for segment in one.phones)
            wrong = next((start for start, end in times if not 0 <= start <= end), None)
            if wrong is not None:
                raise DataError(f"{where}: a phone starts at {wrong:g} s, expected 0 to its end_s")
            phones = tuple(segment.phone for segment in one.phones)
            yield Transcript("", phones, line, times, file=one.file)
        line += text.count("\n") + 1


def _from_manifest(utterance: Utterance, line: int) -> Transcript:
    segments = utterance.segments
    times = None
    if segments is not None and len(segments) == len(utterance.phones):
        times = tuple((segment.start_s, segment.end_s) for segment in segments)
    about = utterance.speaker or None, utterance.sex, utterance.dialect
    return Transcript(utterance.id, utterance.phones, line, times, *about)


def _read_trn(path: str, lines: Lines) -> Iterator[Transcript]:
    for number, line in lines:
        text, parenthesis, id_and_end = line.rpartition("(")
        id_, closed, rest = id_and_end.partition(")")
        if not (parenthesis and closed and id_.strip()) or rest.strip():
            raise DataError(
                f"{path}:{number}: expected `phone phone (utterance-id)`, found {shown(line)}"
            )
        phones = tuple(text.split())
        if "{" in line:
            refuse_alternatives(phones, f"{path}:{number}")
        yield Transcript(id_.strip(), phones, number)


def _read_text(path: str, lines: Lines) -> Iterator[Transcript]:
    """Kaldi's `id phone phone`, or `# file, seconds s: phone phone` and a line for each phone."""
    file = ""
    for number, line in lines:
        if file and line[0].isspace():
            continue  # the times of a phone of the line above
        if transcribed := TRANSCRIBED.fullmatch(line):
            file = transcribed[1]
            yield Transcript("", tuple(transcribed[3].split()), number, file=file)
            continue
        if line[0].isspace():
            raise DataError(
                f"{path}:{number}: expected `utterance-id phone phone`, "
                f"found a line that begins with space: {shown(line)}"
            )
        id_, *phones = line.split()
        yield Transcript(id_, tuple(phones), number)


def _read_folder(root: Path, kind: str, tier: str | None) -> Iterator[Transcript]:
    (ending,) = (ending for ending, name in FOLDERS.items() if name == kind)
    paths = [p for p in sorted(root.rglob("*")) if p.suffix.lower() == ending and p.name[0] != "."]
    if kind in ("jsonl", "text"):
        others = [path for path in paths if not _is_transcribed(path)]
        raise_problems(f"{path}: expected a file of `asr transcribe`" for path in others[:3])
        read = [one for path in paths for one in read_transcripts(path, kind).items.values()]
        yield from (one._replace(line=0) for one in named_by_file(read))
        return
    for path in paths:
        segments = labels.read(path, PHN_SAMPLE_RATE, tier)
        id_, speaker = _id_from_path(root, path, kind)
        phones = tuple(segment.phone for segment in segments)
        times = tuple((segment.start_s, segment.end_s) for segment in segments)
        yield Transcript(id_, phones, 0, times, speaker, file=str(path))


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
        float(text)
    except ValueError:
        return False
    return True
