"""Any folder of speech: audio with labels beside it, or what `asr exchange` writes.

Labels are `.phn`, TextGrid or `.lab` files, or the `text` of Kaldi and Lhotse. With a lexicon the
words of `text`, or of `.lab` and `.txt` files, get their phones from it. Speakers are split by a
list, by folders named train, dev and test, or at random; no speaker is in two splits, unless
`shared_speakers` allows it. An utterance is an audio file; parts of longer files are refused.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from asr import labels
from asr.audio import ENDINGS
from asr.corpora import kaldi, lexicon, lhotse, shards, transcripts
from asr.corpora.recording import Corpus, CorpusConfig, PhoneSetLabeller, Recording
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
from asr.files import name, read_rows
from asr.files.walking import walk
from asr.knobs import knob
from asr.labels import lab
from asr.phones import BLANK, phone_set
from asr.records import Segment

AUTO, FROM_LABELS = "auto", "from-labels"
LAYOUTS = ("auto", "tree", "kaldi", "lhotse", "shards")
MANY = 200  # phones; more are rather words
LABEL_TRACK = re.compile(r"\d+[.,]\d+ \d+[.,]\d+(?= )")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderConfig(CorpusConfig):
    """How a folder is read, and who is in which split."""

    name: str = "folder"
    phone_set: str = knob(
        AUTO,
        "of the labels; auto: arpabet39 with a lexicon, else from-labels; from-labels: those that "
        "the labels or the lexicon's words use; or a set, or a file with one phone a line",
    )
    protocol: str = "none"
    layout: str = knob("auto", "of the files", one_of=LAYOUTS)
    speaker: str = knob(
        "folder",
        "of a tree: name of the audio's folder, of the top folder, or prefix of the file name",
        one_of=("folder", "top", "prefix"),
    )
    speakers: str | None = knob(None, "file of `speaker split` lines")
    dev: float = knob(
        0.1,
        "share of speakers, or with shared_speakers of utterances, where nothing else splits",
        more_than=0,
    )
    test: float = knob(0.1, "share of speakers, likewise", more_than=0)
    split_seed: int = knob(0, "of this random split")
    tier: str | None = knob(None, "name of the TextGrids' tier; none: that of phones")
    lexicon: str | None = knob(
        None, "pronunciations of words: .lab or .txt beside the audio, text of Kaldi or Lhotse"
    )
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
        if self.lexicon and self.g2p == "espeak" and self.phone_set not in (AUTO, "arpabet39"):
            self.refuse("phone_set", "but the phones of corpus.g2p=espeak are arpabet39")


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
    readers = {"kaldi": kaldi.read, "lhotse": lhotse.read, "shards": shards.read}
    read = readers.get(layout, partial(_tree, config))
    listed = [read(folder, problems) for folder in folders]
    if not any(listed):
        raise_problems(problems or [f"{root}: a {layout} layout without utterances"])
    if config.lexicon is None:  # else `text` is words
        listed = [_agreeing(recordings, problems) for recordings in listed]
        if not any(listed):
            raise_problems(problems)
    endings = {(r.labels or "")[-9:].lower() for recordings in listed for r in recordings}
    if config.tier is not None and ".textgrid" not in endings:
        raise DataError(f"{root}: corpus.tier is {config.tier!r}, and no labels here are TextGrids")
    if in_folders:
        how = "by its folders train, dev and test"
        splits = dict(zip(SPLITS, listed, strict=True))
    elif config.speakers is not None:
        how = f"by {config.speakers}"
        splits = split_by_speaker(listed[0], Path(config.speakers))
    else:
        if (root / "train").is_dir():
            log.warning("%s: a folder train without dev and test is no split", root)
        by = "id" if config.shared_speakers else "speaker"
        how = f"at random by {by}, seed {config.split_seed}"
        try:
            splits = split_at_random(listed[0], config.dev, config.test, config.split_seed, by)
        except DataError as error:
            raise_problems([*problems, f"{root}: {error}"])
    splits = {split: sorted(recordings, key=by_id) for split, recordings in splits.items()}
    problems.extend(remove_duplicates(splits))
    log.info("%s: a %s layout, split %s", root, layout, how)
    report = {} if config.shared_speakers else {"speakers.txt": speaker_list(splits)}
    notes: list[str] = []
    if config.lexicon is not None:
        splits, spoken, notes = _pronounced(config, splits, problems)
        report |= spoken.report("first")
    vocabulary, set_name = _vocabulary(config, splits, problems)
    return Corpus(
        config.name,
        splits,
        PhoneSetLabeller(vocabulary, set_name, config.tier),
        config.sample_rate,
        phones=vocabulary,
        pronunciation=None if config.lexicon is None else "first",
        report=report,
        notes=notes,
        bad=problems,
    )


def detect_layout(root: Path) -> str:
    """`kaldi` by a wav.scp, `lhotse` by supervisions, `shards` by their manifest, else `tree`."""
    folders = [root, *(root / split for split in SPLITS)]
    if any((folder / "wav.scp").is_file() for folder in folders):
        return "kaldi"
    if any(lhotse.manifests(folder, "supervisions") for folder in folders):
        return "lhotse"
    if any((folder / shards.MANIFEST).is_file() and shards.of(folder) for folder in folders):
        return "shards"
    return "tree"


def _agreeing(recordings: list[Recording], problems: list[str]) -> list[Recording]:
    """Recordings of which the listed phones are those with times; the others are problems.

    Lhotse's `text` may be words beside an alignment of phones. It is phones where most of what
    all texts have are labels of the alignments.
    """
    differing = {
        one.id: difference
        for one in recordings
        if one.segments and (difference := _difference(one.phones, one.segments))
    }
    if not differing:
        return recordings
    used, tokens = set[str](), Counter[str]()
    for one in recordings:
        if one.segments:
            used.update(segment.phone for segment in one.segments)
            tokens.update(one.phones)
    if 2 * sum(n for token, n in tokens.items() if token in used) <= tokens.total():
        return recordings
    problems.extend(
        f"{one.named}: {differing[one.id]}; correct one of them, or set corpus.lexicon=FILE where "
        f"the text is words"
        for one in recordings
        if one.id in differing
    )
    return [one for one in recordings if one.id not in differing]


def _difference(phones: Sequence[str], segments: Sequence[Segment]) -> str:
    """Where phones, if there are any, are others than those with times; "" for nowhere."""
    for number, (phone, segment) in enumerate(zip(phones, segments, strict=False), start=1):
        if phone != segment.phone:
            return f"phone {number} is {phone!r} in text, and {segment.phone!r} in its alignment"
    same = not phones or len(phones) == len(segments)
    return "" if same else f"{len(phones)} phones in text, and {len(segments)} in its alignment"


def _tree(config: FolderConfig, root: Path, problems: list[str]) -> list[Recording]:
    """Audio files with files of labels beside them, or with a lexicon of words."""
    recordings = []
    unread: list[str] = []
    paired = False
    for files in pairs(root, ENDINGS, labels.ENDINGS, problems, words=True):
        paired = True
        ending = files.labels.lower()[-4:]
        try:
            speaker = _speaker(root, Path(files.folder, files.stem), config.speaker)
            speaker = name(speaker, files.audio, "a speaker")
            stem = name(files.stem, files.audio, "an utterance")
            is_text = ending == ".txt" or (ending == ".lab" and lab.is_text(files.labels))
            words = labels.words(files.labels) if is_text else ""
            if is_text and not words:
                raise DataError(f"{files.labels}: no words; write them, or leave the file out")
            if track := LABEL_TRACK.match(words):
                raise DataError(
                    f"{files.labels}: begins with the times {track[0]!r}, expected words; if it is "
                    f"a label track of phones (Audacity), rename it to {files.stem}.lab"
                )
        except DataError as error:
            problems.extend(error.problems)
            continue
        if is_text and config.lexicon is None:
            unread.append(files.labels)
            continue
        id_ = stem if stem.startswith(speaker) else f"{speaker}_{stem}"
        source, phones = None if is_text else files.labels, tuple(words.split())
        recordings.append(
            Recording(id_, files.audio, speaker, source, phones=phones, place=files.labels)
        )
    if unread:
        problems.append(
            f"{unread[0]}: has words without times (files like it: {len(unread)}); set "
            f"corpus.lexicon=FILE (make folder: LEXICON=FILE) to get their phones from a lexicon"
        )
    elif not paired:
        names = chain.from_iterable(names for _, names in walk(root, []))
        kinds = Counter("".join(Path(name).suffixes[-2:]).lower() for name in names)
        problems[:0] = [
            f"{root}: no recording with its labels; expected audio ({', '.join(ENDINGS)}) and "
            f"beside each a file of its name with labels ({', '.join(labels.ENDINGS)}), or with "
            f"corpus.lexicon its words (.lab, .txt); files there: "
            f"{', '.join(f'{kind} ({n})' for kind, n in kinds.most_common(5)) or 'none'}"
        ]
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


def _pronounced(
    config: FolderConfig, splits: dict[str, list[Recording]], problems: list[str]
) -> tuple[dict[str, list[Recording]], lexicon.Spoken, list[str]]:
    """Recordings whose listed phones are words, with the lexicon's phones of these."""
    assert config.lexicon is not None
    dictionary = lexicon.read(config.lexicon, *(_listed_phones(config) or (FROM_LABELS,)))
    remedy = f"add it to {config.lexicon}"
    if config.phone_set in (AUTO, "arpabet39"):
        remedy += ", or set corpus.g2p=espeak"
    in_words = {
        split: [replace(r, words=" ".join(r.phones) or None, phones=()) for r in recordings]
        for split, recordings in splits.items()
    }
    kept, spoken, notes = transcripts.pronounce(
        in_words, [dictionary], config.g2p, remedy, problems
    )
    first = spoken.first()
    for split, recordings in kept.items():
        kept[split] = [
            replace(r, phones=tuple(p for word in (r.words or "").split() for p in first[word]))
            for r in recordings
        ]
    return kept, spoken, notes


