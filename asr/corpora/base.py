"""What corpora share: the TIMIT tree in every layout and letter case, `.phn` labels, problem lists.

This file decides no split and no protocol; each corpus does that for itself.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from asr import audio
from asr.phones import phone_set, unknown_phone
from asr.records import DataError, Segment, Utterance

Splits = dict[str, list[Utterance]]
SPLITS = ("train", "dev", "test")

# A label may end this far behind the audio: TIMIT's last labels overshoot by a few samples.
OVERSHOOT_SAMPLES = 160


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CorpusConfig:
    """Where a corpus lies and what its labels are."""

    root: str  # folder of the corpus
    name: str  # printed with every result
    phone_set: str = "timit61"
    sample_rate: int = 16_000

    def __post_init__(self) -> None:
        if not self.root.strip():
            raise ValueError("corpus.root is empty; say where the corpus lies")


@dataclass(frozen=True)
class Recording:
    """One sentence of a TIMIT tree: its files, and what its place in the tree says about it."""

    audio: Path
    labels: Path
    speaker: str
    sentence: str  # "sa1", "si1027", "sx37": lower case
    dialect: str | None
    folder: str | None  # "train" or "test" where the tree says so

    @property
    def id(self) -> str:
        return f"{self.speaker}_{self.sentence}"


def find_recordings(root: Path) -> list[Recording]:
    """Find audio with `.phn` labels below `root`, in any letter case, sorted by id.

    Known layouts: `TRAIN/DR1/FCJF0/SA1.WAV` (LDC, also `SA1.WAV.wav`), `dr1-fvmh0/sa1.wav` (NLTK).
    All files that lack their partner or stand twice are listed in one `DataError`.
    """
    root = root.absolute()
    require_folder(root)
    found: dict[tuple[Path, str], dict[str, list[Path]]] = {}
    for path in _files(root):
        stem, kind = _stem_and_kind(path.name)
        if kind:
            found.setdefault((path.parent, stem), {}).setdefault(kind, []).append(path)
    problems, recordings = [], []
    for (folder, stem), files in sorted(found.items()):
        if len(files.get("labels", ())) > 1 or len(files.get("audio", ())) > 1:
            several = sorted(str(path) for paths in files.values() for path in paths)
            problems.append(f"{folder}/{stem}: ambiguous, keep one of {', '.join(several)}")
        elif "audio" not in files:
            problems.append(f"{files['labels'][0]}: has no audio file beside it")
        elif "labels" not in files:
            problems.append(f"{files['audio'][0]}: has no .phn file beside it")
        else:
            recordings.append(_recording(root, folder, stem, files["audio"][0], files["labels"][0]))
    first: dict[str, Recording] = {}
    for recording in recordings:
        if recording.id in first:
            problems.append(
                f"{recording.audio}: {recording.id} is also {first[recording.id].audio}"
            )
        first.setdefault(recording.id, recording)
    raise_problems(problems)
    if not recordings:
        raise DataError(
            f"{root}: no utterances found; expected audio and .phn files as in "
            f"{root}/TRAIN/DR1/FCJF0/SI648.WAV or {root}/dr1-fvmh0/si836.wav"
        )
    return sorted(recordings, key=lambda recording: recording.id)


def read_utterances(recordings: Mapping[str, list[Recording]], config: CorpusConfig) -> Splits:
    """Read labels and audio headers of all splits; every bad file is listed in one `DataError`."""
    known = frozenset(phone_set(config.phone_set))
    problems: list[str] = []
    splits: Splits = {}
    for split, members in recordings.items():
        splits[split] = []
        for recording in members:
            try:
                header = audio.info(recording.audio)
                audio.require_mono(recording.audio, header.channels)
                audio.require_rate(recording.audio, header.sample_rate, config.sample_rate)
                segments = read_phn(recording.labels, header.samples, header.sample_rate, known)
            except DataError as error:
                problems.append(str(error))
                continue
            splits[split].append(
                Utterance(
                    id=recording.id,
                    audio=str(recording.audio),
                    duration_s=header.duration_s,
                    speaker=recording.speaker,
                    phones=tuple(segment.phone for segment in segments),
                    segments=segments,
                    corpus=config.name,
                    split=split,
                    sex=recording.speaker[0] if recording.speaker[0] in "mf" else None,
                    dialect=recording.dialect,
                )
            )
    raise_problems(problems)
    for split in SPLITS:
        if not splits.get(split):
            raise DataError(f"{config.root}: the split {split!r} is empty")
    return splits


def read_phn(
    path: Path, samples: int, sample_rate: int, known: frozenset[str]
) -> tuple[Segment, ...]:
    """Read `start end label` lines in samples; all bad lines are listed in one `DataError`.

    Ends up to 160 samples behind the audio are moved to its end; labels may be in any letter case.
    """
    problems: list[str] = []
    segments: list[Segment] = []
    previous_end = 0
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from error
    for number, line in enumerate(lines, start=1):
        parts = line.split()
        if not parts:
            continue
        where = f"{path}:{number}"
        if len(parts) != 3 or not (parts[0].isdecimal() and parts[1].isdecimal()):
            problems.append(
                f"{where}: found {line.strip()!r}, expected `start end label` in samples"
            )
            continue
        start, end, phone = int(parts[0]), int(parts[1]), parts[2].lower()
        if phone not in known:
            problems.append(f"{where}: {unknown_phone(phone, known, 'the TIMIT labels')}")
        if samples < end <= samples + OVERSHOOT_SAMPLES:
            end = samples
        if end > samples:
            problems.append(f"{where}: label ends at sample {end}, the audio at {samples}")
        elif start >= end:
            problems.append(f"{where}: label starts at {start} and ends at {end}")
        elif start < previous_end:
            problems.append(
                f"{where}: starts at {start}, before the last label's end {previous_end}"
            )
        previous_end = end
        segments.append(Segment(phone, start / sample_rate, end / sample_rate))
    if not segments and not problems:
        problems.append(f"{path}: no labels")
    raise_problems(problems)
    return tuple(segments)


def split_by_speaker(recordings: list[Recording], path: Path) -> dict[str, list[Recording]]:
    """Split by a list of `speaker split` lines; speakers that it does not name are logged."""
    split_of = read_speaker_splits(path)
    unlisted = sorted({recording.speaker for recording in recordings} - split_of.keys())
    if unlisted:
        log.warning(
            "%d speakers are in no split of %s and are left out: %s",
            len(unlisted),
            path,
            " ".join(unlisted),
        )
    return {split: [r for r in recordings if split_of.get(r.speaker) == split] for split in SPLITS}


def read_speaker_splits(path: Path) -> dict[str, str]:
    """Read `speaker split …` lines into speaker → split; `#` starts a comment line."""
    splits: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from error
    for number, line in enumerate(lines, start=1):
        parts = line.split()
        if not parts or line.startswith("#"):
            continue
        if len(parts) < 2 or parts[1] not in SPLITS:
            raise DataError(f"{path}:{number}: found {line!r}, expected `speaker train|dev|test`")
        speaker = parts[0].lower()
        if splits.setdefault(speaker, parts[1]) != parts[1]:
            raise DataError(
                f"{path}:{number}: speaker {speaker} is already in {splits[speaker]}: "
                f"a speaker belongs to one split"
            )
    return splits


def require_folder(root: Path) -> None:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the folder of the corpus")
    if not any(root.iterdir()):
        raise DataError(f"{root}: the folder is empty; give the folder of the corpus")


def raise_problems(problems: list[str]) -> None:
    """Raise one `DataError` that lists every problem, or do nothing if there is none."""
    if len(problems) == 1:
        raise DataError(problems[0])
    if problems:
        raise DataError("\n".join([f"{len(problems)} problems:", *problems]))


def _files(root: Path) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a loop of links
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _stem_and_kind(name: str) -> tuple[str, str | None]:
    lower = name.lower()
    for ending, kind in ((".wav.wav", "audio"), (".wav", "audio"), (".phn", "labels")):
        if lower.endswith(ending):
            return lower.removesuffix(ending), kind
    return lower, None


def _recording(root: Path, folder: Path, stem: str, wav: Path, phn: Path) -> Recording:
    parts = [part.lower() for part in folder.relative_to(root).parts]
    name = folder.name.lower()
    flat = re.fullmatch(r"dr(\d)-(\w+)", name)
    regions = [part for part in parts if re.fullmatch(r"dr\d", part)]
    folders = [part for part in parts if part in ("train", "test")]
    return Recording(
        audio=wav,
        labels=phn,
        speaker=flat[2] if flat else name,
        sentence=stem,
        dialect=flat[1] if flat else (regions[-1][2:] if regions else None),
        folder=folders[-1] if folders else None,
    )
