"""LibriSpeech, and trees like it: read English, phones from a pronunciation lexicon.

Reads `SUBSET/SPEAKER/CHAPTER/*.trans.txt` with audio of any format beside it. The phones are those
that a lexicon has for the words, not a transcription of the recording by hand: a PER on this corpus
and a PER on TIMIT cannot be compared. No utterance is dropped: a word without phones is an error,
or gets its phones from espeak-ng and is listed.
"""

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from asr import labels
from asr.audio import ENDINGS, AudioInfo
from asr.corpora import lexicon, transcripts
from asr.corpora.lexicon import Pronunciation
from asr.corpora.recording import Corpus, CorpusConfig, Labels, Recording, with_times
from asr.corpora.splits import SPLITS, by_id, remove_duplicates
from asr.corpora.trees import require_folder
from asr.errors import DataError, raise_problems
from asr.files import read_lines, read_rows, read_table
from asr.knobs import knob
from asr.labels.checks import checked
from asr.phones import phone_set, table_rows

SILENCE = {"", "sil", "sp", "<eps>", "silence", "pau"}
UNKNOWN = {"spn", "<unk>"}  # what an aligner writes for a word that it could not pronounce

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
    oov_lexicon: str | None = knob(None, "a second lexicon, for words that are not in the first")
    g2p: str = knob(
        "espeak", "phones of words in no lexicon; none: an error", one_of=("espeak", "none")
    )
    pronunciation: str = knob(
        "first", "of a word in the lexicon; all: keep its others too", one_of=("first", "all")
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
            self.refuse("phone_set", "but the lexicon's phones are arpabet39")


@dataclass(frozen=True)
class LexiconLabeller:
    """Phones of the TextGrid of a recording, without stress and silence, or else of its words."""

    pronunciations: dict[str, Pronunciation]  # word as written → phones

    def __call__(self, recording: Recording, header: AudioInfo) -> Labels:
        if recording.labels is None:
            words = (recording.words or "").split()
            return tuple(p for word in words for p in self.pronunciations[word]), None
        aligned = [
            one._replace(phone=re.sub(r"(?<=[A-Za-z])[012]$", "", one.phone).lower())
            for one in labels.read(recording.labels)
        ]
        spoken = [one for one in aligned if one.phone not in SILENCE]
        known = phone_set("arpabet39")
        return with_times(checked(recording.labels, spoken, header.duration_s, known, "arpabet39"))


def find(config: LibriSpeechConfig) -> Corpus:
    """Recordings of the configured subsets with their words; logs how many are in no lexicon.

    Problems are files without partner, duplicates, words without phones, incomplete subsets.
    """
    root = find_root(Path(config.root).absolute(), config)
    problems: list[str] = []
    wrong: list[str] = []
    splits: dict[str, list[Recording]] = {}
    named: dict[str, str] = {}
    sexes = read_speakers(root)
    listed = _listed(config)
    for split in SPLITS:
        recordings: list[Recording] = []
        names: list[str] = []
        for subset in subsets(getattr(config, split)):
            before, faults = len(recordings), len(problems)
            chosen = listed.get(subset)
            for chapter in chain.from_iterable(map(_folders, _folders(root / subset))):
                everything = _chapter(chapter, sexes, problems)
                recordings += [r for r in everything if chosen is None or r.id in chosen]
            if absent := (chosen or set()) - {r.id for r in recordings[before:]}:
                wrong.append(_absent(config, root / subset, sorted(absent), len(chosen or ())))
            required = config.complete and chosen is None and len(problems) == faults
            names.append(_name(root / subset, len(recordings) - before, required, wrong))
        splits[split] = sorted(recordings, key=by_id)
        named[split] = f"{config.name}/{'+'.join(names)}"
    problems.extend(remove_duplicates(splits))
    if not Path(config.lexicon).is_file():
        raise DataError(
            f"{config.lexicon}: no such lexicon; set corpus.lexicon=/path/to/cmudict.dict "
            f"(make: LEXICON=), or fetch CMUdict with `python -m asr download cmudict`"
        )
    dictionaries = [lexicon.read(path) for path in (config.lexicon, config.oov_lexicon) if path]
    remedy = "add it to a lexicon of your own (corpus.oov_lexicon=)"
    if config.g2p == "none":
        remedy += " or set corpus.g2p=espeak"
    splits, spoken, notes = transcripts.pronounce(
        splits, dictionaries, config.g2p, remedy, problems
    )
    report = spoken.report(config.pronunciation)
    if config.alignments is not None:
        splits = _with_alignments(splits, Path(config.alignments), report)
    return Corpus(
        config.name,
        splits,
        LexiconLabeller(spoken.first()),
        config.sample_rate,
        named=named,
        pronunciation=config.pronunciation,
        report=report,
        notes=notes,
        bad=problems,
        wrong=wrong,
    )


def _name(folder: Path, utterances: int, required: bool, wrong: list[str]) -> str:
    """The name of a subset in results, with `part-of-` for a part of a published one."""
    expected = published().get(folder.name, utterances)
    if utterances == expected:
        return folder.name
    if required:
        wrong.append(
            f"{folder}: {utterances} utterances, expected the {expected} that {folder.name} has; "
            f"to use a part of it set corpus.complete=false"
        )
    return f"part-of-{folder.name}"


def published() -> dict[str, int]:
    """Number of utterances of each subset of LibriSpeech."""
    return {subset: int(count) for subset, count in table_rows("librispeech-subsets.txt")}


def read_utterance_list(path: Path) -> dict[str, set[str]]:
    """Ids of utterances by subset, of a file of `SUBSET ID` lines.

    Raises one `DataError` for all lines of another form and all duplicate ids.
    """
    ids: dict[str, set[str]] = {}
    line_of: dict[str, int] = {}
    problems: list[str] = []
    for number, row in read_rows(path):
        if len(row) != 2:
            problems.append(f"{path}:{number}: found {' '.join(row)!r}, expected `SUBSET ID`")
        elif line_of.setdefault(row[1], number) != number:
            problems.append(
                f"{path}:{number}: {row[1]} is a duplicate of line {line_of[row[1]]}; remove one"
            )
        else:
            ids.setdefault(row[0], set()).add(row[1])
    raise_problems(problems)
    if not ids:
        raise DataError(f"{path}: lists no utterance; expected `SUBSET ID` lines")
    return ids


def _listed(config: LibriSpeechConfig) -> dict[str, set[str]]:
    """Ids by subset, of all utterance lists of the configuration."""
    listed: dict[str, set[str]] = {}
    for path in subsets(config.utterance_list or ""):
        for subset, ids in read_utterance_list(Path(path)).items():
            listed.setdefault(subset, set()).update(ids)
    used = {subset for split in SPLITS for subset in subsets(getattr(config, split))}
    raise_problems(
        f"{config.utterance_list}: lists {len(ids)} utterances of {subset}, which is in no "
        f"split; add it, for example corpus.train={config.train}+{subset}"
        for subset, ids in listed.items()
        if subset not in used
    )
    return listed


def _absent(config: LibriSpeechConfig, folder: Path, ids: list[str], listed: int) -> str:
    """A sentence about listed utterances that are not in the subset."""
    few = ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")
    known = folder.name in published()
    remedy = f"with `python -m asr download {folder.name}`" if known else "see docs/corpora.md"
    return (
        f"{folder}: {len(ids)} of the {listed} utterances that {config.utterance_list} lists for "
        f"{folder.name} do not exist ({few}); get the whole subset, {remedy}, or remove them from "
        f"the list"
    )


def subsets(joined: str) -> list[str]:
    """The names in a string of names joined by `+`."""
    return [name.strip() for name in joined.split("+") if name.strip()]


# ---------------------------------------------------------------- the tree


def find_root(root: Path, config: LibriSpeechConfig) -> Path:
    """The folder that holds the subsets: `root`, or the LibriSpeech folder in it."""
    require_folder(root)
    inner = root / "LibriSpeech"
    wanted = [subset for split in SPLITS for subset in subsets(getattr(config, split))]
    if inner.is_dir() and not any((root / name).is_dir() for name in wanted):
        root = inner
    names = [folder.name for folder in _folders(root)]
    remedy = "set corpus.train=, corpus.dev= and corpus.test= (make: TRAIN=, DEV=, TEST=)"
    raise_problems(
        f"{root / subset}: no such subset; there are {', '.join(names) or 'no folders'}; {remedy}"
        for subset in wanted
        if subset not in names
    )
    return root


def read_speakers(root: Path) -> dict[str, str]:
    """The sex, "m" or "f", of each speaker in SPEAKERS.TXT; empty where the tree has none."""
    path = root / "SPEAKERS.TXT"
    lines = read_lines(path) if path.is_file() else []
    rows = (re.match(r"\s*(\S+)\s*\|\s*([MF])\s*\|", line) for line in lines)
    return {row[1]: row[2].lower() for row in rows if row}


def _chapter(folder: Path, sexes: dict[str, str], problems: list[str]) -> Iterator[Recording]:
    """Recordings of a chapter; faults go to `problems`."""
    speaker = folder.parent.name
    audio: dict[str, list[str]] = {}
    transcripts = []
    for name in sorted(name for name in os.listdir(folder) if not name.startswith(".")):
        if name.lower().endswith(".trans.txt"):
            transcripts.append(folder / name)
        elif name.lower().endswith(ENDINGS):
            audio.setdefault(os.path.splitext(name)[0], []).append(str(folder / name))
    if not transcripts and audio:
        problems.append(
            f"{folder}: no {speaker}-{folder.name}.trans.txt with the words of its audio"
        )
        return
    for path in transcripts:
        try:
            lines = read_table(path, problems)
        except DataError as error:
            problems.extend(error.problems)
            continue
        for id_, (place, text) in lines.items():
            files = audio.pop(id_, [])
            words = " ".join(text.split())
            if not words:
                problems.append(f"{place}: {id_} has no words; expected `id WORD WORD`")
            elif not files:
                problems.append(f"{place}: no audio file {folder / id_}.flac (or other)")
            elif len(files) > 1:
                problems.append(f"{place}: ambiguous, keep one of {', '.join(files)}")
            else:
                sex = sexes.get(speaker)
                yield Recording(id_, files[0], speaker, words=words, sex=sex, place=place)
    for files in audio.values():
        problems.append(f"{files[0]}: has no line in {transcripts[0]}")


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


# ---------------------------------------------------------------- alignments


def _with_alignments(
    splits: dict[str, list[Recording]], folder: Path, report: dict[str, str]
) -> dict[str, list[Recording]]:
    """Recordings with their TextGrids; those without keep the lexicon's phones, and are listed."""
    require_folder(folder)
    paths: dict[str, Path] = {}
    problems = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() == ".textgrid"):
        if paths.setdefault(path.stem, path) != path:
            problems.append(f"{path}: {path.stem} is also {paths[path.stem]}; keep one of them")
    raise_problems(problems)
    without: list[str] = []

    def aligned(recording: Recording) -> Recording:
        path = paths.get(recording.id)
        if path is None:
            without.append(f"{recording.id} has no TextGrid\n")
            return recording
        if any(segment.phone.lower() in UNKNOWN for segment in labels.read(path)):
            without.append(f"{recording.id} has a word that the aligner did not know\n")
            return recording
        return replace(recording, labels=str(path))

    splits = {split: [aligned(r) for r in recordings] for split, recordings in splits.items()}
    everything = sum(map(len, splits.values()))
    if len(without) == everything:
        raise DataError(f"{folder}: no TextGrid of any of the {everything} utterances")
    if without:
        said = (
            "%d of %d utterances keep the lexicon's phones, without times, since %s has no usable "
            "TextGrid of them; manifests/not-aligned.txt lists them"
        )
        log.warning(said, len(without), everything, folder)
        report["not-aligned.txt"] = "".join(without)
    return splits
