"""TIMIT: 462 speakers to train, 50 to develop, 24 to test; SA sentences never.

Reads the LDC tree (LDC93S1) and the sample that NLTK distributes. The 61 labels are kept as they
are; folding belongs to scoring.
"""

from dataclasses import dataclass
from pathlib import Path

from asr.corpora.base import (
    CorpusConfig,
    Found,
    PhnLabeller,
    Recording,
    find_recordings,
    split_by_speaker,
)
from asr.phones import TABLES, table_lines
from asr.records import DataError

# TIMIT testset.doc without SA; dev as in Kaldi egs/timit/s5.
COMPLETE = {"train": 3696, "dev": 400, "test": 192}
SAMPLE = TABLES / "timit-sample-speakers.txt"


@dataclass(frozen=True)
class TimitConfig(CorpusConfig):
    name: str = "timit"
    complete: bool = True  # the LDC tree must hold 3696/400/192 utterances
    speakers: str | None = None  # file of `speaker split` lines; default: the standard protocol


def find(config: TimitConfig) -> Found:
    """Recordings of train, dev and test.

    A tree with TRAIN and TEST is split by the standard protocol, and asserted to be complete
    unless `config.complete` is false; any tree with `config.speakers` by that list. A flat tree
    without a list is taken for the NLTK sample, and named so: its PER is no TIMIT PER.
    """
    root = Path(config.root)
    recordings = [r for r in find_recordings(root) if not r.id.partition("_")[2].startswith("sa")]
    name = config.name
    if config.speakers is not None:
        splits = split_by_speaker(recordings, Path(config.speakers))
    elif all(recording.part for recording in recordings):
        splits = _standard_protocol(recordings)
        if config.complete:
            _require_complete(root, splits)
    else:
        splits = split_by_speaker(recordings, SAMPLE)
        name = "timit-sample"
    return Found(name, splits, PhnLabeller(config.phone_set), config.sample_rate)


def _standard_protocol(recordings: list[Recording]) -> dict[str, list[Recording]]:
    dev = table_lines("timit-dev-speakers.txt")
    core_test = table_lines("timit-core-test-speakers.txt")
    in_test = [recording for recording in recordings if recording.part == "test"]
    return {
        "train": [recording for recording in recordings if recording.part == "train"],
        "dev": [recording for recording in in_test if recording.speaker in dev],
        "test": [recording for recording in in_test if recording.speaker in core_test],
    }


def _require_complete(root: Path, splits: dict[str, list[Recording]]) -> None:
    found = {split: len(recordings) for split, recordings in splits.items()}
    if found != COMPLETE:
        wrong = ", ".join(
            f"{split} has {found[split]} of {expected} utterances"
            for split, expected in COMPLETE.items()
            if found[split] != expected
        )
        raise DataError(
            f"{root}: not the whole of TIMIT: {wrong} (SA sentences not counted); "
            f"to use a part of it say corpus.complete=false"
        )
