"""TIMIT: 462 speakers to train, 50 to develop, 24 to test; SA sentences never.

Reads the LDC tree (LDC93S1) and the sample that NLTK distributes. The 61 labels are kept as they
are; folding belongs to scoring.
"""

from dataclasses import dataclass
from pathlib import Path

from asr.corpora.base import (
    CorpusConfig,
    Found,
    IncompleteCorpus,
    PhnLabeller,
    Recording,
    split_by_speaker,
    survey,
)
from asr.knobs import knob
from asr.phones import TABLES, table_lines

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


def find(config: TimitConfig) -> Found:
    """Recordings of train, dev and test, and of test-full where it is asked for.

    A tree with TRAIN and TEST is split by the standard protocol, and asserted to be complete
    unless `config.complete` is false; any tree with `config.speakers` by that list. A flat tree is
    taken for the NLTK sample, and named so: its PER is no TIMIT PER.

    Raises `IncompleteCorpus`, with the rest, where files lack their partners or are too few.
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
        if config.complete and not bad:
            wrong = _missing(root, splits)
    else:
        splits = split_by_speaker(recordings, SAMPLE)
        if config.full_test:
            wrong.append(f"{root}: has no TEST folder, which corpus.full_test needs")
    name = "timit-sample" if is_sample else config.name
    found = Found(name, splits, PhnLabeller(config.phone_set), config.sample_rate)
    if bad or wrong:
        raise IncompleteCorpus(bad, found, wrong)
    return found


def _standard_protocol(recordings: list[Recording]) -> dict[str, list[Recording]]:
    dev = table_lines("timit-dev-speakers.txt")
    core_test = table_lines("timit-core-test-speakers.txt")
    in_test = [recording for recording in recordings if recording.part == "test"]
    return {
        "train": [recording for recording in recordings if recording.part == "train"],
        "dev": [recording for recording in in_test if recording.speaker in dev],
        "test": [recording for recording in in_test if recording.speaker in core_test],
    }


def _missing(root: Path, splits: dict[str, list[Recording]]) -> list[str]:
    """One sentence where splits have not as many utterances as were published."""
    expected = COMPLETE | FULL_TEST
    wrong = [
        f"{split} has {len(recordings)} of {expected[split]} utterances"
        for split, recordings in splits.items()
        if len(recordings) != expected[split]
    ]
    if not wrong:
        return []
    return [
        f"{root}: not the whole of TIMIT: {', '.join(wrong)} (SA sentences not counted); "
        f"to use a part of it say corpus.complete=false"
    ]
