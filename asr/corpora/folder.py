"""Any folder of speech: audio with labels beside it, a Kaldi data directory, Lhotse manifests.

Labels are `.phn`, TextGrid or `.lab` files, or the `text` of Kaldi and Lhotse. Speakers are split
by a list, by folders named train, dev and test, or by chance, and then never shared. This file cuts
no audio: an utterance is a file, and `segments` or supervisions inside one are refused.
"""

import gzip
import json
import logging
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from asr.audio import ENDINGS, AudioInfo
from asr.corpora import lexicon
from asr.corpora.base import (
    SPLITS,
    CorpusConfig,
    Found,
    IncompleteCorpus,
    Labels,
    Recording,
    require_folder,
    split_by_speaker,
    walk,
)
from asr.corpora.lexicon import Pronunciation
from asr.errors import DataError, raise_problems
from asr.files import read_lines
from asr.knobs import knob
from asr.labels import textgrid
from asr.labels.phn import read_phn
from asr.phones import BLANK, phone_set, unknown_phone
from asr.records import Segment

LABELS = (".phn", ".textgrid", ".lab")
FROM_LABELS = "from-labels"
OVERSHOOT_S = 0.02  # labels may end this far behind the audio
PHONE_ALIGNMENTS = ("phone", "phones", "phoneme")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderConfig(CorpusConfig):
    """How a folder is read, and who is in which split."""

    name: str = "folder"
    phone_set: str = knob(FROM_LABELS, "or a set, or a file with one phone a line")
    protocol: str = "none"
    layout: str = knob("auto", "of the files", one_of=("auto", "tree", "kaldi", "lhotse"))
    speaker: str = knob(
        "folder",
        "of a tree: name of the audio's folder, of the top folder, or prefix of the file name",
        one_of=("folder", "top", "prefix"),
    )
    speakers: str | None = knob(None, "file of `speaker split` lines")
    dev: float = knob(0.1, "share of speakers, where no list or folder splits them", more_than=0)
    test: float = knob(0.1, "share of speakers, likewise", more_than=0)
    split_seed: int = knob(0, "of this random split")
    lexicon: str | None = knob(None, "pronunciations, where Kaldi's or Lhotse's text is words")
    g2p: str = knob(
        "none", "phones of words outside of the lexicon; none: an error", one_of=("espeak", "none")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dev + self.test >= 1:
            raise ValueError(
                f"corpus.dev is {self.dev} and corpus.test is {self.test}, expected less than 1 "
                f"together"
            )
        if self.lexicon is not None and self.phone_set not in (FROM_LABELS, "arpabet39"):
            raise ValueError(
                f"corpus.phone_set is {self.phone_set!r}, but a lexicon's phones are arpabet39"
            )


@dataclass
class Tree:
    """What a layout holds: recordings, the phones that stand in no file of theirs, and faults."""

    recordings: list[Recording] = field(default_factory=list)
    phones: dict[str, tuple[str, ...]] = field(default_factory=dict)  # id → phones
    segments: dict[str, tuple[Segment, ...]] = field(default_factory=dict)  # id → with times
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FolderLabeller:
    """Phones from the label file of a recording, or those that its manifest gave."""

    known: frozenset[str]
    set_name: str
    phones: dict[str, tuple[str, ...]]
    segments: dict[str, tuple[Segment, ...]]

    def __call__(self, recording: Recording, header: AudioInfo) -> Labels:
        if recording.labels is not None:
            segments = read_labels(Path(recording.labels), header, self.known, self.set_name)
            return tuple(segment.phone for segment in segments), segments
        segments = self.segments.get(recording.id, ())
        if segments:
            timed = [(s.start_s, s.end_s, s.phone) for s in segments]
            segments = _checked(recording.id, timed, header, self.known, self.set_name)
            return tuple(segment.phone for segment in segments), segments
        phones = self.phones[recording.id]
        unknown = sorted(set(phones) - self.known)
        raise_problems(
            [f"{recording.id}: {unknown_phone(p, self.known, self.set_name)}" for p in unknown]
        )
        return phones, None


def find(config: FolderConfig) -> Found:
    """Recordings of train, dev and test, and the phones that their labels use.

    With `from-labels` every label file is read here, and its labels are the vocabulary: nothing
    then tells a mistyped label from a rare one, so the vocabulary is logged with its rarest.

    Raises `IncompleteCorpus`, with the rest, where files lack their partners.
    """
    root = Path(config.root).absolute()
    require_folder(root)
    layout = config.layout if config.layout != "auto" else detect_layout(root)
    read = {"tree": _tree, "kaldi": _kaldi, "lhotse": _lhotse}[layout]
    parts = [split for split in SPLITS if (root / split).is_dir()]
    in_folders = config.speakers is None and parts == list(SPLITS)
    trees = {split: read(root / split, config) for split in (SPLITS if in_folders else (".",))}
    problems = [problem for tree in trees.values() for problem in tree.problems]
    if not any(tree.recordings for tree in trees.values()):
        raise_problems(problems)
    if in_folders:
        how = "by its folders train, dev and test"
        splits = {split: trees[split].recordings for split in SPLITS}
    elif config.speakers is not None:
        how = f"by {config.speakers}"
        splits = split_by_speaker(trees["."].recordings, Path(config.speakers))
    else:
        how = f"by chance, seed {config.split_seed}; manifests/speakers.txt is the list"
        try:
            splits = split_by_chance(
                trees["."].recordings, config.dev, config.test, config.split_seed
            )
        except DataError as error:
            raise_problems([*problems, *error.problems])
            raise
    phones = {id_: found for tree in trees.values() for id_, found in tree.phones.items()}
    segments = {id_: found for tree in trees.values() for id_, found in tree.segments.items()}
    splits = {split: sorted(found, key=lambda r: r.id) for split, found in splits.items()}
    problems.extend(_doubles(splits))
    log.info("%s: a %s layout, split %s", root, layout, how)
    report = {"speakers.txt": _speaker_list(splits)}
    if config.lexicon is not None:
        splits, phones, extra = _pronounce(config, splits, phones, problems)
        report |= extra
    vocabulary, set_name = _vocabulary(config, splits, phones, segments)
    found = Found(
        config.name,
        splits,
        FolderLabeller(frozenset(vocabulary), set_name, phones, segments),
        config.sample_rate,
        phones=vocabulary,
        pronunciation=None if config.lexicon is None else "first",
        report=report,
    )
    if problems:
        raise IncompleteCorpus(problems, found)
    return found


def detect_layout(root: Path) -> str:
    """`kaldi` where there is a wav.scp, `lhotse` where there are supervisions, else `tree`."""
    folders = [root, *(root / split for split in SPLITS)]
    if any((folder / "wav.scp").is_file() for folder in folders):
        return "kaldi"
    if any(_manifests(folder, "supervisions") for folder in folders):
        return "lhotse"
    return "tree"


def split_by_chance(
    recordings: Sequence[Recording], dev: float, test: float, seed: int
) -> dict[str, list[Recording]]:
    """Draw speakers for dev and test, one each at least; a seed always draws the same."""
    speakers = sorted({recording.speaker for recording in recordings})
    if len(speakers) < len(SPLITS):
        raise DataError(
            f"{len(speakers)} speakers ({', '.join(speakers) or 'none'}) are too few for three "
            f"splits; look at corpus.speaker, or make folders train, dev and test"
        )
    random.Random(f"split {seed}").shuffle(speakers)
    n_dev, n_test = (max(1, round(part * len(speakers))) for part in (dev, test))
    n_dev = min(n_dev, len(speakers) - 2)
    n_test = min(n_test, len(speakers) - 1 - n_dev)
    split_of = dict.fromkeys(speakers, "train")
    split_of |= dict.fromkeys(speakers[:n_dev], "dev")
    split_of |= dict.fromkeys(speakers[n_dev : n_dev + n_test], "test")
    return {split: [r for r in recordings if split_of[r.speaker] == split] for split in SPLITS}


def read_labels(
    path: Path, header: AudioInfo, known: frozenset[str], set_name: str
) -> tuple[Segment, ...]:
    """The labels of one `.phn`, TextGrid or `.lab` file, checked against the audio's length."""
    if path.suffix.lower() == ".phn":
        return read_phn(path, header.samples, header.sample_rate, known)
    read = textgrid.read_lab if path.suffix.lower() == ".lab" else textgrid.read_phones
    return _checked(str(path), list(read(path)), header, known, set_name)


def _checked(
    where: str,
    timed: Sequence[tuple[float, float, str]],
    header: AudioInfo,
    known: frozenset[str],
    set_name: str,
) -> tuple[Segment, ...]:
    problems: list[str] = []
    segments: list[Segment] = []
    previous_end = 0.0
    for start, end, label in timed:
        place = f"{where}: {label!r} at {start:g} s"
        if label not in known:
            problems.append(f"{place}: {unknown_phone(label, known, set_name)}")
        if end > header.duration_s + OVERSHOOT_S:
            problems.append(f"{place}: ends at {end:g} s, the audio at {header.duration_s:g} s")
        elif start >= min(end, header.duration_s):
            problems.append(f"{place}: ends at {end:g} s, expected an end behind the start")
        elif start < previous_end - 1e-6:
            problems.append(f"{place}: begins before the last label's end {previous_end:g} s")
        previous_end = end
        segments.append(Segment(label, start, min(end, header.duration_s)))
    if not timed:
        problems.append(f"{where}: no labels")
    raise_problems(problems)
    return tuple(segments)


# ---------------------------------------------------------------- audio with labels beside it


def _tree(root: Path, config: FolderConfig) -> Tree:
    tree = Tree()
    found: dict[Path, dict[str, list[Path]]] = {}
    for folder, names in walk(root, tree.problems):
        for path in (Path(folder, name) for name in names):
            kind = "audio" if path.suffix.lower() in ENDINGS else "labels"
            if kind == "audio" or path.suffix.lower() in LABELS:
                found.setdefault(path.with_name(_stem(path)), {}).setdefault(kind, []).append(path)
    for stem, files in sorted(found.items()):
        audio, labels = files.get("audio", []), files.get("labels", [])
        if len(audio) > 1 or len(labels) > 1:
            several = ", ".join(str(path) for path in sorted([*audio, *labels]))
            tree.problems.append(f"{stem}: ambiguous, keep one of {several}")
        elif not audio:
            tree.problems.append(f"{labels[0]}: has no audio file beside it")
        elif not labels:
            tree.problems.append(f"{audio[0]}: has no .phn, .TextGrid or .lab file beside it")
        else:
            speaker = _speaker(root, stem, config.speaker)
            id_ = stem.name if stem.name.startswith(speaker) else f"{speaker}_{stem.name}"
            tree.recordings.append(Recording(id_, str(audio[0]), speaker, str(labels[0])))
    if not found:
        raise DataError(
            f"{root}: no audio ({', '.join(ENDINGS)}) and no labels ({', '.join(LABELS)}) below it"
        )
    return tree


def _speaker(root: Path, stem: Path, rule: str) -> str:
    if rule == "prefix":
        return re.split(r"[-_]", stem.name, maxsplit=1)[0]
    folders = stem.parent.relative_to(root).parts
    if not folders:
        raise DataError(
            f"{stem}: lies in no folder of a speaker; say corpus.speaker=prefix if names begin "
            f"with the speaker"
        )
    return folders[0] if rule == "top" else folders[-1]


def _stem(path: Path) -> str:
    """The name without its ending, or both of `SA1.WAV.wav`."""
    stem = path.name[: -len(path.suffix)]
    return stem[:-4] if stem.lower().endswith(".wav") else stem


# ---------------------------------------------------------------- Kaldi


def _kaldi(folder: Path, config: FolderConfig) -> Tree:
    """wav.scp, text and utt2spk of a data directory; spk2gender where there is one."""
    tree = Tree()
    if (folder / "segments").exists():
        raise DataError(
            f"{folder / 'segments'}: utterances inside longer recordings are not read; cut them "
            f"first, for example with Kaldi's extract-segments or `lhotse cut trim-to-supervisions`"
        )
    audio = _table(folder / "wav.scp", tree.problems)
    text = _table(folder / "text", tree.problems)
    speakers = _table(folder / "utt2spk", tree.problems)
    sexes = _table(folder / "spk2gender", []) if (folder / "spk2gender").is_file() else {}
    for id_, (number, path) in audio.items():
        where = f"{folder / 'wav.scp'}:{number}"
        speaker = speakers.get(id_, (0, ""))[1]
        sex = sexes.get(speaker, (0, ""))[1].lower()
        if path.endswith("|") or path.startswith("|"):
            tree.problems.append(
                f"{where}: {path!r} is a command, expected a file; run it, and name what it wrote "
                f"(Kaldi: wav-copy scp:wav.scp ark,scp:…, or sph2pipe -f wav IN OUT)"
            )
        elif re.search(r"\.ark:\d+$", path):
            tree.problems.append(f"{where}: {path!r} lies in an archive, expected a file")
        elif id_ not in text:
            tree.problems.append(f"{where}: {id_} has no line in {folder / 'text'}")
        elif not speaker:
            tree.problems.append(f"{where}: {id_} has no line in {folder / 'utt2spk'}")
        else:
            full = path if Path(path).is_absolute() else str(_relative(path, folder))
            tree.recordings.append(Recording(id_, full, speaker, sex=sex or None))
            tree.phones[id_] = tuple(text[id_][1].split())
            if not tree.phones[id_]:
                tree.problems.append(f"{folder / 'text'}:{text[id_][0]}: {id_} has no phones")
                tree.recordings.pop()
    tree.problems.extend(
        f"{folder / 'text'}:{number}: {id_} has no line in {folder / 'wav.scp'}"
        for id_, (number, _) in text.items()
        if id_ not in audio
    )
    return tree


def _table(path: Path, problems: list[str]) -> dict[str, tuple[int, str]]:
    """Lines `id rest` → id: (line, rest)."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; a Kaldi data directory has wav.scp, text, utt2spk")
    table: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        id_, _, rest = line.strip().partition(" ")
        if id_ in table:
            problems.append(f"{path}:{number}: {id_} stands already in line {table[id_][0]}")
            continue
        table[id_] = (number, rest.strip())
    return table


def _relative(path: str, folder: Path) -> Path:
    """Kaldi's paths begin where its scripts run; ours also below the data directory."""
    return Path(path).absolute() if Path(path).exists() else folder / path


# ---------------------------------------------------------------- Lhotse


def _lhotse(folder: Path, config: FolderConfig) -> Tree:
    """Recordings and supervisions (JSONL, also gzipped), one supervision for a whole recording."""
    tree = Tree()
    recordings: dict[str, tuple[str, dict[str, Any]]] = {}
    for path in _manifests(folder, "recordings"):
        for where, row in _jsonl(path):
            if row["id"] in recordings:
                tree.problems.append(f"{where}: recording {row['id']!r} stands there twice")
            recordings.setdefault(row["id"], (where, row))
    if not recordings:
        raise DataError(f"{folder}: no recordings*.jsonl(.gz) beside the supervisions")
    for path in _manifests(folder, "supervisions"):
        for where, row in _jsonl(path):
            _supervision(where, row, recordings.get(row.get("recording_id", "")), folder, tree)
    return tree


def _supervision(
    where: str,
    row: dict[str, Any],
    recording: tuple[str, dict[str, Any]] | None,
    folder: Path,
    tree: Tree,
) -> None:
    id_ = str(row["id"])
    if recording is None:
        tree.problems.append(f"{where}: no recording {row.get('recording_id')!r} for {id_}")
        return
    whole = recording[1]
    sources = whole.get("sources", [])
    missing = whole.get("duration", 0.0) - row.get("duration", 0.0)
    if len(sources) != 1 or sources[0].get("type") != "file":
        tree.problems.append(
            f"{recording[0]}: expected one source of the type file; write the audio to a file, "
            f"for example with Lhotse's save_audios"
        )
    elif row.get("start", 0.0) > OVERSHOOT_S or missing > OVERSHOOT_S:
        tree.problems.append(
            f"{where}: {id_} is a part of its recording, which is not read; cut it first, for "
            f"example with `lhotse cut trim-to-supervisions` and Lhotse's save_audios"
        )
    elif not row.get("speaker"):
        tree.problems.append(f"{where}: {id_} has no speaker, by whom the splits are made")
    else:
        source = sources[0]["source"]
        path = source if Path(source).is_absolute() else str(_relative(source, folder))
        sex = str(row.get("gender") or "").lower()[:1]
        words = (row.get("custom") or {}).get("words")
        alignment = row.get("alignment") or {}
        timed: list[Any] = next(
            (alignment[key] for key in PHONE_ALIGNMENTS if key in alignment), []
        )
        phones = tuple(str(row.get("text") or "").split())
        if not phones and not timed:
            tree.problems.append(f"{where}: {id_} has no text and no alignment of phones")
            return
        tree.recordings.append(
            Recording(
                id_,
                path,
                str(row["speaker"]),
                words=words,
                sex=sex if sex in ("m", "f") else None,
                dialect=(row.get("custom") or {}).get("dialect"),
            )
        )
        tree.phones[id_] = phones
        if timed:
            tree.segments[id_] = tuple(
                Segment(item[0], item[1], round(item[1] + item[2], 8)) for item in timed
            )


def _manifests(folder: Path, kind: str) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if kind in path.name and path.name.endswith((".jsonl", ".jsonl.gz"))
    )


