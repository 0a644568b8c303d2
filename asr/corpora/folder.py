"""Any folder of speech: audio with labels beside it, a Kaldi data directory, Lhotse manifests.

Labels are `.phn`, TextGrid or `.lab` files, or the `text` of Kaldi and Lhotse. Speakers are split
by a list, by folders named train, dev and test, or at random; no speaker is in two splits. An
utterance is an audio file; parts of longer files are refused.
"""

import logging
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from asr import labels
from asr.audio import ENDINGS, AudioInfo
from asr.corpora import kaldi, lexicon, lhotse
from asr.corpora.recording import (
    Corpus,
    CorpusConfig,
    Labels,
    Recording,
    with_phones,
    with_times,
)
from asr.corpora.splits import (
    SPLITS,
    by_id,
    remove_duplicates,
    speaker_list,
    split_at_random,
    split_by_speaker,
)
from asr.corpora.trees import Listing, pairs, require_folder
from asr.errors import DataError, raise_problems
from asr.files import read_rows
from asr.knobs import knob
from asr.phones import BLANK, phone_set, unknown_phone
from asr.records import Segment

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


@dataclass(frozen=True)
class FolderLabeller:
    """Phones from the label file of a recording, or from the Kaldi or Lhotse listing."""

    known: frozenset[str]
    set_name: str
    phones: dict[str, tuple[str, ...]]
    segments: dict[str, tuple[Segment, ...]]

    def __call__(self, recording: Recording, header: AudioInfo) -> Labels:
        if recording.labels is not None:
            return with_times(
                labels.read_checked(
                    recording.labels, header.samples, header.sample_rate, self.known, self.set_name
                )
            )
        if segments := self.segments.get(recording.id):
            return with_times(
                labels.checked(recording.id, segments, header.duration_s, self.known, self.set_name)
            )
        phones = self.phones[recording.id]
        raise_problems(
            f"{recording.id}: {unknown_phone(phone, self.known, self.set_name)}"
            for phone in sorted(set(phones) - self.known)
        )
        return phones, None


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
    folders = [root / split for split in SPLITS] if in_folders else [root]
    listings = [_listing(layout, folder, config.speaker) for folder in folders]
    problems = [problem for listing in listings for problem in listing.problems]
    if not any(listing.recordings for listing in listings):
        raise_problems(problems)
    if in_folders:
        how = "by its folders train, dev and test"
        splits = {s: one.recordings for s, one in zip(SPLITS, listings, strict=True)}
    elif config.speakers is not None:
        how = f"by {config.speakers}"
        splits = split_by_speaker(listings[0].recordings, Path(config.speakers))
    else:
        how = f"at random, seed {config.split_seed}; manifests/speakers.txt is the list"
        try:
            splits = split_at_random(
                listings[0].recordings, config.dev, config.test, config.split_seed
            )
        except DataError as error:
            raise_problems([*problems, *error.problems])
            raise
    phones = {id_: of_one for listing in listings for id_, of_one in listing.phones.items()}
    segments = {id_: of_one for listing in listings for id_, of_one in listing.segments.items()}
    splits = {split: sorted(recordings, key=by_id) for split, recordings in splits.items()}
    problems.extend(remove_duplicates(splits))
    log.info("%s: a %s layout, split %s", root, layout, how)
    report = {"speakers.txt": speaker_list(splits)}
    if config.lexicon is not None:
        splits, phones, extra = _pronounce(config, config.lexicon, splits, phones, problems)
        report |= extra
    vocabulary, set_name = _vocabulary(config, splits, phones, segments)
    return Corpus(
        config.name,
        splits,
        FolderLabeller(frozenset(vocabulary), set_name, phones, segments),
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


def _listing(layout: str, folder: Path, speaker_rule: str) -> Listing:
    if layout == "kaldi":
        return kaldi.read(folder)
    if layout == "lhotse":
        return lhotse.read(folder)
    return _tree(folder, speaker_rule)


def _tree(root: Path, speaker_rule: str) -> Listing:
    """Audio files with label files beside them."""
    listing = Listing()
    for files in pairs(root, ENDINGS, labels.ENDINGS, listing.problems):
        speaker = _speaker(root, Path(files.folder, files.stem), speaker_rule)
        id_ = files.stem if files.stem.startswith(speaker) else f"{speaker}_{files.stem}"
        listing.recordings.append(Recording(id_, files.audio, speaker, files.labels))
    if not listing.recordings and not listing.problems:
        raise DataError(
            f"{root}: no audio ({', '.join(ENDINGS)}) and no labels ({', '.join(labels.ENDINGS)}) "
            f"below it"
        )
    return listing


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
    config: FolderConfig,
    splits: dict[str, list[Recording]],
    phones: dict[str, tuple[str, ...]],
    segments: dict[str, tuple[Segment, ...]],
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
    counts: Counter[str] = Counter()
    for recordings in splits.values():
        for recording in recordings:
            if recording.labels is not None:
                counts.update(_phones_in(Path(recording.labels)))
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


def _phones_in(path: Path) -> list[str]:
    """The phones of a label file, in lower case if it is `.phn`; none if it cannot be read."""
    try:
        phones = [segment.phone for segment in labels.read(path)]
    except DataError:
        return []
    return [phone.lower() for phone in phones] if path.suffix.lower() == ".phn" else phones


def _pronounce(
    config: FolderConfig,
    lexicon_path: str,
    splits: dict[str, list[Recording]],
    texts: dict[str, tuple[str, ...]],
    problems: list[str],
) -> tuple[dict[str, list[Recording]], dict[str, tuple[str, ...]], dict[str, str]]:
    """Recordings with their words, the phones of these by id, and the files of `Spoken.report`."""
    counts = Counter(word for words in texts.values() for word in words)
    spoken = lexicon.pronounce(counts, lexicon_path, None, config.g2p)
    log.info("%s", spoken.summary())
    problems.extend(
        f"{word!r} ({counts[word]}×) is not in {lexicon_path}; add it, or set corpus.g2p=espeak"
        for word in spoken.absent
    )
    splits = {
        split: [replace(r, words=" ".join(texts.get(r.id, ())) or None) for r in recordings]
        for split, recordings in splits.items()
    }
    first = spoken.first()
    phones = {
        id_: tuple(phone for word in words for phone in first.get(word, ()))
        for id_, words in texts.items()
    }
    return with_phones(splits, spoken.absent), phones, spoken.report("first")
