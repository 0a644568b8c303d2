"""What corpora share: recordings and how they become utterances, TIMIT trees, problem lists.

Finding is cheap and opens no audio; `examine` opens the files of one recording and is a pure
function, so that `asr.prepare` can run it in many processes. This file decides no split and no
protocol; each corpus does that for itself.
"""

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from asr import audio
from asr.audio import AudioInfo
from asr.phones import phone_set, unknown_phone
from asr.records import DataError, Segment, Utterance

Labels = tuple[tuple[str, ...], tuple[Segment, ...] | None]  # phones, and their times where known
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


@dataclass(frozen=True, slots=True)
class Recording:
    """One utterance as the tree shows it: nothing has been opened yet."""

    id: str
    audio: str
    speaker: str
    labels: str | None = None  # file of phones with times
    words: str | None = None  # transcript, where the phones come from a lexicon
    sex: str | None = None
    dialect: str | None = None
    part: str | None = None  # "train" or "test" where a TIMIT tree says so


class Labeller(Protocol):
    """Finds the phones of a recording; picklable, built once for a corpus."""

    def __call__(self, recording: Recording, header: AudioInfo) -> Labels: ...


@dataclass(frozen=True)
class Found:
    """What a walk over a corpus finds: its recordings by split, and how their phones are found."""

    corpus: str  # the name that is printed with every result
    splits: dict[str, list[Recording]]
    labeller: Labeller
    sample_rate: int


def examine(recording: Recording, split: str, found: Found) -> Utterance:
    """Open what belongs to a recording and check it; all that is wrong is in one `DataError`."""
    header = audio.info(recording.audio)
    audio.require_mono(recording.audio, header.channels)
    audio.require_rate(recording.audio, header.sample_rate, found.sample_rate)
    phones, segments = found.labeller(recording, header)
    return Utterance(
        id=recording.id,
        audio=recording.audio,
        duration_s=header.duration_s,
        speaker=recording.speaker,
        phones=phones,
        segments=segments,
        corpus=found.corpus,
        split=split,
        sex=recording.sex,
        dialect=recording.dialect,
    )


@dataclass(frozen=True)
class PhnLabeller:
    """Phones and times from the `.phn` file beside the audio."""

    phone_set: str

    def __call__(self, recording: Recording, header: AudioInfo) -> Labels:
        assert recording.labels is not None
        known = frozenset(phone_set(self.phone_set))
        segments = read_phn(Path(recording.labels), header.samples, header.sample_rate, known)
        return tuple(segment.phone for segment in segments), segments


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
    speaker = flat[2] if flat else name
    regions = [part[2:] for part in parts if re.fullmatch(r"dr\d", part)]
    return Recording(
        id=f"{speaker}_{stem}",
        audio=str(wav),
        labels=str(phn),
        speaker=speaker,
        sex=speaker[0] if speaker[0] in "mf" else None,
        dialect=flat[1] if flat else (regions[-1] if regions else None),
        part=next((part for part in reversed(parts) if part in ("train", "test")), None),
    )
