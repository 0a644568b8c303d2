"""Recordings to manifests: checked in parallel, written line by line, compared across splits.

Memory grows by some bytes for each recording, and not with its audio or labels. Lines are in the
order of the ids, whatever the order on disk and the number of processes. Files are written to the
given folder; `asr prepare` renames them when all is sound.
"""

import json
import multiprocessing
import os
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise, starmap
from operator import attrgetter
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from asr.corpora.checks import Checked, check
from asr.corpora.recording import Corpus, Recording
from asr.corpora.splits import SPLITS
from asr.errors import DataError
from asr.files.outputs import atomic_open
from asr.processor.workers import end_with_parent
from asr.records import Utterance

FEW = 256  # below this number of recordings, one process is faster
CHUNK = 32  # recordings that a process takes at a time

Hashes = npt.NDArray[np.uint64]  # one for each recording; 0: none
Check = Callable[[Recording, str, Corpus], Checked]
Member = tuple[str, Recording]  # split, one of its recordings
Row = tuple[str, Checked]  # a line of the manifest, or ""; and what was said without the utterance


@dataclass
class Outcome:
    """Problems of a corpus."""

    bad: list[str] = field(default_factory=list)  # of recordings, which may be left out
    wrong: list[str] = field(default_factory=list)  # of the corpus as a whole
    left_out: int = 0  # recordings


@dataclass(frozen=True)
class _Task:
    """Everything that a worker process needs."""

    corpus: Corpus  # without recordings
    require: Callable[[Utterance], str | None] | None  # a problem of an utterance of train
    check: Check

    def __call__(self, split: str, recording: Recording) -> Row:
        checked = self.check(recording, split, self.corpus)
        utterance, rest = checked.utterance, replace(checked, utterance=None)
        if utterance is None:
            return "", rest
        if split == "train" and self.require and (problem := self.require(utterance)):
            return "", replace(rest, problems=(*rest.problems, problem))
        return json.dumps(utterance.to_dict(), ensure_ascii=False) + "\n", rest


def write(
    corpus: Corpus,
    folder: Path,
    warnings_file: Path,
    jobs: int = 0,
    require: Callable[[Utterance], str | None] | None = None,
    check: Check = check,
) -> Outcome:
    """Check all recordings of `corpus` and write the sound ones to `folder/<split>.jsonl`.

    `jobs` is the number of processes; 0: one for each core. `require` gives a problem of an
    utterance of train, or None. A recording whose samples are also in another split is a problem
    and is left out of the earlier split, train before dev; sentences in two splits are a warning.
    The problems begin with those of the corpus.
    """
    in_order = attrgetter("id", "audio")
    splits = {split: sorted(members, key=in_order) for split, members in corpus.splits.items()}
    wrong = [*corpus.wrong, *_duplicate_ids(splits)]
    outcome = Outcome(list(corpus.bad), wrong, left_out=len(corpus.bad))
    members = [(split, recording) for split in splits for recording in splits[split]]
    contents, sentences = np.zeros((2, len(members)), np.uint64)
    task = _Task(replace(corpus, splits={}), require, check)
    jobs = 1 if len(members) < FEW else jobs or os.cpu_count() or 1
    with (
        closing(_rows(task, members, jobs)) as rows,
        open(warnings_file, "w", encoding="utf-8") as warned,
        tqdm(total=len(members), desc="recordings", leave=False, disable=None) as progress,
    ):
        numbered = enumerate(rows)
        for split, recordings in splits.items():
            with open(folder / f"{split}.jsonl", "w", encoding="utf-8") as manifest:
                for number, (line, checked) in islice(numbered, len(recordings)):
                    manifest.write(line)
                    outcome.bad.extend(checked.problems)
                    outcome.left_out += not line
                    warned.writelines(f"{warning}\n" for warning in checked.warnings)
                    contents[number], sentences[number] = checked.content, checked.sentence
                    progress.update()
        leaks, duplicates = _duplicate_audio(members, contents)
        duplicates += _duplicate_sentences(members, sentences)
        warned.writelines(f"{warning}\n" for warning in duplicates)
    outcome.bad.extend(leaks.values())
    outcome.left_out += _remove(folder, (members[number] for number in leaks))
    return outcome


def speakers_in_two_splits(corpus: Corpus) -> Iterator[str]:
    """A problem for each speaker who is in two splits that must not share speakers."""
    first: dict[str, dict[str, str]] = {}  # speaker → split → a recording
    for split, recordings in corpus.splits.items():
        for recording in recordings:
            first.setdefault(recording.speaker, {}).setdefault(split, recording.audio)
    for speaker, audio in sorted(first.items()):
        for split, path in audio.items():
            others = [other for other in audio if other != split and _apart(split, other)]
            if others and split != "train":
                other = others[0]
                yield (
                    f"{path}: speaker {speaker} is in {split}, and in {other} ({audio[other]}); "
                    f"expected in one split; move the recordings, or set "
                    f"corpus.shared_speakers=true"
                )
                break


