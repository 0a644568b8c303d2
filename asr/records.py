"""What the stages hand to each other: utterances, segments, hypotheses, and their JSONL files.

One line is one utterance, so manifests and hypotheses can be read, compared and edited with
ordinary text tools. This file does not open audio and knows no phone set.
"""

import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self, TypeVar, overload

from asr.errors import DataError
from asr.files import atomic_open


@dataclass(frozen=True)
class Segment:
    """One phone between two times, in seconds from the start of the audio."""

    phone: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Utterance:
    """One recorded sentence of one speaker, with the phones that were said.

    `phones` are symbols of the corpus as labelled; folding happens at scoring. `segments`, where
    the corpus has times, holds the same phones in the same order. `sex` is "m" or "f". Where the
    phones come from a lexicon, `words` are those that were read, and `pronunciation` says which of
    a word's pronunciations stand in `phones`: "first", "all" (the first, and a criterion may take
    the others from `manifests/lexicon.txt`) or "aligned" (chosen by a forced alignment).
    """

    id: str
    audio: str
    duration_s: float
    speaker: str
    phones: tuple[str, ...]
    segments: tuple[Segment, ...] | None = None
    corpus: str = ""
    split: str = ""
    sex: str | None = None
    dialect: str | None = None
    words: str | None = None
    pronunciation: str | None = None

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        segments = record.get("segments")
        return cls(
            **record
            | {
                "phones": tuple(record["phones"]),
                "segments": None if segments is None else tuple(Segment(*s) for s in segments),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        record = _fields_of(self)
        if self.segments is not None:
            record["segments"] = [[s.phone, s.start_s, s.end_s] for s in self.segments]
        return {key: value for key, value in record.items() if value is not None}


@dataclass(frozen=True)
class Hypothesis:
    """What a search found in one utterance: phones, and the `score` that it gave them, in nats.

    `times_s` are moments at which the phones were heard, seconds from the start of the audio, not
    their boundaries; `confidences` their probabilities then.
    """

    id: str
    phones: tuple[str, ...]
    score: float | None = None
    times_s: tuple[float, ...] | None = None
    confidences: tuple[float, ...] | None = None

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        lists = {"phones": tuple(record["phones"])}
        for key in ("times_s", "confidences"):
            if record.get(key) is not None:
                lists[key] = tuple(record[key])
        return cls(**record | lists)

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in _fields_of(self).items() if value is not None}


def _fields_of(record: Utterance | Hypothesis) -> dict[str, Any]:
    """`dataclasses.asdict` without its deep copy, which takes longer than all the rest."""
    return {part.name: getattr(record, part.name) for part in fields(record)}


R = TypeVar("R", Utterance, Hypothesis)


def read_jsonl(path: str | Path, record_type: type[R]) -> list[R]:
    """Read one record a line; the first bad line raises `DataError` with path and line number."""
    return list(stream_jsonl(path, record_type))


def stream_jsonl(path: str | Path, record_type: type[R]) -> Iterator[R]:
    """Yield the records of `read_jsonl` one by one; ids must be unique within the file."""
    return (record for _, record in _stream(path, record_type))


def _stream(path: str | Path, record_type: type[R]) -> Iterator[tuple[int, R]]:
    """Yield records, each with the byte at which its line begins."""
    first_seen: dict[str, int] = {}
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: cannot be read, or does not exist")
    position = 0
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            begin, position = position, position + len(line)
            if not line.strip():
                continue
            where = f"{path}:{number}"
            record = _parse(line, record_type, where)
            if record.id in first_seen:
                raise DataError(
                    f"{where}: id {record.id!r} stands already in line {first_seen[record.id]}"
                )
            first_seen[record.id] = number
            yield begin, record


def _parse(line: bytes, record_type: type[R], where: str) -> R:
    try:
        found = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: expected UTF-8, {error.reason}") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: expected one JSON object, {error.msg}") from error
    try:
        return record_type.from_dict(found)
    except (TypeError, KeyError) as error:
        known = sorted(part.name for part in fields(record_type))
        found = sorted(found) if isinstance(found, dict) else found
        expected = f"a {record_type.__name__} with {known}"
        raise DataError(f"{where}: found {found}, expected {expected}") from error


class Manifest(Sequence[Utterance]):
    """The utterances of a JSONL file, each read when it is asked for: 16 bytes of memory for one.

    Opening it reads the whole file once, and raises `DataError` as `read_jsonl` does. `durations`
    are in seconds. It holds no open file, so that worker processes may share it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.durations = array("d")
        self._begins = array("q")
        for begin, utterance in _stream(path, Utterance):
            self._begins.append(begin)
            self.durations.append(utterance.duration_s)

    def __len__(self) -> int:
        return len(self._begins)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...

    @overload
    def __getitem__(self, index: slice) -> list[Utterance]: ...

    def __getitem__(self, index: int | slice) -> Utterance | list[Utterance]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        with open(self.path, "rb") as file:
            file.seek(self._begins[index])
            return _parse(file.readline(), Utterance, f"{self.path}, utterance {index}")

    def pick(self, id: str | None = None) -> Utterance:
        """The utterance with this id, or else the median by duration."""
        if not len(self):
            raise DataError(f"{self.path}: no utterances in it, expected at least one")
        if id is None:
            by_length = sorted(range(len(self)), key=lambda n: (self.durations[n], n))
            return self[by_length[len(self) // 2]]
        for utterance in self:
            if utterance.id == id:
                return utterance
        raise DataError(f"{self.path}: no utterance {id!r}; one is {self[0].id!r}")


def write_jsonl(path: str | Path, records: Iterable[Utterance | Hypothesis]) -> None:
    """Write one record a line; the file appears under its name only when it is complete."""
    with atomic_open(path) as file:
        for record in records:
            file.write(json.dumps(record.to_dict(), ensure_ascii=False) + "\n")
