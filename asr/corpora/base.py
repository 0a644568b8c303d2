"""What corpora share: recordings and how they become utterances, TIMIT trees, problem lists.

Finding is cheap and opens no audio; `check` opens the files of one recording and is a pure
function, so that `asr prepare` can run it in many processes. This file decides no split and no
protocol; each corpus does that for itself.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from asr import audio
from asr.audio import AudioInfo
from asr.errors import DataError, raise_problems
from asr.files import read_lines
from asr.knobs import REQUIRED, Knobs, knob
from asr.labels.phn import OVERSHOOT_SAMPLES, read_phn
from asr.phones import phone_set
from asr.records import Segment, Utterance

Labels = tuple[tuple[str, ...], tuple[Segment, ...] | None]  # phones, and their times where known
SPLITS = ("train", "dev", "test")
ENDINGS = ((".wav.wav", "audio"), (".wav", "audio"), (".phn", "labels"), (".txt", "text"))
WINDOW_S = 0.025  # of the features, unless a run says otherwise

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CorpusConfig(Knobs, group="corpus"):
    """Where a corpus is and what its labels are."""

    root: str = knob(REQUIRED, "folder of the corpus", filled=True)
    name: str = knob(REQUIRED, "printed with every result")
    phone_set: str = knob("timit61", "of the labels")
    sample_rate: int = knob(16_000, "Hz; features.sample_rate must be the same")
    protocol: str = knob("strict", "of scoring dev PER (docs/scoring.md)")
    shared_speakers: bool = knob(False, "allow a speaker in several splits")


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
    text: str | None = None  # file with the words, read only to find a sentence in two splits


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
    named: dict[str, str] = field(default_factory=dict)  # splits that print another name: theirs
    phones: tuple[str, ...] | None = None  # of the vocabulary, where no phone set has this name
    pronunciation: str | None = None  # policy: which of a word's pronunciations are the labels
    window_s: float = WINDOW_S  # no recording may be shorter
    report: dict[str, str] = field(default_factory=dict)  # files beside the manifests → their text

    def name_of(self, split: str) -> str:
        """The name that is printed with every result on this split."""
        return self.named.get(split, self.corpus)


class IncompleteCorpus(DataError):  # noqa: N818
    """A walk found faults: `bad` files, what is `wrong` with the whole, and in `found` the rest."""

    def __init__(self, bad: Sequence[str], found: Found, wrong: Sequence[str] = ()) -> None:
        problems = [*wrong, *bad]
        count = [f"{len(problems)} problems:"] if len(problems) > 1 else []
        super().__init__("\n".join([*count, *problems]), problems)
        self.found = found
        self.bad = tuple(bad)
        self.wrong = tuple(wrong)


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of one recording: an utterance, or the problems for which there is none."""

    utterance: Utterance | None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    content: int | None = None  # hash of the samples; None: silent, or not decoded
    sentence: int | None = None  # hash of the words; None: not known


def check(recording: Recording, split: str, found: Found) -> Checked:
    """Open what belongs to a recording, decode it, and find all that is wrong with it."""
    window_samples = round(found.window_s * found.sample_rate)
    sound = audio.inspect(recording.audio, found.sample_rate, window_samples)
    problems, warnings = list(sound.problems), list(sound.warnings)
    words, broken = _words(recording)
    warnings.extend(broken)
    utterance = None
    header = sound.header
    if header is not None and header.sample_rate == found.sample_rate:
        try:
            phones, segments = found.labeller(recording, header)
        except DataError as error:
            problems.extend(error.problems)
        else:
            warnings.extend(_gaps(recording, segments, header))
            if not problems:
                utterance = _utterance(recording, split, found, header, phones, segments)
    return Checked(
        utterance,
        tuple(problems),
        tuple(warnings),
        sound.content,
        int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest()) if words else None,
    )


def examine(recording: Recording, split: str, found: Found) -> Utterance:
    """The utterance of a recording; all that `check` finds wrong is in one `DataError`."""
    checked = check(recording, split, found)
    raise_problems(checked.problems)
    assert checked.utterance is not None
    return checked.utterance


def _utterance(
    recording: Recording,
    split: str,
    found: Found,
    header: AudioInfo,
    phones: tuple[str, ...],
    segments: tuple[Segment, ...] | None,
) -> Utterance:
    return Utterance(
        id=recording.id,
        audio=recording.audio,
        duration_s=header.duration_s,
        speaker=recording.speaker,
        phones=phones,
        segments=segments,
        corpus=found.name_of(split),
        split=split,
        sex=recording.sex,
        dialect=recording.dialect,
        words=recording.words,
        pronunciation="aligned" if found.pronunciation and segments else found.pronunciation,
    )


def _words(recording: Recording) -> tuple[str, list[str]]:
    """The words of a recording in lower case, without punctuation, and what is wrong with them."""
    text = recording.words or ""
    if recording.text is not None:
        try:
            text = " ".join(read_lines(recording.text))
        except DataError as error:
            return "", list(error.problems)
        text = re.sub(r"^\s*\d+\s+\d+\s", "", text)  # TIMIT: first and last sample
    return " ".join(re.findall(r"[\w']+", text.lower())), []


