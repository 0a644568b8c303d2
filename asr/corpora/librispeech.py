"""LibriSpeech, and trees like it: read English, phones from a pronunciation lexicon.

Reads `SUBSET/SPEAKER/CHAPTER/*.trans.txt` with audio of any format beside it. Nobody transcribed
these phones by hand: they are what a lexicon says about the words, so a PER here and a PER on
TIMIT are two different things. This file never drops an utterance: a word that has no phones is
an error, or is spoken by espeak-ng and listed.
"""

import heapq
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

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
)
from asr.corpora.lexicon import Pronunciation, Spoken
from asr.errors import DataError, raise_problems
from asr.files import read_lines
from asr.knobs import knob
from asr.labels import textgrid
from asr.phones import phone_set, table_lines, unknown_phone
from asr.records import Segment

SILENCE = {"", "sil", "sp", "<eps>", "silence", "pau"}
UNKNOWN = {"spn", "<unk>"}  # what an aligner writes for a word that it could not pronounce
OVERSHOOT_S = 0.02  # an alignment may end this far behind the audio

by_id = attrgetter("id")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LibriSpeechConfig(CorpusConfig):
    """Which subsets are the splits, and where words get their phones."""

    name: str = "librispeech"
    phone_set: str = "arpabet39"
    protocol: str = "arpabet"
    train: str = knob("train-clean-5", "subsets, joined by +", filled=True)
    dev: str = knob("dev-clean-2", "subsets, joined by +", filled=True)
    test: str = knob("test-clean", "subsets, joined by +", filled=True)
    utterance_list: str | None = knob(
        None, "files of `SUBSET ID` lines, joined by +: the only utterances taken of these subsets"
    )
    lexicon: str = knob("data/cmudict-0.7b", "file in CMUdict's format", filled=True)
    oov_lexicon: str | None = knob(None, "a second lexicon, for words that the first lacks")
    g2p: str = knob(
        "espeak", "phones of words in no lexicon; none: an error", one_of=("espeak", "none")
    )
    pronunciation: str = knob(
        "first",
        "of a word in the lexicon; all: keep its others too",
        one_of=("first", "all"),
    )
    alignments: str | None = knob(None, "folder of TextGrids (MFA, Praat) with the phones' times")
    complete: bool = knob(True, "a subset must have as many utterances as were published")

    def __post_init__(self) -> None:
        super().__post_init__()
        taken: dict[str, str] = {}
        for split in SPLITS:
            for subset in subsets(getattr(self, split)):
                if taken.setdefault(subset, split) != split:
                    raise ValueError(
                        f"corpus.{split} is {getattr(self, split)!r}, but {subset} is already in "
                        f"corpus.{taken[subset]}; a subset belongs to one split"
                    )
        if self.phone_set != "arpabet39":
            raise ValueError(
                f"corpus.phone_set is {self.phone_set!r}, but the lexicon's phones are arpabet39"
            )


class Line(NamedTuple):
    """Where a word was first read."""

    path: Path
    number: int


@dataclass(frozen=True)
class LexiconLabeller:
    """Phones of the words, or those of the TextGrid that the recording has."""

    pronunciations: dict[str, Pronunciation]  # word as written → phones

    def __call__(self, recording: Recording, header: AudioInfo) -> Labels:
        if recording.labels is not None:
            segments = read_alignment(Path(recording.labels), header.duration_s)
            return tuple(segment.phone for segment in segments), segments
        words = (recording.words or "").split()
        return tuple(p for word in words for p in self.pronunciations[word]), None


