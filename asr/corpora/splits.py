"""Recordings divided into train, dev and test, by a list of speakers or at random."""

import heapq
import logging
import random
from collections.abc import Sequence
from itertools import pairwise
from operator import attrgetter
from pathlib import Path

from asr.corpora.recording import Recording
from asr.errors import DataError
from asr.files import read_rows

SPLITS = ("train", "dev", "test")

by_id = attrgetter("id")
log = logging.getLogger(__name__)


def split_by_speaker(recordings: Sequence[Recording], path: Path) -> dict[str, list[Recording]]:
    """Split by a file of `speaker split` lines; speakers that it does not name are logged."""
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
    """The split of each speaker, in lower case, of a file of `speaker split …` lines."""
    splits: dict[str, str] = {}
    for number, row in read_rows(path):
        if len(row) < 2 or row[1] not in SPLITS:
            raise DataError(
                f"{path}:{number}: found {' '.join(row)!r}, expected `speaker train|dev|test`"
            )
        speaker = row[0].lower()
        if splits.setdefault(speaker, row[1]) != row[1]:
            raise DataError(
                f"{path}:{number}: speaker {speaker} is already in {splits[speaker]}; "
                f"expected one split for each speaker"
            )
    return splits


def split_at_random(
    recordings: Sequence[Recording], dev: float, test: float, seed: int
) -> dict[str, list[Recording]]:
    """Draw parts of the speakers for dev and test, at least one each; a seed fixes the draw."""
    speakers = sorted({recording.speaker for recording in recordings})
    if len(speakers) < len(SPLITS):
        raise DataError(
            f"{len(speakers)} speakers ({', '.join(speakers) or 'none'}) are too few for three "
            f"splits; set corpus.speaker, or make folders train, dev and test"
        )
    random.Random(f"split {seed}").shuffle(speakers)
    n_dev, n_test = (max(1, round(part * len(speakers))) for part in (dev, test))
    n_dev = min(n_dev, len(speakers) - 2)
    n_test = min(n_test, len(speakers) - 1 - n_dev)
    split_of = dict.fromkeys(speakers, "train")
    split_of |= dict.fromkeys(speakers[:n_dev], "dev")
    split_of |= dict.fromkeys(speakers[n_dev : n_dev + n_test], "test")
    return {split: [r for r in recordings if split_of[r.speaker] == split] for split in SPLITS}


def speaker_list(splits: dict[str, list[Recording]]) -> str:
    """The text of a file that `split_by_speaker` reads."""
    rows = {f"{r.speaker} {split}\n" for split in splits for r in splits[split]}
    return "".join(["# speaker split, as corpus.speakers= takes it\n", *sorted(rows)])


def remove_duplicates(splits: dict[str, list[Recording]]) -> list[str]:
    """Keep the first recording of each id in splits that are sorted by id; list the others."""
    problems: list[str] = []
    duplicates: set[int] = set()  # as `id` numbers objects
    for kept, recording in pairwise(heapq.merge(*splits.values(), key=by_id)):
        if kept.id == recording.id:
            problems.append(
                f"{recording.audio}: {recording.id} is also {kept.audio}; keep one of them, or "
                f"rename it"
            )
            duplicates.add(id(recording))
    if duplicates:
        for split, recordings in splits.items():
            splits[split] = [r for r in recordings if id(r) not in duplicates]
    return problems
