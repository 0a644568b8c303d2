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
from asr.files import name, read_rows

SPLITS = ("train", "dev", "test")

by_id = attrgetter("id")
log = logging.getLogger(__name__)


def split_by_speaker(recordings: Sequence[Recording], path: Path) -> dict[str, list[Recording]]:
    """Split by a file of `speaker split` lines; speakers that it does not name are logged."""
    split_of = read_speaker_splits(path)
    speakers = {recording.speaker.lower() for recording in recordings}
    unlisted = sorted(speakers - split_of.keys())
    if speakers and len(unlisted) == len(speakers):
        raise DataError(
            f"{path}: has none of the {len(speakers)} speakers of the corpus, such as "
            f"{unlisted[0]!r}; expected lines `speaker train|dev|test`"
        )
    if unlisted:
        said = "%d speakers are in no split of %s and are left out: %s"
        log.warning(said, len(unlisted), path, " ".join(unlisted))
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
        speaker = name(row[0], f"{path}:{number}", "a speaker").lower()
        if splits.setdefault(speaker, row[1]) != row[1]:
            raise DataError(
                f"{path}:{number}: speaker {speaker} is already in {splits[speaker]}; "
                f"expected one split for each speaker"
            )
    return splits


def split_at_random(
    recordings: Sequence[Recording], dev: float, test: float, seed: int, by: str = "speaker"
) -> dict[str, list[Recording]]:
    """Draw parts of the speakers for dev and test, at least one each; a seed fixes the draw.

    With `by` = "id" it draws utterances, so that splits share speakers.
    """
    unit_of = attrgetter(by)
    units = sorted({unit_of(recording) for recording in recordings})
    if len(units) < len(SPLITS):
        what = ("speaker" if by == "speaker" else "utterance") + "s" * (len(units) != 1)
        remedy = (
            "; if these are not the speakers, set corpus.speaker=prefix, or top; to choose the "
            "splits, make folders train, dev and test; to draw utterances, so that the three "
            "share speakers, set corpus.shared_speakers=true (the error rate on new speakers will "
            "be higher than the result)"
        )
        raise DataError(
            f"{len(units)} {what} ({', '.join(units) or 'none'}), expected at least 3 for three "
            f"splits{remedy if by == 'speaker' else ''}"
        )
    random.Random(f"split {seed}").shuffle(units)
    n_dev, n_test = (max(1, round(part * len(units))) for part in (dev, test))
    n_dev = min(n_dev, len(units) - 2)
    n_test = min(n_test, len(units) - 1 - n_dev)
    split_of = dict.fromkeys(units, "train")
    split_of |= dict.fromkeys(units[:n_dev], "dev")
    split_of |= dict.fromkeys(units[n_dev : n_dev + n_test], "test")
    return {split: [r for r in recordings if split_of[unit_of(r)] == split] for split in SPLITS}


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
            again = f"{recording.id} is also {kept.source}; keep one of them, or rename it"
            problems.append(f"{recording.source}: {again}")
            duplicates.add(id(recording))
    for split, recordings in splits.items() if duplicates else ():
        splits[split] = [r for r in recordings if id(r) not in duplicates]
    return problems