def _gaps(
    recording: Recording, segments: tuple[Segment, ...] | None, header: AudioInfo
) -> Iterator[str]:
    """A warning where `.phn` labels leave parts of the audio without one."""
    if not segments or not (recording.labels or "").lower().endswith(".phn"):
        return
    edges = [0, *(round(s.end_s * header.sample_rate) for s in segments)]
    starts = [*(round(s.start_s * header.sample_rate) for s in segments), header.samples]
    gaps = [(end, start) for end, start in zip(edges, starts, strict=True) if start > end]
    if gaps and gaps[-1][1] == header.samples <= gaps[-1][0] + OVERSHOOT_SAMPLES:
        gaps.pop()
    if gaps:
        places = ", ".join(f"samples {end} to {start}" for end, start in gaps[:3])
        more = f" and {len(gaps) - 3} more" if len(gaps) > 3 else ""
        yield f"{recording.labels}: no label for {places}{more}"


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
    """All that `survey` finds below `root`; its problems are in one `DataError`."""
    recordings, problems = survey(root)
    raise_problems(problems)
    return recordings


def survey(root: Path) -> tuple[list[Recording], list[str]]:
    """Find audio with `.phn` labels below `root`, in any letter case, sorted by id.

    Known layouts: `TRAIN/DR1/FCJF0/SA1.WAV` (LDC, also `SA1.WAV.wav`), `dr1-fvmh0/sa1.wav` (NLTK).
    Files that lack their partner or stand twice are problems, one line for each. Raises
    `DataError` where there is nothing at all.
    """
    root = root.absolute()
    require_folder(root)
    problems: list[str] = []
    recordings: list[Recording] = []
    for folder, names in walk(root, problems):
        found: dict[str, dict[str, list[str]]] = {}
        for name in names:
            stem, kind = _stem_and_kind(name)
            if kind:
                found.setdefault(stem, {}).setdefault(kind, []).append(os.path.join(folder, name))
        for stem, files in sorted(found.items()):
            if "audio" not in files and "labels" not in files:
                continue
            problem = _incomplete(stem, files)
            if problem is None:
                recordings.append(_recording(root, folder, stem, files))
            else:
                problems.append(problem)
    recordings.sort(key=lambda recording: (recording.id, recording.audio))
    unique: list[Recording] = []
    for recording in recordings:
        if unique and recording.id == unique[-1].id:
            problems.append(
                f"{recording.audio}: {recording.id} is also {unique[-1].audio}; keep one of them, "
                f"or rename it"
            )
        else:
            unique.append(recording)
    if not unique and not problems:
        raise DataError(
            f"{root}: no utterances found; expected audio and .phn files as in "
            f"{root}/TRAIN/DR1/FCJF0/SI648.WAV or {root}/dr1-fvmh0/si836.wav"
        )
    return unique, sorted(problems)


def split_by_speaker(recordings: list[Recording], path: Path) -> dict[str, list[Recording]]:
    """Split by a list of `speaker split` lines; speakers that it does not name are logged."""
    split_of = read_speaker_splits(path)
    unlisted = sorted({recording.speaker.lower() for recording in recordings} - split_of.keys())
    if unlisted:
        log.warning(
            "%d speakers are in no split of %s and are left out: %s",
            len(unlisted),
            path,
            " ".join(unlisted),
        )
    return {
        split: [r for r in recordings if split_of.get(r.speaker.lower()) == split]
        for split in SPLITS
    }


def read_speaker_splits(path: Path) -> dict[str, str]:
    """Read `speaker split …` lines into speaker → split; `#` starts a comment line."""
    splits: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), start=1):
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


def walk(root: Path, problems: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Folders below `root` with the names of their files, hidden ones left out, in a fixed order.

    Links are followed, but no folder is visited twice. What cannot be listed is a problem.
    """

    def unlisted(error: OSError) -> None:
        problems.append(f"{error.filename}: cannot be listed ({error.strerror}); mend its rights")

    seen: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=unlisted):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a loop of links
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield folder, sorted(name for name in names if not name.startswith("."))


def _incomplete(stem: str, files: dict[str, list[str]]) -> str | None:
    """What is wrong with the files of one recording, before any of them is opened."""
    everything = sorted(path for paths in files.values() for path in paths)
    unspeakable = next((path for path in everything if not _is_one_line(path)), None)
    if unspeakable is not None:
        return f"{unspeakable!r}: a name with a line break, or not UTF-8; rename it"
    if len(files.get("labels", ())) > 1 or len(files.get("audio", ())) > 1:
        several = [path for path in everything if path not in files.get("text", ())]
        folder = os.path.dirname(several[0])
        return f"{folder}/{stem}: ambiguous, keep one of {', '.join(several)}"
    if "audio" not in files:
        return f"{files['labels'][0]}: has no audio file beside it; add it, or leave both out"
    if "labels" not in files:
        return f"{files['audio'][0]}: has no .phn file beside it; add it, or leave both out"
    return None


def _is_one_line(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return len(path.splitlines()) == 1


def _stem_and_kind(name: str) -> tuple[str, str | None]:
    lower = name.lower()
    for ending, kind in ENDINGS:
        if lower.endswith(ending):
            return lower.removesuffix(ending), kind
    return lower, None


def _recording(root: Path, folder: str, stem: str, files: dict[str, list[str]]) -> Recording:
    parts = [part.lower() for part in Path(folder).relative_to(root).parts]
    name = os.path.basename(folder).lower()
    flat = re.fullmatch(r"dr(\d)-(\w+)", name)
    speaker = flat[2] if flat else name
    regions = [part[2:] for part in parts if re.fullmatch(r"dr\d", part)]
    return Recording(
        id=f"{speaker}_{stem}",
        audio=files["audio"][0],
        labels=files["labels"][0],
        speaker=speaker,
        sex=speaker[0] if speaker[0] in "mf" else None,
        dialect=flat[1] if flat else (regions[-1] if regions else None),
        part=next((part for part in reversed(parts) if part in ("train", "test")), None),
        text=files["text"][0] if "text" in files else None,
    )
