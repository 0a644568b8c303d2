"""Any folder of speech: audio with labels beside it, a Kaldi data directory, Lhotse manifests.

Labels are `.phn`, TextGrid or `.lab` files, or the `text` of Kaldi and Lhotse. Speakers are split
by a list, by folders named train, dev and test, or at random; no speaker is in two splits. An
utterance is an audio file; parts of longer files are refused.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from asr import labels
from asr.audio import ENDINGS
from asr.corpora import kaldi, lexicon, lhotse
from asr.corpora.lexicon import Pronunciation
from asr.corpora.recording import Corpus, CorpusConfig, PhoneSetLabeller, Recording, with_phones
from asr.corpora.splits import (
    SPLITS,
    by_id,
    remove_duplicates,
    speaker_list,
    split_at_random,
    split_by_speaker,
)
from asr.corpora.trees import pairs, require_folder
from asr.errors import DataError, raise_problems
from asr.files import read_rows
from asr.knobs import knob
from asr.phones import BLANK, phone_set

FROM_LABELS = "from-labels"

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


def find(config: FolderConfig) -> Corpus:
    """Recordings of train, dev and test, and the phones that their labels use.

    With `from-labels` all label files are read here, and their labels are the vocabulary. A wrong
    label cannot be told from a rare one then, so the rarest are logged.

    Problems are files without partner, duplicates, and words without phones.
    """
    root = Path(config.root).absolute()
    require_folder(root)
    layout = config.layout if config.layout != "auto" else detect_layout(root)
    in_folders = config.speakers is None and all((root / split).is_dir() for split in SPLITS)
    problems: list[str] = []
    folders = [root / split for split in SPLITS] if in_folders else [root]
    match layout:
        case "kaldi":
            listed = [kaldi.read(folder, problems) for folder in folders]
        case "lhotse":
            listed = [lhotse.read(folder, problems) for folder in folders]
        case _:
            listed = [_tree(folder, config.speaker, problems) for folder in folders]
    if not any(listed):
        raise_problems(problems)
    if in_folders:
        how = "by its folders train, dev and test"
        splits = dict(zip(SPLITS, listed, strict=True))
    elif config.speakers is not None:
        how = f"by {config.speakers}"
        splits = split_by_speaker(listed[0], Path(config.speakers))
    else:
        how = f"at random, seed {config.split_seed}; manifests/speakers.txt is the list"
        try:
            splits = split_at_random(listed[0], config.dev, config.test, config.split_seed)
        except DataError as error:
            raise_problems([*problems, *error.problems])
            raise
    splits = {split: sorted(recordings, key=by_id) for split, recordings in splits.items()}
    problems.extend(remove_duplicates(splits))
    log.info("%s: a %s layout, split %s", root, layout, how)
    report = {"speakers.txt": speaker_list(splits)}
    if config.lexicon is not None:
        counts: Counter[str] = Counter()
        first: dict[str, str] = {}
        for recording in chain.from_iterable(splits.values()):
            counts.update(recording.phones)
            for word in recording.phones:
                first.setdefault(word, recording.id)
        spoken = lexicon.pronounce(counts, config.lexicon, None, config.g2p)
        remedy = f"add it to {config.lexicon}, or set corpus.g2p=espeak"
        problems.extend(spoken.problems(first, remedy))
        pronunciations = spoken.first()
        splits = {s: [_as_words(r, pronunciations) for r in splits[s]] for s in splits}
        splits = with_phones(splits, spoken.absent)
        report |= spoken.report("first")
    vocabulary, set_name = _vocabulary(config, splits)
    return Corpus(
        config.name,
        splits,
        PhoneSetLabeller(vocabulary, set_name),
        config.sample_rate,
        phones=vocabulary,
        pronunciation=None if config.lexicon is None else "first",
        report=report,
        bad=problems,
    )


def detect_layout(root: Path) -> str:
    """`kaldi` where there is a wav.scp, `lhotse` where there are supervisions, else `tree`."""
    folders = [root, *(root / split for split in SPLITS)]
    if any((folder / "wav.scp").is_file() for folder in folders):
        return "kaldi"
    if any(lhotse.manifests(folder, "supervisions") for folder in folders):
        return "lhotse"
    return "tree"


def _tree(root: Path, speaker_rule: str, problems: list[str]) -> list[Recording]:
    """Audio files with label files beside them."""
    recordings = []
    for files in pairs(root, ENDINGS, labels.ENDINGS, problems):
        speaker = _speaker(root, Path(files.folder, files.stem), speaker_rule)
        id_ = files.stem if files.stem.startswith(speaker) else f"{speaker}_{files.stem}"
        recordings.append(Recording(id_, files.audio, speaker, files.labels))
    if not recordings and not problems:
        raise DataError(
            f"{root}: no audio ({', '.join(ENDINGS)}) and no labels ({', '.join(labels.ENDINGS)}) "
            f"below it"
        )
    return recordings


def _speaker(root: Path, stem: Path, rule: str) -> str:
    if rule == "prefix":
        return re.split(r"[-_]", stem.name, maxsplit=1)[0]
    folders = stem.parent.relative_to(root).parts
    if not folders:
        raise DataError(
            f"{stem}: is in no folder of a speaker; set corpus.speaker=prefix if file names begin "
            f"with the speaker"
        )
    return folders[0] if rule == "top" else folders[-1]


def _vocabulary(
    config: FolderConfig, splits: dict[str, list[Recording]]
) -> tuple[tuple[str, ...], str]:
    """The phones that labels may be, and the name of this set in messages."""
    if config.phone_set != FROM_LABELS:
        path = Path(config.phone_set)
        if not path.is_file():
            return phone_set(config.phone_set), config.phone_set
        listed = dict.fromkeys(row[0] for _, row in read_rows(path))
        return tuple(phone for phone in listed if phone != BLANK), path.name
    if config.lexicon is not None:
        return phone_set("arpabet39"), "arpabet39"
    recordings = chain.from_iterable(splits.values())
    counts = Counter(phone for recording in recordings for phone in _phones_of(recording))
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


def _phones_of(recording: Recording) -> Iterable[str]:
    """The phones of a recording; none if its label file cannot be read, which is found later."""
    if recording.labels is None:
        return [segment.phone for segment in recording.segments] or recording.phones
    is_phn = recording.labels.lower().endswith(".phn")  # whose labels are in lower case
    try:
        phones = [segment.phone for segment in labels.read(recording.labels)]
    except DataError:
        return []
    return [phone.lower() for phone in phones] if is_phn else phones


def _as_words(recording: Recording, pronunciations: Mapping[str, Pronunciation]) -> Recording:
    """A recording whose listed phones are words, with the phones of these."""
    phones = tuple(p for word in recording.phones for p in pronunciations.get(word, ()))
    return replace(recording, words=" ".join(recording.phones) or None, phones=phones)
