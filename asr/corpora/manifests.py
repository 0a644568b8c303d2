"""Recordings to manifests: checked in parallel, written as a stream, compared across splits.

Memory does not grow with the audio or the labels, only by some bytes for each recording. The
order of the lines is that of the ids, whatever the order on the disk and the number of processes.
This file walks no tree, and puts nothing under a final name: it fills a folder that it is given.
"""

import heapq
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from asr.corpora.base import SPLITS, Checked, Found, Recording, check
from asr.errors import DataError
from asr.records import Utterance

FEW = 256  # recordings that are not worth the start of other processes
CHUNK = 32  # recordings that a process takes at a time
SHOWN = 10  # warnings that are printed; the file has all

Hashes = npt.NDArray[np.uint64]  # one for each recording; 0: nothing to compare
Check = Callable[[Recording, str, Found], Checked]


@dataclass
class Outcome:
    """What came of a corpus. `bad` can be left out; `wrong` concerns the corpus as a whole."""

    bad: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    left_out: int = 0  # recordings
    warned: int = 0
    first_warnings: list[str] = field(default_factory=list)


class Row(NamedTuple):
    """What a process says about a recording: its line of the manifest, or why there is none."""

    line: str | None
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    content: int
    sentence: int


@dataclass(frozen=True)
class _Task:
    """All that a process must know."""

    found: Found  # without recordings
    require: Callable[[Utterance], str | None] | None  # of utterances of train
    check: Check

    def __call__(self, recordings: Sequence[Recording], split: str) -> list[Row]:
        return [self._row(recording, split) for recording in recordings]

    def _row(self, recording: Recording, split: str) -> Row:
        checked = self.check(recording, split, self.found)
        problems, utterance = checked.problems, checked.utterance
        if utterance is not None and self.require is not None and split == "train":
            short = self.require(utterance)
            if short is not None:
                problems, utterance = (*problems, short), None
        line = None
        if utterance is not None:
            line = json.dumps(utterance.to_dict(), ensure_ascii=False) + "\n"
        return Row(line, problems, checked.warnings, checked.content or 0, checked.sentence or 0)


def write(
    found: Found,
    folder: Path,
    warnings_file: Path,
    jobs: int = 0,
    require: Callable[[Utterance], str | None] | None = None,
    check: Check = check,
) -> Outcome:
    """Check all recordings of `found` and write `folder/<split>.jsonl` of those that are sound.

    `jobs` is the number of processes, 0 one for each core. Samples that stand in two splits are a
    problem, for which the line of the split that trains is left out; sentences in two splits are a
    warning.
    """
    splits = {split: sorted(found.splits[split], key=_by_id) for split in found.splits}
    outcome = Outcome(wrong=list(_ids_twice(splits)))
    total = sum(map(len, splits.values()))
    contents, sentences = np.zeros((2, total), np.uint64)
    task = _Task(replace(found, splits={}), require, check)
    jobs = 1 if total < FEW else jobs or os.cpu_count() or 1
    with (
        _processes(task, jobs) as rows_of,
        open(warnings_file, "w", encoding="utf-8") as warned,
        tqdm(total=total, desc="recordings", unit="", leave=False, disable=None) as progress,
    ):

        def warn(message: str) -> None:
            warned.write(message + "\n")
            outcome.warned += 1
            if len(outcome.first_warnings) < SHOWN:
                outcome.first_warnings.append(message)

        number = 0
        for split, recordings in splits.items():
            with open(folder / f"{split}.jsonl", "w", encoding="utf-8") as manifest:
                for row in rows_of(recordings, split):
                    if row.line is not None:
                        manifest.write(row.line)
                    outcome.bad.extend(row.problems)
                    outcome.left_out += row.line is None
                    for message in row.warnings:
                        warn(message)
                    contents[number], sentences[number] = row.content, row.sentence
                    number += 1
                    progress.update()
        everything = _Everything(splits)
        for message in _sentences_twice(everything, sentences):
            warn(message)
        leaks, doubles = _audio_twice(everything, contents)
        for message in doubles:
            warn(message)
    outcome.bad.extend(leaks.values())
    outcome.left_out += _remove(folder, everything, set(leaks))
    return outcome


def speakers_in_two_splits(found: Found) -> Iterator[str]:
    """A sentence for each speaker who is in splits that must not share one."""
    first: dict[str, dict[str, str]] = {}  # speaker → split → a recording
    for split, recordings in found.splits.items():
        for recording in recordings:
            first.setdefault(recording.speaker, {}).setdefault(split, recording.audio)
    for speaker, audio in sorted(first.items()):
        for split, path in audio.items():
            others = [other for other in audio if other != split and _apart(split, other)]
            if others and split != "train":
                other = others[0]
                yield (
                    f"{path}: speaker {speaker} is in {split}, and in {other} ({audio[other]}); "
                    f"expected in one split; move the recordings, or say "
                    f"corpus.shared_speakers=true"
                )
                break


def _apart(one: str, other: str) -> bool:
    """Whether two splits must share nothing; test-full holds the speakers of dev and test."""
    return one != other and ({one, other} <= set(SPLITS) or "train" in (one, other))


def _by_id(recording: Recording) -> tuple[str, str]:
    return recording.id, recording.audio


# ---------------------------------------------------------------- processes


