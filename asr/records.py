"""What the stages hand to each other: utterances, segments, hypotheses, and their JSONL files.

One line is one utterance, so manifests and hypotheses can be read, compared and edited with
ordinary text tools. This file does not open audio and knows no phone set.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, Self, TypeVar


class DataError(ValueError):
    """Input that a person has to mend: the message names the file, what was found and the remedy.

    Doors print it as it stands, without a traceback, and exit with 1.
    """


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
    the corpus has times, holds the same phones in the same order. `sex` is "m" or "f".
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
        record = asdict(self)
        if self.segments is not None:
            record["segments"] = [[s.phone, s.start_s, s.end_s] for s in self.segments]
        return {key: value for key, value in record.items() if value is not None}


@dataclass(frozen=True)
class Hypothesis:
    """What a search found in one utterance: phones, and their log-probability `score` (natural)."""

    id: str
    phones: tuple[str, ...]
    score: float | None = None

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        return cls(**record | {"phones": tuple(record["phones"])})

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}


R = TypeVar("R", Utterance, Hypothesis)


def read_jsonl(path: str | Path, record_type: type[R]) -> list[R]:
    """Read one record a line; the first bad line raises `DataError` with path and line number."""
    return list(stream_jsonl(path, record_type))


def stream_jsonl(path: str | Path, record_type: type[R]) -> Iterator[R]:
    """Yield the records of `read_jsonl` one by one; ids must be unique within the file."""
    known = {field.name for field in fields(record_type)}
    first_seen: dict[str, int] = {}
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: cannot be read, or does not exist")
    with open(path, encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                fields_found = json.loads(line)
                record = record_type.from_dict(fields_found)
            except json.JSONDecodeError as error:
                raise DataError(f"{where}: expected one JSON object, {error.msg}") from error
            except (TypeError, KeyError) as error:
                found = sorted(fields_found) if isinstance(fields_found, dict) else fields_found
                expected = f"a {record_type.__name__} with {sorted(known)}"
                raise DataError(f"{where}: found {found}, expected {expected}") from error
            if record.id in first_seen:
                raise DataError(
                    f"{where}: id {record.id!r} stands already in line {first_seen[record.id]}"
                )
            first_seen[record.id] = number
            yield record


def write_jsonl(path: str | Path, records: Iterable[Utterance | Hypothesis]) -> None:
    """Write one record a line; the file appears under its name only when it is complete."""
    with atomic_open(path) as file:
        for record in records:
            file.write(json.dumps(record.to_dict(), ensure_ascii=False) + "\n")


@contextmanager
def atomic_open(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary sibling of `path`; at the end it takes that name, on error it vanishes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
