"""Recordings and what is said in them, as a command line names them.

a.wav "she had your dark suit"      a recording and its text
a.wav a.txt                         or a file of it
a.wav b.wav                         texts beside the recordings: a.txt or a.lab
FOLDER                              such pairs, in the whole tree; LibriSpeech's and Kaldi's too
table.tsv, table.csv                columns of recordings and of texts, named in the first line,
                                    with tabs, commas or semicolons between them
manifest.jsonl                      words, or else phones
"""

import argparse
import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from asr import audio, labels
from asr.audio.kinds import CONVERTED_ENDINGS
from asr.commands.recordings import add_root
from asr.corpora import kaldi
from asr.corpora.lexicon import Said
from asr.corpora.spoken import Pronouncer
from asr.errors import DataError, raise_problems
from asr.files import read_lines, read_table
from asr.files.walking import walk
from asr.labels import lab
from asr.records import Manifest, Utterance

AUDIO = (*audio.ENDINGS, *CONVERTED_ENDINGS)
TABLES = (".tsv", ".csv")
SEPARATORS = (",", ";", "\t")  # of tables: the one with which the first line names both columns
RECORDINGS = ("recording", "audio", "path", "file", "filename", "file_name", "wav", "audio_path")
SPOKEN = ("text", "sentence", "transcript", "transcription", "words", "raw_text", "normalized_text")


@dataclass(frozen=True)
class Pair:
    """A recording, and what is said in it: words, phones, or both."""

    name: Path  # of its results, without ending, below the folder that they are written to
    audio: str
    text: str | None
    place: str  # file and line of the text, or the recording
    phones: tuple[str, ...] = ()
    utterance: Utterance | None = None  # of a manifest

    @property
    def id(self) -> str:
        """Of a manifest, or else the name of the results, in one word."""
        return self.utterance.id if self.utterance else "_".join("_".join(self.name.parts).split())

    def uses_words(self, needed: bool = True) -> bool:
        """Whether words are read: where there are no phones, or words are needed."""
        return self.text is not None and (needed or not self.phones)

    def said(self, pronouncer: Pronouncer, words: bool = True) -> tuple[Said, ...]:
        """The words as `uses_words` says, or else each phone as if it were a word.

        Raises `DataError`, which names the place, for what cannot be read.
        """
        if self.text is None or not self.uses_words(words):
            return tuple(Said(phone, ((phone,),)) for phone in self.phones)
        try:
            return pronouncer.said(self.text)
        except DataError as error:
            place = f"{self.place}: "
            raise DataError(f"{place}{error}", [place + one for one in error.problems]) from error


@dataclass
class Pairs:
    """All pairs, a sentence for each recording that has no text, and one for each text without."""

    pairs: list[Pair] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def inputs(self) -> list[str]:
        """All files that are read, by name."""
        return [path for one in self.pairs for path in (one.audio, one.place)]


def flags() -> argparse.ArgumentParser:
    """A parent parser: recordings with their texts, how words are pronounced, and what is read."""
    parser = argparse.ArgumentParser(add_help=False)
    add = parser.add_argument
    a_source = "a recording and its text, in quotes or a file; a folder, table or manifest of them"
    add("source", nargs="+", help=a_source)
    add("--lexicon", type=Path, metavar="FILE", help="of words; default: the packaged CMUdict")
    g2p = "of words outside the lexicon; none: an error"
    add("--g2p", choices=("espeak", "none"), default="espeak", help=g2p)
    add("--channel", type=int, metavar="N", help="read only this channel, 1 is the first")
    add_root(parser, "a manifest's audio")
    add("--overwrite", action="store_true", help="replace files that are already there")
    add("--device", default="auto", help="cpu, cuda or cuda:N; default: cuda where there is one")
    return parser


def pairs(paths: Sequence[str | Path], root: str = "") -> Pairs:
    """What the arguments name; `root` is where the audio of a manifest has moved to.

    Raises `DataError` where there is no pair at all.
    """
    result = Pairs()
    if len(paths) == 2 and not _is_source(paths[1]):
        recording, text = Path(paths[0]), str(paths[1])
        if recording.is_dir():
            raise DataError(
                f"{recording}: is a folder, expected a recording before {text!r}; for a folder of "
                f"pairs give the folder alone, and its results as --output"
            )
        is_file = labels.is_transcript(text)
        place, text = (text, labels.transcript(text)) if is_file else (str(recording), text)
        result.pairs.append(Pair(Path(labels.stem(recording)), str(paths[0]), text, place))
        return result
    for path in map(Path, paths):
        if path.is_dir():
            _add_folder(path, result)
        elif path.suffix.lower() == ".jsonl":
            result.pairs += map(_of_utterance, Manifest(path, root))
        elif path.suffix.lower() in TABLES:
            _add_table(path, result)
        elif not path.is_file() or path.suffix.lower() in (*labels.TEXTS, *labels.TIMED):
            kind = "is a text" if path.is_file() else "no such file or folder"
            result.problems.append(f"{path}: {kind}, expected a recording, then its text")
        else:
            beside = labels.named_alike(path, labels.TEXTS)
            _add(Path(labels.stem(path)), path, beside, result)
    if not result.pairs:
        raise_problems(
            result.problems or [f"{', '.join(map(str, paths))}: no recording with its text"]
        )
    return result