def find(config: LibriSpeechConfig) -> Found:
    """Recordings of the subsets named, with their words; says how many words no lexicon has.

    Raises `IncompleteCorpus`, with the rest, where files or words lack what belongs to them.
    """
    root = find_root(Path(config.root).absolute(), config)
    problems: list[str] = []
    wrong: list[str] = []
    splits: dict[str, list[Recording]] = {}
    named: dict[str, str] = {}
    counts: Counter[str] = Counter()
    first: dict[str, Line] = {}
    sexes = read_speakers(root)
    listed = _listed(config)
    for split in SPLITS:
        recordings: list[Recording] = []
        names: list[str] = []
        for subset in subsets(getattr(config, split)):
            before, faults = len(recordings), len(problems)
            chosen = listed.get(subset)
            absent = set(chosen or ())
            for recording, line in _recordings(root / subset, sexes, problems):
                if chosen is not None and recording.id not in chosen:
                    continue
                absent.discard(recording.id)
                recordings.append(recording)
                for word in (recording.words or "").split():
                    counts[word] += 1
                    first.setdefault(word, line)
            if chosen is not None and absent:
                wrong.append(_absent(config, root / subset, sorted(absent), len(chosen)))
            required = config.complete and chosen is None and len(problems) == faults
            names.append(_name(root / subset, len(recordings) - before, required, wrong))
        splits[split] = sorted(recordings, key=by_id)
        named[split] = f"{config.name}/{'+'.join(names)}"
    problems.extend(_take_out_doubles(splits))
    spoken = _pronounce(config, counts)
    problems.extend(_without_phones(config, spoken, first))
    report = spoken.report(config.pronunciation)
    if config.alignments is not None:
        splits = _with_alignments(splits, Path(config.alignments), report)
    found = Found(
        config.name,
        _spoken_only(splits, spoken),
        LexiconLabeller(spoken.first()),
        config.sample_rate,
        named=named,
        pronunciation=config.pronunciation,
        report=report,
    )
    if problems or wrong:
        raise IncompleteCorpus(problems, found, wrong)
    return found


def _name(folder: Path, utterances: int, required: bool, wrong: list[str]) -> str:
    """What a result on this subset calls it; a part of a published one is called so."""
    expected = published().get(folder.name, utterances)
    if utterances == expected:
        return folder.name
    if required:
        wrong.append(
            f"{folder}: {utterances} utterances, expected the {expected} that {folder.name} has; "
            f"to use a part of it say corpus.complete=false"
        )
    return f"part-of-{folder.name}"


def published() -> dict[str, int]:
    """Subset of LibriSpeech → number of its utterances."""
    rows = (line.split() for line in table_lines("librispeech-subsets.txt"))
    return {subset: int(utterances) for subset, utterances in rows}


def read_utterance_list(path: Path) -> dict[str, frozenset[str]]:
    """Subset → ids of its utterances, of `SUBSET ID` lines; `#` starts a comment line.

    Raises `DataError` with every line that is not so, or whose id has been listed before.
    """
    chosen: dict[str, set[str]] = {}
    first: dict[str, int] = {}
    problems: list[str] = []
    for number, line in enumerate(read_lines(path), start=1):
        parts = line.split()
        if not parts or line.startswith("#"):
            continue
        if len(parts) != 2:
            problems.append(f"{path}:{number}: found {line!r}, expected `SUBSET ID`")
        elif first.setdefault(parts[1], number) != number:
            problems.append(
                f"{path}:{number}: {parts[1]} is a duplicate of line {first[parts[1]]}; remove one"
            )
        else:
            chosen.setdefault(parts[0], set()).add(parts[1])
    raise_problems(problems)
    if not chosen:
        raise DataError(f"{path}: lists no utterance; expected `SUBSET ID` lines")
    return {subset: frozenset(ids) for subset, ids in chosen.items()}


def _listed(config: LibriSpeechConfig) -> dict[str, frozenset[str]]:
    """Subset → ids, of all utterance lists of the configuration; each subset is in a split."""
    listed: dict[str, frozenset[str]] = {}
    for path in subsets(config.utterance_list or ""):
        for subset, ids in read_utterance_list(Path(path)).items():
            listed[subset] = listed.get(subset, frozenset()) | ids
    used = {subset for split in SPLITS for subset in subsets(getattr(config, split))}
    raise_problems(
        [
            f"{config.utterance_list}: lists {len(ids)} utterances of {subset}, which is in no "
            f"split; add it, for example corpus.train={config.train}+{subset}"
            for subset, ids in listed.items()
            if subset not in used
        ]
    )
    return listed


def _absent(config: LibriSpeechConfig, folder: Path, ids: list[str], listed: int) -> str:
    """One sentence about listed utterances that a subset lacks."""
    few = ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")
    remedy = "docs/corpora.md says where from"
    if folder.name in published():
        remedy = f"with `python -m asr download {folder.name}`"
    return (
        f"{folder}: {len(ids)} of the {listed} utterances that {config.utterance_list} lists of "
        f"{folder.name} are not there ({few}); get the whole subset, {remedy}, or remove them from "
        f"the list"
    )


