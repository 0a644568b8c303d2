"""Utterances, segments and hypotheses, and the JSONL files in which stages pass them on.

A line of a file is one utterance, for text tools. A manifest has the utterances of one split.
"""

import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar, overload

from asr.errors import DataError
from asr.files import moved, name, names, require_kind
from asr.files.decoding import decode, impossible
from asr.files.outputs import atomic_open

LONGEST_S = 1e6  # of an utterance
OVERSHOOT_S = 0.02  # the last segment may end this long after the audio
SURE = 1.001  # a probability after rounding


class Segment(NamedTuple):
    """A phone with its times in seconds from the start of the audio.

    `confidence` is the probability that it is right, as a recogniser says; None: labelled.
    """

    phone: str
    start_s: float
    end_s: float
    confidence: float | None = None


class Word(NamedTuple):
    """A word with its times, as a phone's, and its phones; `<unk>` is one outside the lexicon."""

    word: str
    start_s: float
    end_s: float
    confidence: float
    phones: tuple[str, ...]


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
    phones: tuple[str, ...] = ()  # none: those of `words`
    segments: tuple[Segment, ...] | None = None
    corpus: str = ""
    split: str = ""
    sex: str | None = None
    dialect: str | None = None
    words: str | None = None
    pronunciation: str | None = None

    def checked(self, where: str) -> Self:
        """The same, with names in Unicode's form NFC; `DataError` for values that cannot be."""
        if not 0 < self.duration_s <= LONGEST_S:
            expected = f"seconds, more than 0 and at most {LONGEST_S:g}"
            raise impossible(where, "duration_s", self.duration_s, expected)
        if self.sex not in ("m", "f", None):
            raise impossible(where, "sex", self.sex, '"m", "f" or null')
        if "\0" in self.audio:
            raise impossible(where, "audio", self.audio, "a path without NUL")
        phones, segments = names(self.phones, where, "phones"), self.segments
        if segments is not None:
            _check_times(segments, self.duration_s, where)
            called = tuple([one.phone for one in segments])
            if called != self.phones:
                expected = f"the same as phones, {' '.join(self.phones)}"
                raise impossible(where, "segments", " ".join(called), expected)
        id, speaker = name(self.id, where, "id"), name(self.speaker, where, "speaker")
        if (id, speaker, phones) == (self.id, self.speaker, self.phones):
            return self
        if segments is not None:
            segments = tuple(map(Segment, phones, *list(zip(*segments, strict=True))[1:]))
        return replace(self, id=id, speaker=speaker, phones=phones, segments=segments)

    def to_dict(self) -> dict[str, Any]:
        record = {key: value for key, value in vars(self).items() if value is not None}
        if self.segments is not None:
            record["segments"] = [[v for v in one if v is not None] for one in self.segments]
        return record


@dataclass(frozen=True)
class Hypothesis:
    """The phones that a search gives for one utterance, and their score in nats.

    `times_s` is the frame in which each phone is most probable, in seconds from the start of the
    audio, not a boundary; `confidences` are the probabilities in these frames. `words` are those
    of a search of words, each with its number of phones.
    """

    id: str
    phones: tuple[str, ...]
    score: float | None = None
    times_s: tuple[float, ...] | None = None
    confidences: tuple[float, ...] | None = None
    words: tuple[tuple[str, int], ...] | None = None

    def checked(self, where: str) -> Self:
        """The same, with names in Unicode's form NFC; `DataError` for values that cannot be."""
        phones = names(self.phones, where, "phones")
        for key, limit in (("times_s", LONGEST_S), ("confidences", SURE)):
            values = getattr(self, key)
            if values is not None and len(values) != len(phones):
                raise impossible(where, key, values, f"{len(phones)} numbers, one for each phone")
            if not values or (min(values) >= 0 and max(values) <= limit):
                continue
            for n, value in enumerate(values):
                if not 0 <= value <= limit:
                    raise impossible(where, f"{key}[{n}]", value, f"0 to {limit:g}")
        if self.words is not None and sum(max(n, 1) for _, n in self.words) != len(phones):
            raise impossible(where, "words", self.words, f"{len(phones)} phones in all")
        id = name(self.id, where, "id")
        same = (id, phones) == (self.id, self.phones)
        return self if same else replace(self, id=id, phones=phones)

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Transcript:
    """The phones of a recording, in order and without overlaps; `file` is "" for an array.

    `words` are those of a transcriber that has words, otherwise None.
    """

    file: str
    duration_s: float
    phones: tuple[Segment, ...]
    words: tuple[Word, ...] | None = None


def _check_times(segments: Sequence[Segment], duration_s: float, where: str) -> None:
    """Raise `DataError` unless segments are in order, do not overlap, and end with the audio."""
    before_s, end_s = 0.0, 0.0
    for n, (_, start_s, end_s, confidence) in enumerate(segments):
        if not before_s - 1e-6 <= start_s < end_s:
            expected = f"seconds, {before_s:g} or later, and before the segment's end at {end_s:g}"
            raise impossible(where, f"segments[{n}].start_s", start_s, expected)
        if confidence is not None and not 0 <= confidence <= SURE:
            raise impossible(where, f"segments[{n}].confidence", confidence, "0 to 1")
        before_s = end_s
    if end_s > duration_s + OVERSHOOT_S:
        expected = f"seconds, at most those of the audio, {duration_s:g}"
        raise impossible(where, f"segments[{len(segments) - 1}].end_s", end_s, expected)


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
    require_kind(path, "JSON text, as in exp/demo/1/manifests/test.jsonl")
    line_of: dict[str, int] = {}
    following = 0
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            offset, following = following, following + len(line)
            if not line.strip():
                continue
            record = decode(line, record_type, where := f"{path}:{number}").checked(where)
            if line_of.setdefault(record.id, number) != number:
                raise DataError(
                    f"{path}:{number}: id {record.id!r} is a duplicate of line "
                    f"{line_of[record.id]}; remove one of them"
                )
            yield offset, record


class Manifest(Sequence[Utterance]):
    """The utterances of a JSONL file, read from it at each access: 16 bytes of memory for each.

    The constructor reads the file once, and raises `DataError` as `read_jsonl` does. `durations`
    are in seconds. No file stays open, so that worker processes may share a manifest. Audio that is
    no longer where it was is read below `root`, where that is given.
    """

    def __init__(self, path: str | Path, root: str = "") -> None:
        self.path = Path(path)
        self.durations = array("d")
        self._offsets = array("q")
        for offset, utterance in _stream(path, Utterance):
            self._offsets.append(offset)
            self.durations.append(utterance.duration_s)
        self._before, self._now = "", ""
        if root and len(self):
            self._before, self._now = moved(self[0].audio, root)

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
            where = f"{self.path}, utterance {index}"
            utterance = decode(file.readline(), Utterance, where).checked(where)
        if not self._now or not utterance.audio.startswith(self._before):
            return utterance
        return replace(utterance, audio=self._now + utterance.audio.removeprefix(self._before))

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