def _apart(one: str, other: str) -> bool:
    """Whether two splits must share nothing; test-full contains the speakers of dev and test."""
    return one != other and ({one, other} <= set(SPLITS) or "train" in (one, other))


# ---------------------------------------------------------------- processes


def _rows(task: _Task, members: Sequence[Member], jobs: int) -> Generator[Row, None, None]:
    """Check all recordings, in order, in `jobs` processes; few chunks are under way at a time."""
    if jobs == 1:
        yield from starmap(task, members)
        return
    # A forked process has torch already, a spawned one imports it for seconds. The checks use no
    # library that keeps threads or locks.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(jobs, context, _initialise, (task,))
    first, many = 0, 16 * CHUNK * jobs
    try:
        for first in range(0, len(members), many):
            with warnings.catch_warnings():
                # Python 3.12 warns of a fork in a process with threads
                warnings.simplefilter("ignore", DeprecationWarning)
                rows = pool.map(_work, members[first : first + many], chunksize=CHUNK)
            yield from rows
    except BrokenProcessPool:
        some = [recording.audio for _, recording in members[first : first + many]]
        raise DataError(
            f"a process was killed while it checked {some[0]} to {some[-1]}; if memory ran out, "
            f"set jobs=1"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_task: _Task  # of a worker process


def _initialise(task: _Task) -> None:
    global _task
    _task = task
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C, the parent shuts the pool down
    end_with_parent()


def _work(member: Member) -> Row:
    return _task(*member)


# ---------------------------------------------------------------- duplicates


def _duplicate_ids(splits: dict[str, list[Recording]]) -> Iterator[str]:
    """A problem for each recording of which the id is taken; `test-full` may share ids."""
    taken: dict[str, dict[str, str]] = {}  # id → split → audio
    for split, recording in ((s, one) for s, of_split in splits.items() for one in of_split):
        earlier = taken.setdefault(recording.id, {})
        for other, path in earlier.items():
            if split == other or _apart(split, other):
                yield (
                    f"{recording.audio}: {recording.id} is also {path}; expected an id once, "
                    f"rename one of them"
                )
                break
        earlier.setdefault(split, recording.audio)


def _equal(hashes: Hashes) -> Iterator[list[int]]:
    """Groups of recordings, by number, with one hash that is not 0."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    edges = [0, *(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1), len(hashes)]
    for begin, end in pairwise(edges):
        if end - begin > 1 and ordered[begin]:
            yield [int(index) for index in order[begin:end]]


def _duplicate_audio(
    members: Sequence[Member], contents: Hashes
) -> tuple[dict[int, str], list[str]]:
    """Problems: recordings whose samples are in another split too; warnings: in their own split."""
    leaks: dict[int, str] = {}
    duplicates: list[str] = []
    for group in _equal(contents):
        first: dict[str, Recording] = {}  # of each split, in their order, as the members are
        for split, recording in (members[index] for index in group):
            first.setdefault(split, recording)
        splits = [*first]
        later = {
            split: next((other for other in splits[n:] if _apart(split, other)), None)
            for n, split in enumerate(splits)
        }
        for index in group:
            split, recording = members[index]
            apart, same = later[split], first[split]
            if apart is not None:
                leaks[index] = (
                    f"{recording.audio}: in {split}, the same samples as {first[apart].audio} in "
                    f"{apart}; expected in one split, leave one of them out"
                )
            elif same is not recording:
                duplicates.append(f"{recording.audio}: the same samples as {same.audio}")
    return leaks, duplicates


def _duplicate_sentences(members: Sequence[Member], sentences: Hashes) -> Iterator[str]:
    """One warning for each two splits that have sentences in common."""
    count: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str], tuple[str, str]] = {}
    for group in _equal(sentences):
        first: dict[str, str] = {}
        for split, recording in (members[index] for index in group):
            first.setdefault(split, recording.audio)
        for pair in ((a, b) for a in first for b in first if a < b and _apart(a, b)):
            count[pair] += 1
            example.setdefault(pair, (first[pair[0]], first[pair[1]]))
    for (a, b), (one, other) in example.items():
        yield f"{one}: the same words as {other}; {count[a, b]} sentences are in both {a} and {b}"


def _remove(folder: Path, unwanted: Iterable[Member]) -> int:
    """Remove recordings from the manifests; returns how many lines were removed."""
    ids: dict[str, set[str]] = {}
    for split, recording in unwanted:
        ids.setdefault(split, set()).add(recording.id)
    removed = 0
    for split in ids:
        path = folder / f"{split}.jsonl"
        with open(path, encoding="utf-8") as lines, atomic_open(path) as kept:
            for line in lines:
                unwanted_line = json.loads(line)["id"] in ids[split]
                removed += unwanted_line
                kept.write("" if unwanted_line else line)
    return removed