def _is_source(path: str | Path) -> bool:
    """Whether an argument is a recording, a folder, a table or a manifest, and not a text."""
    known = (*AUDIO, *TABLES, ".jsonl")
    return os.path.isdir(path) or (os.path.isfile(path) and str(path).lower().endswith(known))


def _of_utterance(one: Utterance) -> Pair:
    return Pair(Path(one.id), one.audio, one.words or None, one.id, one.phones, one)


def _add_folder(folder: Path, result: Pairs) -> None:
    """Add the pairs of a tree, of LibriSpeech's transcripts, or of a Kaldi data directory."""
    if (folder / "wav.scp").is_file():
        for one in kaldi.read(folder, result.problems):
            result.pairs.append(Pair(Path(one.id), one.audio, " ".join(one.phones), one.place))
        return
    recordings: dict[str, list[Path]] = {}  # by path without ending, in lower case
    texts: dict[str, list[Path]] = {}
    listed: dict[str, tuple[str, str]] = {}  # place and text, of LibriSpeech
    for inner, names in walk(folder, result.problems):
        for path in (Path(inner, name) for name in names):
            stem, ending = f"{inner}/{labels.stem(path)}".lower(), path.suffix.lower()
            if path.name.lower().endswith(".trans.txt"):
                rows = read_table(path, result.problems)
                listed |= {f"{inner}/{id}".lower(): row for id, row in rows.items()}
            elif ending in (*AUDIO, *labels.TEXTS):
                (texts if ending in labels.TEXTS else recordings).setdefault(stem, []).append(path)
    if not recordings:
        raise DataError(
            f"{folder}: no recordings, expected audio ({', '.join(audio.ENDINGS)}) with a text "
            f"(.txt, .lab) of its name beside it"
        )
    for stem, paths in recordings.items():
        name = paths[0].relative_to(folder).parent / labels.stem(paths[0])
        own = texts.pop(stem, [])
        if len(paths) > 1:
            several = ", ".join(map(str, paths))
            result.problems.append(f"{paths[0]}: ambiguous, keep one of {several}")
        elif stem in listed:
            place, text = listed[stem]
            result.pairs.append(Pair(name, str(paths[0]), text, place))
        else:
            _add(name, paths[0], own, result)
    result.notes += [
        f"{path}: has no recording beside it"
        for path in chain.from_iterable(texts.values())
        if not listed
    ]


def _add(name: Path, recording: Path, texts: Sequence[Path], result: Pairs) -> None:
    """Add a recording with the one of `texts` that holds words; without, it is a problem."""
    try:
        of_words = [one for one in texts if one.suffix.lower() != ".lab" or lab.is_text(one)]
        if len(of_words) > 1:
            raise DataError(f"{recording}: ambiguous, keep one of {', '.join(map(str, of_words))}")
        if not texts:
            beside = recording.with_suffix(".txt").name
            raise DataError(
                f"{recording}: has no text; write what is said into {beside} beside it, or give "
                f"it behind the recording, in quotes or as a file"
            )
        path = (of_words or texts)[0]
        result.pairs.append(Pair(name, str(recording), labels.transcript(path), str(path)))
    except DataError as error:
        result.problems += error.problems


def _add_table(table: Path, result: Pairs) -> None:
    """Add the rows of a table whose first line names its columns."""
    lines = [f"{line}\n" for line in read_lines(table)]  # a field may have several
    usual = "\t" if table.suffix.lower() == ".tsv" else ","
    for separator in sorted(SEPARATORS, key=usual.__ne__):
        rows = csv.reader(iter(lines), delimiter=separator)
        if separator == usual == "\t":  # a TSV has quotes as they are
            rows = csv.reader(iter(lines), "excel-tab", quoting=csv.QUOTE_NONE)
        head = [field.strip().lower() for field in next(rows, [])]
        columns = [
            next((head.index(one) for one in known if one in head), None)
            for known in (RECORDINGS, SPOKEN)
        ]
        if None not in columns:
            break
    else:
        raise DataError(
            f"{table}:1: expected the names of columns, one of {', '.join(RECORDINGS)} and one of "
            f"{', '.join(SPOKEN)}, with commas, semicolons or tabs between them; found "
            f"{lines[0].strip()!r}"
        )
    recording, text = (column or 0 for column in columns)
    for row in rows:
        if not any(map(str.strip, row)):
            continue
        place = f"{table}:{rows.line_num}"
        if len(row) <= max(recording, text) or not row[text].strip():
            result.problems.append(
                f"{place}: expected a recording and its text; add it, or remove the line"
            )
            continue
        named = Path(row[recording].strip())
        tried = [table.parent / named, table.parent / "clips" / named, named]
        if (path := next((one for one in tried if one.is_file()), None)) is None:
            result.problems.append(
                f"{place}: {named}: no such file, here or beside the table; correct the "
                "path, or start in the folder from which it is named"
            )
            continue
        is_inside = not named.is_absolute() and ".." not in named.parts
        name = (named.parent if is_inside else Path()) / labels.stem(named)
        result.pairs.append(Pair(name, str(path), row[text], place))
