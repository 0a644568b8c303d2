"""Lhotse manifests, read and written: recordings and supervisions in JSONL, also gzipped."""

import gzip
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from asr import audio
from asr.corpora.kaldi import located
from asr.corpora.recording import Recording
from asr.errors import DataError
from asr.files import atomic_open
from asr.records import Segment, Utterance

Row = dict[str, Any]  # a line of a manifest
OVERSHOOT_S = 0.02  # a supervision may be shorter than its recording by this
PHONE_ALIGNMENTS = ("phone", "phones", "phoneme")
CUSTOM = ("words", "corpus", "dialect")  # fields of an utterance that Lhotse has no name for


def read(folder: Path, problems: list[str]) -> list[Recording]:
    """The utterances of a folder of manifests, each supervision a whole recording."""
    audio: dict[str, tuple[str, Row]] = {}
    for path in manifests(folder, "recordings"):
        for where, row in _rows(path):
            if audio.setdefault(row["id"], (where, row))[0] != where:
                problems.append(
                    f"{where}: recording {row['id']!r} is a duplicate of {audio[row['id']][0]}"
                )
    if not audio:
        raise DataError(f"{folder}: no recordings*.jsonl(.gz) beside the supervisions")
    recordings = []
    for path in manifests(folder, "supervisions"):
        for where, row in _rows(path):
            if problem := _problem(where, row, audio):
                problems.append(problem)
            else:
                source = audio[row["recording_id"]][1]["sources"][0]["source"]
                recordings.append(_recording(row, located(source, folder), where))
    return recordings


def manifests(folder: Path, kind: str) -> list[Path]:
    """The files of a folder with `kind` in their name."""
    return sorted(p for p in folder.glob(f"*{kind}*") if p.name.endswith((".jsonl", ".jsonl.gz")))


def _rows(path: Path) -> Iterator[tuple[str, Row]]:
    """File and line number of each row, and the row."""
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict) or "id" not in row:
                    raise DataError(f"{path}:{number}: expected one JSON object with an id")
                yield f"{path}:{number}", row
    except (OSError, EOFError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read as JSON lines ({error})") from error


def _timed(row: Row) -> list[Any]:
    """The alignment of phones: `[phone, start, duration, score]` each."""
    alignment = row.get("alignment") or {}
    return next((alignment[key] for key in PHONE_ALIGNMENTS if key in alignment), [])


def _problem(where: str, row: Row, audio: Mapping[str, tuple[str, Row]]) -> str | None:
    """A sentence about a supervision that cannot be an utterance, or None."""
    id_ = row["id"]
    if row.get("recording_id", "") not in audio:
        return f"{where}: no recording {row.get('recording_id')!r} for {id_}"
    where_whole, whole = audio[row["recording_id"]]
    sources = whole.get("sources", [])
    missing_s = whole.get("duration", 0.0) - row.get("duration", 0.0)
    if len(sources) != 1 or sources[0].get("type") != "file":
        return (
            f"{where_whole}: expected one source of the type file; write the audio to a file, "
            f"for example with Lhotse's save_audios"
        )
    if row.get("start", 0.0) > OVERSHOOT_S or missing_s > OVERSHOOT_S:
        return (
            f"{where}: {id_} is a part of its recording, which is not read; cut it first, for "
            f"example with `lhotse cut trim-to-supervisions` and Lhotse's save_audios"
        )
    if not row.get("speaker"):
        return f"{where}: {id_} has no speaker, which splits are made by"
    if not str(row.get("text") or "").split() and not _timed(row):
        return f"{where}: {id_} has no text and no alignment of phones"
    return None


def _recording(row: Row, audio_path: str, where: str) -> Recording:
    sex = str(row.get("gender") or "").lower()[:1]
    custom = row.get("custom") or {}
    return Recording(
        str(row["id"]),
        audio_path,
        str(row["speaker"]),
        words=custom.get("words"),
        sex=sex if sex in ("m", "f") else None,
        dialect=custom.get("dialect"),
        phones=tuple(str(row.get("text") or "").split()),
        segments=tuple(
            Segment(phone, start_s, round(start_s + seconds, 8))
            for phone, start_s, seconds, *_ in _timed(row)
        ),
        place=where,
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
        supervision: dict[str, Any] = {
            "id": utterance.id,
            "recording_id": utterance.id,
            "start": 0.0,
            "duration": header.duration_s,
            "channel": 0,
            "text": " ".join(utterance.phones),
            "speaker": utterance.speaker,
        }
        if utterance.sex:
            supervision["gender"] = utterance.sex.upper()
        if custom := {key: value for key in CUSTOM if (value := getattr(utterance, key))}:
            supervision["custom"] = custom
        if utterance.segments:
            supervision["alignment"] = {
                "phone": [
                    [s.phone, s.start_s, round(s.end_s - s.start_s, 8), None]
                    for s in utterance.segments
                ]
            }
        supervisions.append(supervision)
    for name, rows in (("recordings", recordings), ("supervisions", supervisions)):
        with (
            atomic_open(folder / f"{name}.jsonl.gz", "wb") as raw,
            gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed,
            io.TextIOWrapper(packed, encoding="utf-8") as file,
        ):
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