def _listed_phones(config: FolderConfig) -> tuple[str, tuple[str, ...]] | None:
    """The name and the phones of the configured set; None where those in use are the set."""
    wanted = config.phone_set
    if wanted == AUTO:
        wanted = FROM_LABELS if config.lexicon is None else "arpabet39"
    if wanted == FROM_LABELS:
        return None
    path = Path(wanted)
    if not path.is_file():
        return wanted, phone_set(wanted)
    rows = list(read_rows(path))
    if len(rows) == 1 and len(rows[0][1]) > 1:
        raise DataError(f"{path}:{rows[0][0]}: found several phones, expected one on each line")
    listed = dict.fromkeys(name(row[0], f"{path}:{number}", "a phone") for number, row in rows)
    return path.name, tuple(phone for phone in listed if phone != BLANK)


def _vocabulary(
    config: FolderConfig, splits: dict[str, list[Recording]], problems: list[str]
) -> tuple[tuple[str, ...], str]:
    """The phones that labels may be, and the name of this set in messages.

    Raises `DataError` with all `problems` so far where no label can be read.
    """
    if (known := _listed_phones(config)) is not None:
        return known[1], known[0]
    recordings = chain.from_iterable(splits.values())
    counts: Counter[str] = Counter()
    unread: list[str] = []  # which `check` reads again, unless that is all
    for recording in recordings:
        try:
            counts.update(_phones_of(recording, config.tier))
        except DataError as error:
            unread.extend(error.problems)
    if not counts:
        raise_problems([*problems, *unread, f"{config.root}: no label in any file"])
    if len(counts) > MANY and config.lexicon is None:
        said = "%d different labels: if they are words, set corpus.lexicon=FILE for their phones"
        log.warning(said, len(counts))
    if unwritten := [phone for phone in counts if phone.lower() in lexicon.SPOKEN_NOISE]:
        said = (
            "%s: %d labels, which aligners give to words that they do not know; leave these "
            "recordings out, or the phones of such words will be learned as one"
        )
        log.warning(said, ", ".join(unwritten), sum(counts[phone] for phone in unwritten))
    phones = tuple(sorted(counts))
    rarest = [f"{p} {counts[p]}×" for p in sorted(phones, key=counts.__getitem__)[:5]]
    said = "vocabulary of %d phones, from the labels: %s; rarest: %s"
    log.info(said, len(phones), " ".join(phones), ", ".join(rarest))
    return phones, "the labels of this folder"


def _phones_of(recording: Recording, tier: str | None) -> Iterable[str]:
    """The phones of a recording, as its corpus lists them or from its label file."""
    if recording.labels is not None:
        return labels.phones(recording.labels, tier)
    return [segment.phone for segment in recording.segments] or recording.phones