def _jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
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


# ---------------------------------------------------------------- what all layouts share


def _doubles(splits: dict[str, list[Recording]]) -> list[str]:
    """Take ids that stand twice out of the splits, and say so."""
    first: dict[str, str] = {}
    problems = []
    for split, recordings in splits.items():
        kept = []
        for recording in recordings:
            if recording.id in first:
                problems.append(
                    f"{recording.audio}: {recording.id} is also {first[recording.id]}; rename one"
                )
            else:
                first[recording.id] = recording.audio
                kept.append(recording)
        splits[split] = kept
    return problems


def _speaker_list(splits: dict[str, list[Recording]]) -> str:
    rows = {f"{r.speaker} {split}\n" for split in splits for r in splits[split]}
    return "".join(["# speaker split, as corpus.speakers= takes it\n", *sorted(rows)])


def _vocabulary(
    config: FolderConfig,
    splits: dict[str, list[Recording]],
    phones: dict[str, tuple[str, ...]],
    segments: dict[str, tuple[Segment, ...]],
) -> tuple[tuple[str, ...], str]:
    """The phones that labels may be, and what they are called in a refusal."""
    if config.phone_set != FROM_LABELS:
        path = Path(config.phone_set)
        if not path.is_file():
            return phone_set(config.phone_set), config.phone_set
        listed = [line.split()[0] for line in read_lines(path) if line.strip() and line[0] != "#"]
        return tuple(phone for phone in dict.fromkeys(listed) if phone != BLANK), path.name
    if config.lexicon is not None:
        return phone_set("arpabet39"), "arpabet39"
    counts: Counter[str] = Counter()
    for recordings in splits.values():
        for recording in recordings:
            if recording.labels is not None:
                counts.update(_labels_of(Path(recording.labels)))
            elif recording.id in segments:
                counts.update(segment.phone for segment in segments[recording.id])
            else:
                counts.update(phones[recording.id])
    if not counts:
        raise DataError(f"{config.root}: no label in any file")
    rare = sorted(counts, key=lambda phone: (counts[phone], phone))[:5]
    log.info(
        "vocabulary of %d phones, from the labels: %s; rarest: %s",
        len(counts),
        " ".join(sorted(counts)),
        ", ".join(f"{phone} {counts[phone]}×" for phone in rare),
    )
    return tuple(sorted(counts)), "the labels of this folder"


