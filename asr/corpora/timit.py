"""TIMIT: 462 speakers to train, 50 for dev, 24 to test, without the SA sentences.

Reads the LDC tree (LDC93S1) and the sample that NLTK distributes. Phones are the 61 labels of the
files; scoring folds them.
"""

import re
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from asr.audio import ENDINGS
from asr.corpora.recording import Corpus, CorpusConfig, PhoneSetLabeller, Recording
from asr.corpora.splits import remove_duplicates, split_by_speaker
from asr.corpora.trees import Files, pairs, require_folder
from asr.errors import DataError
from asr.knobs import knob
from asr.phones import TABLES, phone_set, table_lines

# TIMIT testset.doc without SA; dev as in Kaldi egs/timit/s5.
COMPLETE = {"train": 3696, "dev": 400, "test": 192}
FULL_TEST = {"test-full": 1344}
SAMPLE = TABLES / "timit-sample-speakers.txt"


@dataclass(frozen=True)
class TimitConfig(CorpusConfig):
    name: str = "timit"
    complete: bool = knob(True, "the LDC tree must hold 3696/400/192 utterances")
    speakers: str | None = knob(None, "file of `speaker split` lines; null: the standard protocol")
    full_test: bool = knob(
        False, "also make test-full: all 168 speakers of TEST, those of dev among them"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.full_test and self.speakers is not None:
            raise ValueError(
                "corpus.full_test is the split of the standard protocol, and corpus.speakers "
                "replaces that protocol; give one of them"
            )


def find(config: TimitConfig) -> Corpus:
    """Recordings of train, dev and test, and with `config.full_test` of test-full.

    A tree with TRAIN and TEST is split by the standard protocol, and must be complete unless
    `config.complete` is false; with `config.speakers` any tree is split by that list. A flat tree
    is the NLTK sample, named timit-sample: a PER on it is no TIMIT PER.

    Problems are files without partner, duplicates and missing utterances.
    """
    root = Path(config.root)
    recordings, bad = survey(root)
    wrong: list[str] = []
    recordings = [r for r in recordings if not r.id.partition("_")[2].startswith("sa")]
    is_sample = not all(recording.part for recording in recordings)
    if config.speakers is not None:
        splits = split_by_speaker(recordings, Path(config.speakers))
    elif not is_sample:
        splits = _standard_protocol(recordings)
        if config.full_test:
            splits["test-full"] = [r for r in recordings if r.part == "test"]
        expected = COMPLETE | FULL_TEST
        differing = [
            f"{split} has {len(recordings)} of {expected[split]} utterances"
            for split, recordings in splits.items()
            if len(recordings) != expected[split]
        ]
        if config.complete and not bad and differing:
            wrong.append(
                f"{root}: not the whole of TIMIT: {', '.join(differing)} (SA sentences not "
                f"counted); to use a part of it set corpus.complete=false"
            )
    else:
        splits = split_by_speaker(recordings, SAMPLE)
        if config.full_test:
            wrong.append(f"{root}: has no TEST folder, which corpus.full_test needs")
    name = "timit-sample" if is_sample else config.name
    labeller = PhoneSetLabeller(phone_set(config.phone_set), "the TIMIT labels")
    return Corpus(name, splits, labeller, config.sample_rate, bad=bad, wrong=wrong)


def _standard_protocol(recordings: list[Recording]) -> dict[str, list[Recording]]:
    dev = table_lines("timit-dev-speakers.txt")
    core_test = table_lines("timit-core-test-speakers.txt")
    in_test = [r for r in recordings if r.part == "test"]
    return {
        "train": [r for r in recordings if r.part == "train"],
        "dev": [r for r in in_test if r.speaker in dev],
        "test": [r for r in in_test if r.speaker in core_test],
    }


def survey(root: Path) -> tuple[list[Recording], list[str]]:
    """Audio with `.phn` labels below `root`, in any letter case, sorted by id; and problems.

    Layouts are `TRAIN/DR1/FCJF0/SA1.WAV` (LDC, also `SA1.WAV.wav`) and `dr1-fvmh0/sa1.wav` (NLTK).
    Files without partner and duplicates are problems, one line each. Raises `DataError` where
    there is no recording at all.
    """
    root = root.absolute()
    require_folder(root)
    problems: list[str] = []
    files = pairs(root, ENDINGS, (".phn",), problems, any_case=True)
    recordings = [_recording(root, of_one) for of_one in files]
    unique = {"": sorted(recordings, key=attrgetter("id", "audio"))}
    problems += remove_duplicates(unique)
    if not recordings and not problems:
        raise DataError(
            f"{root}: no utterances found; expected audio and .phn files as in "
            f"{root}/TRAIN/DR1/FCJF0/SI648.WAV or {root}/dr1-fvmh0/si836.wav"
        )
    return unique[""], sorted(problems)


def _recording(root: Path, files: Files) -> Recording:
    parts = [part.lower() for part in Path(files.folder).relative_to(root).parts]
    name = Path(files.folder).name.lower()
    flat = re.fullmatch(r"dr(\d)-(\w+)", name)
    speaker = flat[2] if flat else name
    regions = [part[2:] for part in parts if re.fullmatch(r"dr\d", part)]
    return Recording(
        id=f"{speaker}_{files.stem}",
        audio=files.audio,
        labels=files.labels,
        speaker=speaker,
        sex=speaker[0] if speaker[0] in "mf" else None,
        dialect=flat[1] if flat else (regions[-1] if regions else None),
        part=next((part for part in reversed(parts) if part in ("train", "test")), None),
        text=files.text,
    )
