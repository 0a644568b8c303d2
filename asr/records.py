"""Utterances, segments and hypotheses, and the JSONL files in which stages pass them on.

A line of a file is one utterance, for text tools. A manifest has the utterances of one split.
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
    """A phone with its times in seconds from the start of the audio.

    `confidence` is the probability that a recogniser gives it; None: labelled, not recognised.
    """

    phone: str
    start_s: float
    end_s: float
    confidence: float | None = None


@dataclass(frozen=True)
class Utterance:
    """A recorded sentence of one speaker, with its phones as the corpus has them.

    `segments` are the same phones with their times, where the corpus has times. `sex` is "m" or
    "f". Where the phones come from a lexicon, `words` is the text that was read, and
    `pronunciation` tells which pronunciation of each word `phones` holds: "first" (in the
    lexicon), "aligned" (the one that fits the audio best), or "all" (the first; the others are in
    `manifests/lexicon.txt`).
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
        values = record | {"phones": tuple(record["phones"])}
        if record.get("segments") is not None:
            values["segments"] = tuple(Segment(*segment) for segment in record["segments"])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        record = {key: value for key, value in vars(self).items() if value is not None}
        if self.segments is not None:
            record["segments"] = [
                [value for value in vars(s).values() if value is not None] for s in self.segments
            ]
        return record


@dataclass(frozen=True)
class Hypothesis:
    """The phones that a search gives for one utterance, and their score in nats.

    `times_s` is the frame in which each phone is most probable, in seconds from the start of the
    audio, not a boundary; `confidences` are the probabilities in these frames.
    """

    id: str
    phones: tuple[str, ...]
    score: float | None = None
    times_s: tuple[float, ...] | None = None
    confidences: tuple[float, ...] | None = None

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        lists = {"phones": tuple(record["phones"])}
        lists |= {key: tuple(value) for key, value in record.items() if isinstance(value, list)}
        return cls(**record | lists)

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if value is not None}


R = TypeVar("R", Utterance, Hypothesis)


def read_jsonl(path: str | Path, record_type: type[R]) -> list[R]:
    """All records of a file; the first bad line raises `DataError` with path and line number.

    Ids must be unique within the file.
    """
    return list(stream_jsonl(path, record_type))


def stream_jsonl(path: str | Path, record_type: type[R]) -> Iterator[R]:
    """The records of `read_jsonl`, one by one."""
    return (record for _, record in _stream(path, record_type))


def _stream(path: str | Path, record_type: type[R]) -> Iterator[tuple[int, R]]:
    """Records with the offset of their lines in bytes."""
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: cannot be read, or does not exist")
    line_of: dict[str, int] = {}
    following = 0
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            offset, following = following, following + len(line)
            if not line.strip():
                continue
            record = _parse(line, record_type, f"{path}:{number}")
            if line_of.setdefault(record.id, number) != number:
                raise DataError(
                    f"{path}:{number}: id {record.id!r} is a duplicate of line "
                    f"{line_of[record.id]}; remove one of them"
                )
            yield offset, record


def _parse(line: bytes, record_type: type[R], where: str) -> R:
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: expected UTF-8, {error.reason}") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: expected one JSON object, {error.msg}") from error
    try:
        return record_type.from_dict(record)
    except (TypeError, KeyError) as error:
        keys = sorted(record) if isinstance(record, dict) else record
        known = sorted(part.name for part in fields(record_type))
        raise DataError(
            f"{where}: found {keys}, expected a {record_type.__name__} with {known}"
        ) from error


class Manifest(Sequence[Utterance]):
    """The utterances of a JSONL file, read from it at each access: 16 bytes of memory for each.

    The constructor reads the file once, and raises `DataError` as `read_jsonl` does. `durations`
    are in seconds. No file stays open, so that worker processes may share a manifest.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.durations = array("d")
        self._offsets = array("q")
        for offset, utterance in _stream(path, Utterance):
            self._offsets.append(offset)
            self.durations.append(utterance.duration_s)

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...

    @overload
    def __getitem__(self, index: slice) -> list[Utterance]: ...

    def __getitem__(self, index: int | slice) -> Utterance | list[Utterance]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        with open(self.path, "rb") as file:
            file.seek(self._offsets[index])
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
    """Write one record a line; the file gets its name when it is complete."""
    with atomic_open(path) as file:
        for record in records:
            file.write(json.dumps(record.to_dict(), ensure_ascii=False) + "\n")