@contextmanager
def _processes(
    task: _Task, jobs: int
) -> Iterator[Callable[[Sequence[Recording], str], Iterator[Row]]]:
    """A function from recordings to rows, in the same order, that works in `jobs` processes."""
    if jobs == 1:
        yield lambda recordings, split: (
            row for chunk in _chunks(recordings) for row in task(chunk, split)
        )
        return
    # A forked process has imported torch and all the rest already; a spawned one takes seconds
    # to. It calls nothing that keeps threads or locks of its own.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(jobs, context, _begin, (task,)) as pool:

        def rows_of(recordings: Sequence[Recording], split: str) -> Iterator[Row]:
            chunks = _chunks(recordings)
            pending: deque[tuple[Sequence[Recording], Future[list[Row]]]] = deque()

            def submit(count: int) -> None:
                for chunk in islice(chunks, count):
                    pending.append((chunk, pool.submit(_work, chunk, split)))

            with warnings.catch_warnings():
                # Python 3.12 warns of forks wherever any library has started a thread
                warnings.simplefilter("ignore", DeprecationWarning)
                submit(4 * jobs)
            while pending:
                chunk, rows = pending.popleft()
                try:
                    yield from rows.result()
                except BrokenProcessPool:
                    raise DataError(
                        f"a process was ended from outside while it checked {chunk[0].audio} to "
                        f"{chunk[-1].audio}; if memory ran out, say jobs=1"
                    ) from None
                submit(1)

        try:
            yield rows_of
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


_task: _Task  # of a process that has begun


def _begin(task: _Task) -> None:
    global _task
    _task = task
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asked will tell us to stop
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process after its parent, which may be killed without a chance to tell us."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _work(recordings: Sequence[Recording], split: str) -> list[Row]:
    return _task(recordings, split)


def _chunks(recordings: Sequence[Recording]) -> Iterator[Sequence[Recording]]:
    return (recordings[n : n + CHUNK] for n in range(0, len(recordings), CHUNK))


# ---------------------------------------------------------------- what stands twice


@dataclass(frozen=True)
class _Everything:
    """All recordings under one number, split after split."""

    splits: dict[str, list[Recording]]

    def __getitem__(self, index: int) -> tuple[str, Recording]:
        for split, recordings in self.splits.items():
            if index < len(recordings):
                return split, recordings[index]
            index -= len(recordings)
        raise IndexError(index)


def _ids_twice(splits: dict[str, list[Recording]]) -> Iterator[str]:
    def entries(split: str) -> Iterator[tuple[str, str, str]]:
        return ((r.id, split, r.audio) for r in splits[split])

    earlier: list[tuple[str, str, str]] = []
    for entry in heapq.merge(*map(entries, splits)):
        if earlier and earlier[0][0] != entry[0]:
            earlier.clear()
        for id_, split, audio in earlier:
            if split == entry[1] or _apart(split, entry[1]):
                yield f"{entry[2]}: {id_} is also {audio}; expected an id once, rename one of them"
                break
        earlier.append(entry)


def _equal(hashes: Hashes) -> Iterator[list[int]]:
    """Groups of numbers of recordings whose hashes are equal and not 0."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    edges = [0, *(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1), len(hashes)]
    for begin, end in pairwise(edges):
        if end - begin > 1 and ordered[begin]:
            yield [int(index) for index in order[begin:end]]


def _audio_twice(everything: _Everything, contents: Hashes) -> tuple[dict[int, str], list[str]]:
    """Recordings to leave out, as their samples are in another split too; and harmless doubles."""
    leaks: dict[int, str] = {}
    doubles: list[str] = []
    for group in _equal(contents):
        for number, index in enumerate(group):
            split, recording = everything[index]
            earlier = [everything[other] for other in group[:number]]
            later = [everything[other] for other in group[number + 1 :]]
            apart = next((pair for pair in later if _apart(split, pair[0])), None)
            same = next((pair for pair in earlier if pair[0] == split), None)
            if apart is not None:
                leaks[index] = (
                    f"{recording.audio}: in {split}, the same samples as {apart[1].audio} in "
                    f"{apart[0]}; expected in one split, leave one of them out"
                )
            elif same is not None:
                doubles.append(f"{recording.audio}: the same samples as {same[1].audio}")
    return leaks, doubles


def _sentences_twice(everything: _Everything, sentences: Hashes) -> Iterator[str]:
    """One sentence for each two splits in which the same words are said."""
    count: dict[tuple[str, str], int] = {}
    example: dict[tuple[str, str], tuple[str, str]] = {}
    for group in _equal(sentences):
        first: dict[str, str] = {}
        for split, recording in (everything[index] for index in group):
            first.setdefault(split, recording.audio)
        for pair in ((a, b) for a in first for b in first if a < b and _apart(a, b)):
            count[pair] = count.get(pair, 0) + 1
            example.setdefault(pair, (first[pair[0]], first[pair[1]]))
    for pair, (one, other) in example.items():
        yield (
            f"{one}: the same words as {other}; {count[pair]} sentences are said in both "
            f"{pair[0]} and {pair[1]}"
        )


def _remove(folder: Path, everything: _Everything, numbers: set[int]) -> int:
    """Take recordings out of the manifests that have them; how many there were."""
    ids: dict[str, set[str]] = {}
    for split, recording in (everything[number] for number in numbers):
        ids.setdefault(split, set()).add(recording.id)
    removed = 0
    for split, gone in ids.items():
        path = folder / f"{split}.jsonl"
        partial = path.with_suffix(".partial")
        with open(path, encoding="utf-8") as lines, open(partial, "w", encoding="utf-8") as kept:
            for line in lines:
                if json.loads(line)["id"] in gone:
                    removed += 1
                else:
                    kept.write(line)
        partial.replace(path)
    return removed
