"""Transcripts of one side of a comparison, and the checks that their ids and phones pass."""

import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shortened
from typing import NamedTuple, overload

from asr import labels
from asr.errors import DataError
from asr.files import name


class Phones(Sequence[str]):
    """The phones of an utterance, a sequence of strings that is kept as one character for each.

    `code` has these characters: `KNOWN[ord(c)]` is the phone of `c`, and DELETED is none. A process
    may have 1,114,111 different phones, as there are characters in Unicode.
    """

    __slots__ = ("code",)

    def __init__(self, code: str) -> None:
        self.code = code

    @classmethod
    def of(cls, phones: Iterable[str]) -> "Phones":
        """Phones that are known to be names (`phones_of` checks others)."""
        return phones if isinstance(phones, cls) else cls("".join(map(code_of, phones)))

    def __len__(self) -> int:
        return len(self.code)

    def __iter__(self) -> Iterator[str]:
        return map(KNOWN.__getitem__, map(ord, self.code))

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> "Phones": ...

    def __getitem__(self, index: int | slice) -> "str | Phones":
        chosen = self.code[index]
        return Phones(chosen) if isinstance(index, slice) else KNOWN[ord(chosen)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Phones | tuple) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


DELETED = "\0"
KNOWN = [""]  # the phones of all transcripts of this process, by character
_codes: dict[str, str] = {}


def code_of(phone: str) -> str:
    """The character of a phone, which gets one the first time."""
    code = _codes.get(phone)
    if code is None:
        phone = sys.intern(str.__str__(phone))
        code = _codes[phone] = chr(len(KNOWN))
        KNOWN.append(phone)
    return code


class Part(NamedTuple):
    """The phones of a recording between two times; None: it is not to be scored."""

    start_s: float
    end_s: float
    phones: Sequence[str] | None
    speaker: str
    line: int


class Transcript(NamedTuple):
    """The phones of one utterance on one side, and what else its file says about it.

    `times_s` are (start, end) of every phone in seconds. `line` is 0 where there is no file of
    lines. `channel` is that of the recording, `file` the path that the id was made of. `parts`, in
    order of time, are those of a recording that is scored part by part. `words` are in lower case,
    with blanks between them.
    """

    id: str
    phones: Sequence[str]
    line: int = 0
    times_s: tuple[tuple[float, float], ...] | None = None
    speaker: str | None = None
    sex: str | None = None
    dialect: str | None = None
    channel: str | None = None
    file: str = ""
    parts: tuple[Part, ...] = ()
    corpus: str = ""
    split: str = ""
    words: str | None = None


@dataclass(frozen=True)
class Transcripts:
    """One side of a comparison: transcripts by id, in the order of their file.

    `in_memory`: the side is an argument of `asr.score`.
    """

    path: str
    items: Mapping[str, Transcript]
    corpus: str = ""
    split: str = ""
    in_memory: bool = False

    def where(self, transcript: Transcript) -> str:
        """`path:line` of a transcript."""
        return f"{self.path}:{transcript.line}" if transcript.line else self.path

    def option(self, option: str, value: str) -> str:
        """An option as this side's user sets it: on the command line, or as an argument."""
        return f'{option}="{value}"' if self.in_memory else f"--{option} {value}"


def speaker_of(transcript: Transcript) -> str | None:
    """As its file says, or else its id before the first "-", or before the first "_"."""
    if transcript.speaker is not None:
        return transcript.speaker
    for separator in "-_":
        place = transcript.id.find(separator, 1)
        if place > 0:
            return transcript.id[:place]
    return None


def keyed(path: str, transcripts: Iterable[Transcript]) -> dict[str, Transcript]:
    """The transcripts by id, ids and phones as `files.name` returns them.

    Those without an id get the name of their `file` without its ending, and before it as many of
    its folders, with "_" between them, as tell all of these apart.
    Raises `DataError` for a duplicate id, and for an id or a phone that is no word.
    """
    items: dict[str, Transcript] = {}
    nameless: list[tuple[str, Transcript]] = []
    for one in transcripts:
        where = f"{path}:{one.line}" if one.line else one.file or f"{path} {shortened(one.id)}"
        phones = phones_of(one.phones, where)
        if one.file and not one.id:
            nameless.append((where, Transcript("", phones, *one[2:])))
        else:
            _add(items, where, Transcript(name_of(one.id, where, "id"), phones, *one[2:]))
    of_files = {one.file: parts_of(one.file) for _, one in nameless}
    names: dict[str, str] = {}
    for number in range(1, max(map(len, of_files.values()), default=0) + 1):
        names = {file: "_".join(parts[-number:]) for file, parts in of_files.items()}
        if len({*names.values()}) == len(names):
            break
    for where, one in nameless:
        _add(items, where, one._replace(id=name_of(names[one.file], where, "id")))
    return items


def _add(items: dict[str, Transcript], where: str, one: Transcript) -> None:
    first = items.setdefault(one.id, one)
    if first is not one:
        place = f"line {first.line}" if first.line else first.file or "the same side"
        raise DataError(f"{where}: duplicate id {one.id!r}, first in {place}; keep one of them")
    if one.speaker is not None:
        name_of(one.speaker, where, "speaker")


def parts_of(file: str) -> list[str]:
    """The folders of a path, and the name of the file without its ending."""
    path = Path(unicodedata.normalize("NFC", file).replace("\\", "/"))
    return [*(part for part in path.parts[:-1] if part not in ("/", "*", "..")), labels.stem(path)]


def name_of(value: object, where: str, what: str) -> str:
    """A name of any origin, as `files.name` returns it; `DataError` for what is no string."""
    if not isinstance(value, str):
        raise DataError(
            f"{where}: {what} is {shortened(value)} ({type(value).__name__}), expected a string"
            + (f", as in {shortened(value.phone)}" if hasattr(value, "phone") else "")
        )
    return name(str(value), where, what)


def phones_of(phones: object, where: str) -> Phones:
    """Phones of any origin, each checked once.

    Raises `DataError` for what is no sequence of strings; a string would be read by letters, a
    dictionary by its keys.
    """
    listed: Sequence[str]
    if isinstance(phones, list | tuple | Phones):
        listed = phones
    elif isinstance(phones, Iterable) and not isinstance(phones, str | bytes | Mapping | Set):
        listed = list(phones)
    else:
        raise DataError(
            f"{where}: phones are {shortened(phones)} ({type(phones).__name__}), expected a list "
            f"of strings, as in ['s', 'ih', 't']"
        )
    try:
        return Phones("".join(map(_codes.__getitem__, listed)))
    except (KeyError, TypeError):
        for one in listed:
            _codes[one] = code_of(name_of(one, where, "phones: label"))
        return Phones.of(listed)