def _labels_of(path: Path) -> list[str]:
    """The labels of a file as they are read later; a faulty file has none here."""
    try:
        if path.suffix.lower() == ".phn":
            rows = (line.split() for line in read_lines(path))
            return [row[2].lower() for row in rows if len(row) == 3]
        read = textgrid.read_lab if path.suffix.lower() == ".lab" else textgrid.read_phones
        return [label for _, _, label in read(path)]
    except DataError:
        return []


def _pronounce(
    config: FolderConfig,
    splits: dict[str, list[Recording]],
    phones: dict[str, tuple[str, ...]],
    problems: list[str],
) -> tuple[dict[str, list[Recording]], dict[str, tuple[str, ...]], dict[str, str]]:
    """Take what stands as phones for words, and look them up."""
    assert config.lexicon is not None
    counts = Counter(word for words in phones.values() for word in words)
    spoken = lexicon.pronounce(counts, config.lexicon, None, config.g2p)
    log.info("%s", spoken.summary())
    said: dict[str, Pronunciation] = spoken.first()
    absent = set(spoken.absent)
    problems.extend(
        f"{word!r} ({counts[word]}×) is not in {config.lexicon}; add it, or say corpus.g2p=espeak"
        for word in spoken.absent
    )
    kept = {
        split: [
            replace(r, words=" ".join(phones[r.id]))
            for r in recordings
            if r.labels is not None or absent.isdisjoint(phones[r.id])
        ]
        for split, recordings in splits.items()
    }
    found = {
        r.id: tuple(phone for word in phones[r.id] for phone in said[word])
        for recordings in kept.values()
        for r in recordings
        if r.labels is None
    }
    return kept, found, spoken.report("first")