def _take_out_doubles(splits: dict[str, list[Recording]]) -> list[str]:
    """Leave one recording of each id in the sorted splits; the others are problems."""
    problems: list[str] = []
    doubles: set[str] = set()
    for kept, recording in pairwise(heapq.merge(*splits.values(), key=by_id)):
        if kept.id == recording.id:
            problems.append(f"{recording.audio}: {recording.id} is also {kept.audio}")
            doubles.add(recording.audio)
    if doubles:
        for split, recordings in splits.items():
            splits[split] = [r for r in recordings if r.audio not in doubles]
    return problems


def _spoken_only(splits: dict[str, list[Recording]], spoken: Spoken) -> dict[str, list[Recording]]:
    """Recordings without a word that got no phones; each such word is a problem of its own."""
    absent = set(spoken.absent)
    if not absent:
        return splits
    return {
        split: [r for r in recordings if absent.isdisjoint((r.words or "").split())]
        for split, recordings in splits.items()
    }


def subsets(joined: str) -> list[str]:
    """Names (of subsets, of files) joined by `+`."""
    return [name.strip() for name in joined.split("+") if name.strip()]


# ---------------------------------------------------------------- the tree


def find_root(root: Path, config: LibriSpeechConfig) -> Path:
    """The folder that holds the subsets: `root`, or the LibriSpeech folder in it."""
    require_folder(root)
    inner = root / "LibriSpeech"
    wanted = [subset for split in SPLITS for subset in subsets(getattr(config, split))]
    where = inner if inner.is_dir() and not any((root / name).is_dir() for name in wanted) else root
    there = sorted(
        folder.name
        for folder in where.iterdir()
        if folder.is_dir() and not folder.name.startswith(".")
    )
    raise_problems(
        [
            f"{where / subset}: no such subset; there are {', '.join(there) or 'no folders'}; "
            f"say corpus.train=, corpus.dev= and corpus.test= (make: TRAIN=, DEV=, TEST=)"
            for subset in wanted
            if subset not in there
        ]
    )
    return where


def read_speakers(root: Path) -> dict[str, str]:
    """Speaker → "m" or "f", from SPEAKERS.TXT where the tree has it."""
    path = root / "SPEAKERS.TXT"
    if not path.is_file():
        return {}
    rows = (line.split("|") for line in path.read_text(encoding="utf-8-sig").splitlines())
    return {
        row[0].strip(): row[1].strip().lower()
        for row in rows
        if len(row) > 2 and row[1].strip() in ("M", "F")
    }


def _recordings(
    subset: Path, sexes: dict[str, str], problems: list[str]
) -> Iterator[tuple[Recording, Line]]:
    """Recordings of a subset, and the line of the transcript of each; faults go to `problems`."""
    for speaker in _folders(subset):
        for chapter in _folders(speaker):
            yield from _chapter(chapter, speaker.name, sexes.get(speaker.name), problems)


def _chapter(
    folder: Path, speaker: str, sex: str | None, problems: list[str]
) -> Iterator[tuple[Recording, Line]]:
    audio: dict[str, list[str]] = {}
    transcripts = []
    for name in sorted(path.name for path in folder.iterdir()):
        stem, dot, _ = name.rpartition(".")
        if name.startswith("."):
            continue
        if name.lower().endswith(".trans.txt"):
            transcripts.append(folder / name)
        elif name.lower().endswith(ENDINGS):
            audio.setdefault(stem if dot else name, []).append(name)
    if not transcripts and audio:
        problems.append(
            f"{folder}: no {speaker}-{folder.name}.trans.txt with the words of its audio"
        )
        return
    for path in transcripts:
        for number, id_, words in _transcript(path, problems):
            files = audio.pop(id_, [])
            if not words:
                problems.append(f"{path}:{number}: {id_} has no words; expected `id WORD WORD`")
            elif not files:
                problems.append(f"{path}:{number}: no audio file {folder / id_}.flac (or other)")
            elif len(files) > 1:
                listed = " and ".join(str(folder / name) for name in files)
                problems.append(f"{path}:{number}: ambiguous, keep one of {listed}")
            else:
                yield (
                    Recording(id_, str(folder / files[0]), speaker, words=words, sex=sex),
                    Line(path, number),
                )
    for names in audio.values():
        problems.append(f"{folder / names[0]}: has no line in {transcripts[0]}")


