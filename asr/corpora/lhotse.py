"""Lhotse manifests, read and written: recordings and supervisions in JSONL, also gzipped."""

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from asr import audio
from asr.corpora.kaldi import located, sex_of
from asr.corpora.recording import Recording, Stated
from asr.errors import DataError, raise_problems
from asr.files import name, names
from asr.files.decoding import decode
from asr.files.outputs import atomic_open
from asr.records import Segment, Utterance

T = TypeVar("T")
OVERSHOOT_S = 0.02  # a supervision may be shorter than its recording by this
FILES = ("recordings.jsonl.gz", "supervisions.jsonl.gz")  # what `write` writes
CUSTOM = ("words", "corpus", "dialect")  # fields of an utterance that Lhotse has no name for


@dataclass(frozen=True)
class _Source:
    type: str
    source: str | None = None
    channels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class _Whole:
    """A line of recordings.jsonl, as far as it is read."""

    id: str
    sources: tuple[_Source, ...]
    duration: float
    sampling_rate: int | None = None
    num_samples: int | None = None
    transforms: tuple[Any, ...] | None = None


class _Item(NamedTuple):
    symbol: str
    start: float
    duration: float
    score: float | None = None


@dataclass(frozen=True)
class _Alignment:
    phone: tuple[_Item, ...] | None = None
    phones: tuple[_Item, ...] | None = None
    phoneme: tuple[_Item, ...] | None = None


@dataclass(frozen=True)
class _Custom:
    words: str | None = None
    dialect: str | None = None


@dataclass(frozen=True)
class _Supervision:
    """A line of supervisions.jsonl, as far as it is read."""

    id: str
    recording_id: str
    duration: float
    start: float = 0.0
    channel: int | tuple[int, ...] | None = None
    speaker: str | None = None
    text: str | None = None
    gender: str | None = None
    alignment: _Alignment | None = None
    custom: _Custom | None = None

    @property
    def items(self) -> tuple[_Item, ...]:
        """The alignment of phones."""
        kinds = self.alignment or _Alignment()
        return kinds.phone or kinds.phones or kinds.phoneme or ()


def read(folder: Path, problems: list[str]) -> list[Recording]:
    """The utterances of a folder of manifests, each supervision a whole recording.

    What the manifests say of the audio is in `Recording.stated`. Where `text` is given beside an
    alignment, the recording has it as `phones`.
    """
    audio: dict[str, tuple[str, _Whole]] = {}
    before = len(problems)
    for path in manifests(folder, "recordings"):
        for where, row in _rows(path, _Whole, problems):
            if audio.setdefault(row.id, (where, row))[0] != where:
                problems.append(
                    f"{where}: recording {row.id!r} is a duplicate of {audio[row.id][0]}; "
                    f"remove one of them"
                )
    raise_problems(problems[before:])  # each of which would be said again of its supervision
    if not audio:
        raise DataError(
            f"{folder}: no recordings*.jsonl(.gz) beside the supervisions; put them there"
        )
    recordings = []
    unread: list[str] = []
    alone = dict.fromkeys(audio)  # recordings that no supervision names
    for path in manifests(folder, "supervisions"):
        for where, said in _rows(path, _Supervision, unread):
            alone.pop(said.recording_id, None)
            try:
                recordings.append(_recording(said, where, audio, folder))
            except DataError as error:
                problems.extend(error.problems)
    problems.extend(unread)
    if not unread:  # each of which may be that of any recording
        problems.extend(
            f"{audio[id_][0]} ({id_}): has no supervision; add it, or leave the recording out, as "
            f"Lhotse's fix_manifests does"
            for id_ in alone
        )
    return recordings


def manifests(folder: Path, kind: str) -> list[Path]:
    """The files of a folder with `kind` in their name."""
    return sorted(p for p in folder.glob(f"*{kind}*") if p.name.endswith((".jsonl", ".jsonl.gz")))


def _rows(path: Path, kind: type[T], problems: list[str]) -> Iterator[tuple[str, T]]:
    """File and line number of each row, and the row; what is wrong with others is a problem."""
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                where, row = f"{path}:{number}", None
                try:
                    row = decode(line, kind, where, other_keys=True) if line.strip() else None
                except DataError as error:
                    problems.extend(error.problems)
                if row is not None:
                    yield where, row
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: damaged or truncated, expected JSON lines ({error}); fetch it again"
        ) from error


