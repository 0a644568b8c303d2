"""Our manifests → Kaldi data directories or Lhotse manifests.

    asr exchange kaldi exp/demo/1/manifests data
    asr exchange lhotse exp/demo/1/manifests/test.jsonl test

The other direction is a corpus: `corpus=folder corpus.root=DATA` reads both. Audio is not copied,
the paths in the manifests are written as they are.
"""

import argparse
import gzip
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from asr import audio
from asr.errors import DataError, exit_code
from asr.files import atomic_open
from asr.records import Utterance, read_jsonl


def run(format_name: str, source: Path, target: Path) -> list[Path]:
    """Write a manifest, or the manifests of a folder each into a folder of its name."""
    if source.is_dir():
        manifests = sorted(source.glob("*.jsonl"))
        if not manifests:
            raise DataError(f"{source}: no manifests (*.jsonl); give exp/…/manifests, or one of it")
        places = {path: target / path.stem for path in manifests}
    else:
        places = {source: target}
    write = {"kaldi": write_kaldi, "lhotse": write_lhotse}[format_name]
    for manifest, folder in places.items():
        write(read_jsonl(manifest, Utterance), folder)
    return list(places.values())


def write_kaldi(utterances: Sequence[Utterance], folder: Path) -> None:
    """Write wav.scp, text (the phones), utt2spk, spk2utt, utt2dur, spk2gender; sorted as LC_ALL=C.

    Times of phones become `phones.ctm`, words the file `words`, where the manifest has them.
    """
    by_id = {utterance.id: utterance for utterance in utterances}
    ordered = [by_id[id_] for id_ in sorted(by_id, key=str.encode)]
    for utterance in ordered:
        for text in (utterance.id, utterance.speaker):
            if not text or len(text.split()) != 1:
                raise DataError(f"{utterance.id!r}: Kaldi takes no spaces in ids, found {text!r}")
        if utterance.audio.strip() != utterance.audio or utterance.audio.endswith("|"):
            raise DataError(f"{utterance.id}: Kaldi cannot read the path {utterance.audio!r}")
    speakers: dict[str, list[Utterance]] = {}
    for utterance in ordered:
        speakers.setdefault(utterance.speaker, []).append(utterance)
    named = sorted(speakers, key=str.encode)
    _write(folder / "wav.scp", (f"{u.id} {u.audio}" for u in ordered))
    _write(folder / "text", (" ".join([u.id, *u.phones]) for u in ordered))
    _write(folder / "utt2spk", (f"{u.id} {u.speaker}" for u in ordered))
    _write(folder / "utt2dur", (f"{u.id} {u.duration_s:.6f}" for u in ordered))
    _write(folder / "spk2utt", (" ".join([s, *(u.id for u in speakers[s])]) for s in named))
    sexes = {s: {u.sex for u in speakers[s]} for s in named}
    if all(len(found) == 1 and None not in found for found in sexes.values()):
        _write(folder / "spk2gender", (f"{s} {next(iter(sexes[s]))}" for s in named))
    if any(u.words for u in ordered):
        _write(folder / "words", (f"{u.id} {u.words}" for u in ordered if u.words))
    if any(u.segments for u in ordered):
        _write(
            folder / "phones.ctm",
            (
                f"{u.id} 1 {s.start_s:.6f} {s.end_s - s.start_s:.6f} {s.phone}"
                for u in ordered
                for s in u.segments or ()
            ),
        )


def write_lhotse(utterances: Sequence[Utterance], folder: Path) -> None:
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
        kept = ("words", "corpus", "dialect")
        if custom := {key: found for key in kept if (found := getattr(utterance, key))}:
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


def _write(path: Path, lines: Iterable[str]) -> None:
    with atomic_open(path) as file:
        file.writelines(f"{line}\n" for line in lines)


@exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="asr exchange",
        description="Write manifests as Kaldi data directories or as Lhotse manifests.",
        epilog="To read either: asr prepare experiment=folder corpus.root=FOLDER",
    )
    parser.add_argument("format", choices=("kaldi", "lhotse"))
    parser.add_argument(
        "manifest", type=Path, help="a manifest, or the folder of a run's manifests"
    )
    parser.add_argument("target", type=Path, help="folder to write into")
    options = parser.parse_args(arguments)
    for folder in run(options.format, options.manifest, options.target):
        print(folder)