def _transcript(path: Path, problems: list[str]) -> Iterator[tuple[int, str, str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: cannot be read as text ({error})")
        return
    first: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        id_, *words = line.split()
        if id_ in first:
            problems.append(f"{path}:{number}: {id_} stands already in line {first[id_]}")
            continue
        first[id_] = number
        yield number, id_, " ".join(words)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


# ---------------------------------------------------------------- words


def _pronounce(config: LibriSpeechConfig, counts: Counter[str]) -> Spoken:
    if not Path(config.lexicon).is_file():
        raise DataError(
            f"{config.lexicon}: no such lexicon; say corpus.lexicon=/path/to/cmudict.dict "
            f"(make: LEXICON=), or fetch CMUdict with `python -m asr download cmudict`"
        )
    spoken = lexicon.pronounce(counts, config.lexicon, config.oov_lexicon, config.g2p)
    log.info("%s", spoken.summary())
    return spoken


def _without_phones(config: LibriSpeechConfig, spoken: Spoken, first: dict[str, Line]) -> list[str]:
    """One sentence for each word that got no phones, in the order of reading."""
    remedy = "add it to a lexicon of your own (corpus.oov_lexicon=)"
    if config.g2p == "none":
        remedy += " or say corpus.g2p=espeak"
    return [
        f"{first[word].path}:{first[word].number}: {word!r} ({spoken.counts[word]}×, here first) "
        f"is in no lexicon; {remedy}"
        for word in sorted(spoken.absent, key=lambda word: (first[word], word))
    ]


# ---------------------------------------------------------------- alignments


def read_alignment(path: Path, duration_s: float) -> tuple[Segment, ...]:
    """The phones of a TextGrid, stress stripped, without silence; all faults in one `DataError`."""
    known = frozenset(phone_set("arpabet39"))
    segments: list[Segment] = []
    problems: list[str] = []
    for start, end, label in textgrid.read_phones(path):
        phone = re.sub(r"(?<=[A-Za-z])[012]$", "", label).lower()
        if phone in SILENCE:
            continue
        if phone not in known:
            problems.append(f"{path}: at {start:g} s: {unknown_phone(phone, known, 'arpabet39')}")
        if end > duration_s + OVERSHOOT_S:
            problems.append(f"{path}: {label!r} ends at {end:g} s, the audio at {duration_s:g} s")
        segments.append(Segment(phone, start, min(end, duration_s)))
    if not segments:
        problems.append(f"{path}: no phones")
    raise_problems(problems)
    return tuple(segments)


def _with_alignments(
    splits: dict[str, list[Recording]], folder: Path, report: dict[str, str]
) -> dict[str, list[Recording]]:
    """Give recordings their TextGrid; those that have none keep the lexicon's phones, listed."""
    require_folder(folder)
    paths: dict[str, Path] = {}
    problems = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() == ".textgrid"):
        if path.stem in paths:
            problems.append(f"{path}: {path.stem} has also {paths[path.stem]}; keep one of them")
        paths.setdefault(path.stem, path)
    raise_problems(problems)
    without: list[str] = []

    def aligned(recording: Recording) -> Recording:
        path = paths.get(recording.id)
        if path is None:
            without.append(f"{recording.id} has no TextGrid\n")
            return recording
        if any(label.lower() in UNKNOWN for _, _, label in textgrid.read_phones(path)):
            without.append(f"{recording.id} has a word that the aligner did not know\n")
            return recording
        return replace(recording, labels=str(path))

    found = {split: [aligned(r) for r in recordings] for split, recordings in splits.items()}
    everything = sum(map(len, splits.values()))
    if len(without) == everything:
        raise DataError(f"{folder}: no TextGrid of any of the {everything} utterances")
    if without:
        log.warning(
            "%d of %d utterances keep the lexicon's phones, without times: %s has no usable "
            "TextGrid of them; listed in manifests/not-aligned.txt",
            len(without),
            everything,
            folder,
        )
        report["not-aligned.txt"] = "".join(without)
    return found