def _recording(
    row: _Supervision, where: str, audio: Mapping[str, tuple[str, _Whole]], folder: Path
) -> Recording:
    """The utterance of a supervision; `DataError` where it cannot be one."""
    id_ = name(row.id, where, "id")
    if row.recording_id not in audio:
        raise DataError(
            f"{where}: no recording {row.recording_id!r} for {id_}; add it, or leave the "
            f"supervision out, as Lhotse's fix_manifests does"
        )
    where_whole, whole = audio[row.recording_id]
    source = whole.sources[0] if len(whole.sources) == 1 else _Source("")
    if source.type != "file" or not source.source:
        raise DataError(
            f"{where_whole}: sources is not one path of the type file; write the audio to a file, "
            f"for example with Lhotse's save_audios"
        )
    if whole.transforms:
        raise DataError(
            f"{where_whole}: {row.recording_id} has transforms, which are not applied; write what "
            f"they make to a file, for example with Lhotse's save_audios"
        )
    if abs(row.start) > OVERSHOOT_S or abs(whole.duration - row.duration) > OVERSHOOT_S:
        raise DataError(
            f"{where}: {id_} is a part of its recording, which is not read; cut it first, for "
            f"example with `lhotse cut trim-to-supervisions` and Lhotse's save_audios"
        )
    if not row.speaker:
        raise DataError(f"{where}: {id_} has no speaker, which splits are made by; add it")
    symbols, custom = (row.text or "").split(), row.custom or _Custom()
    if not symbols and not row.items:
        raise DataError(
            f"{where}: {id_} has no text and no alignment of phones; add one, or leave it out"
        )
    return Recording(
        id_,
        located(source.source, folder, where_whole),
        name(row.speaker, where, "speaker"),
        words=custom.words,
        sex=sex_of(row.gender),
        dialect=custom.dialect,
        phones=names(symbols, where, "text"),
        segments=tuple(
            Segment(name(phone, where, "alignment"), start_s, round(start_s + seconds, 8))
            for phone, start_s, seconds, _ in row.items
        ),
        place=where,
        stated=Stated(
            where_whole,
            whole.duration,
            whole.sampling_rate,
            whole.num_samples,
            source.channels,
            (row.channel,) if isinstance(row.channel, int) else row.channel,
        ),
    )


def write(utterances: Sequence[Utterance], folder: Path) -> None:
    """Write recordings.jsonl.gz and supervisions.jsonl.gz; `text` is the phones.

    Times of phones become the alignment `phone`; words, corpus and dialect are `custom` fields.
    Opens the header of each audio file, since Lhotse wants the number of samples.
    """
    recordings: list[dict[str, Any]] = []
    supervisions: list[dict[str, Any]] = []
    for utterance in utterances:
        header = audio.info(utterance.audio)
        recordings.append(
            {
                "id": utterance.id,
                "sources": [{"type": "file", "channels": [0], "source": utterance.audio}],
                "sampling_rate": header.sample_rate,
                "num_samples": header.samples,
                "duration": header.duration_s,
                "channel_ids": [0],
            }
        )
        times = [
            [s.phone, s.start_s, round(s.end_s - s.start_s, 8), None]
            for s in utterance.segments or ()
        ]
        supervision = {
            "id": utterance.id,
            "recording_id": utterance.id,
            "start": 0.0,
            "duration": header.duration_s,
            "channel": 0,
            "text": " ".join(utterance.phones),
            "speaker": utterance.speaker,
            "gender": utterance.sex and utterance.sex.upper(),
            "custom": {key: value for key in CUSTOM if (value := getattr(utterance, key))},
            "alignment": {"phone": times} if times else None,
        }
        supervisions.append({key: v for key, v in supervision.items() if v is not None and v != {}})
    for kind, rows in (("recordings", recordings), ("supervisions", supervisions)):
        with (
            atomic_open(folder / f"{kind}.jsonl.gz", "wb") as raw,
            gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed,
            io.TextIOWrapper(packed, encoding="utf-8") as file,
        ):
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
