"""Utterances to padded batches: reading, bucketing by length, collating.

Every utterance of a split is in exactly one batch of an epoch. A training step is one batch, or
several: within a budget of frames, and one for each of several processes.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from asr import audio
from asr.augment import Augment, seed_of
from asr.batch import Batch, MicroBatch, cut, frames_of_10_ms, pad
from asr.errors import DataError, without_tracebacks
from asr.features.cache import FrameCache
from asr.phones import Vocabulary
from asr.processor.workers import ignore_signals
from asr.records import Manifest, Utterance

NOTHING = torch.zeros(0)
TOLERANCE_S = 0.05  # between the manifest's duration and the audio's
POOL_BATCHES = 20  # batches whose utterances are sorted by length together
MOST_FRAMES = 60_000  # in a batch that is not learned from: ten minutes


@dataclass(frozen=True)
class Example:
    """One utterance, augmented: its waveform (S,), or its cached frames (T, static width)."""

    utterance: Utterance
    waveform: torch.Tensor
    samples: int  # S, or that of the waveform behind cached frames
    seed: int  # of its augmentation
    speed: float = 1.0  # factor by which augmentation made it faster
    frames: torch.Tensor = NOTHING


@dataclass(eq=False)
class SpeechDataset(Dataset[Example]):
    """Utterances with their waveforms; `augment` changes them differently in every epoch.

    With `cache` they have static frames in place of a waveform. Copies of an utterance have one
    waveform in common, and seeds of their own for what is drawn later (masks, warps).
    """

    utterances: Sequence[Utterance]
    vocabulary: Vocabulary
    sample_rate: int
    augment: Augment | None = None
    seed: int = 0
    cache: FrameCache | None = None
    copies: int = 1  # of each utterance in a batch
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int) -> Example:
        utterance, augment = self.utterances[index], self.augment
        seed = self._seed(utterance)
        if self.cache is not None:
            pace = 100 if augment is None else augment.pace(seed)
            kept = self.cache.frames(utterance.audio, lambda: self.waveform(index), pace)
            self._require_duration(utterance, kept.samples * pace / 100)
            return Example(utterance, NOTHING, kept.samples, seed, pace / 100, kept.frames)
        waveform = self.waveform(index)
        if augment is None:
            return Example(utterance, waveform, len(waveform), seed)

        def another(number: int) -> torch.Tensor:  # the waveform of another utterance, to mix in
            return self.waveform((index + 1 + number % max(1, len(self) - 1)) % len(self))

        changed, waveform, speed = augment.example(utterance, waveform, seed, another)
        return Example(changed, waveform, len(waveform), seed, speed)

    def waveform(self, index: int) -> torch.Tensor:
        """The waveform as recorded, (S,)."""
        utterance = self.utterances[index]
        samples = audio.load(utterance.audio, self.sample_rate)
        self._require_duration(utterance, len(samples))
        return torch.from_numpy(samples)

    def durations(self) -> Sequence[float]:
        """Seconds of each utterance in this epoch, with the pauses and cuts of augmentation."""
        if (augment := self.augment) is not None and augment.config.moves:
            return [augment.layout(one, self._seed(one)).duration_s for one in self.utterances]
        if isinstance(self.utterances, Manifest):  # which knows them without reading utterances
            return self.utterances.durations
        return [one.duration_s for one in self.utterances]

    def __getitems__(self, part: MicroBatch) -> Batch:
        """The examples of a part of a step as a batch; what `DataLoader` calls."""
        place = vars(part) | {"step_utterances": part.step_utterances * self.copies}
        return replace(self.collate([self[index] for index in part]), **place)

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Examples as one batch: all first copies, then all second copies, …"""
        if self.copies > 1:
            examples = [
                replace(one, seed=seed_of(one.seed, number, one.utterance.id))
                for number in range(self.copies)
                for one in examples
            ]
        utterances = [one.utterance for one in examples]
        starts, ends = pad([self._times(one) for one in examples])[0].movedim(2, 0).contiguous()
        return Batch(
            pad([one.waveform for one in examples])[0],
            torch.tensor([one.samples for one in examples]),
            *pad([torch.tensor(self.vocabulary.encode(one.phones)).long() for one in utterances]),
            target_starts=starts,
            target_ends=ends,
            ids=tuple(one.id for one in utterances),
            speakers=tuple(one.speaker for one in utterances),
            seeds=None if self.augment is None else tuple(one.seed for one in examples),
            frames=None if self.cache is None else pad([one.frames for one in examples])[0],
        )

    def _require_duration(self, utterance: Utterance, samples: float) -> None:
        seconds = samples / self.sample_rate
        if abs(seconds - utterance.duration_s) > TOLERANCE_S:
            raise DataError(
                f"{utterance.id}: duration_s is {utterance.duration_s:g} in the manifest, "
                f"{utterance.audio} has {seconds:g} s; prepare the corpus again, or correct it"
            )

    def _seed(self, utterance: Utterance) -> int:
        return seed_of(self.seed, self.epoch, utterance.id)

    def _times(self, example: Example) -> torch.Tensor:
        """Start and end of each phone in samples, −1 in an utterance without times, (U, 2)."""
        scale, segments = self.sample_rate / example.speed, example.utterance.segments
        if segments is None:
            return torch.full((len(example.utterance.phones), 2), -1)
        times = [(round(one.start_s * scale), round(one.end_s * scale)) for one in segments]
        return torch.tensor(times).long().view(-1, 2)


@dataclass(eq=False)
class BucketSampler(Sampler[MicroBatch]):
    """Steps of utterances of similar length, in an order drawn from (seed, epoch), by process.

    A step has `batch_size` utterances, whatever the number of processes: its n-th by length is of
    rank n mod `ranks`. A rank reads its share in parts of at most `batch_frames` padded frames (0:
    in one part); an utterance of more frames is alone. The first `start` steps are left out.

    With `seed` None every epoch goes from the shortest utterance to the longest, and each rank has
    whole batches: the n-th is of rank n mod `ranks`.
    """

    durations: Sequence[float]  # in seconds
    batch_size: int
    seed: int | None
    epoch: int = 0
    rank: int = 0
    ranks: int = 1
    batch_frames: int = 0
    frames: Callable[[float], int] = frames_of_10_ms  # of a duration
    start: int = 0

    @property
    def steps(self) -> int:
        """The number of steps of an epoch."""
        return -(-len(self.durations) // self.batch_size)

    def __len__(self) -> int:
        return len(self.plan())

    def __iter__(self) -> Iterator[MicroBatch]:
        return iter(self.plan())

    def plan(self) -> list[MicroBatch]:
        """What this rank reads in the epoch."""
        order, by_duration = list(range(len(self.durations))), self.durations.__getitem__
        draw = random.Random(f"{self.seed} {self.epoch}")
        if self.seed is None:
            order.sort(key=by_duration)
        else:
            draw.shuffle(order)
        pools = _chunks(order, self.batch_size * POOL_BATCHES)
        pools = [sorted(pool, key=by_duration) for pool in pools]
        steps = [step for pool in pools for step in _chunks(pool, self.batch_size)]
        if self.seed is None:
            batches = [part for step in steps for part in self._cut(step)]
            numbered = list(enumerate(batches))[self.rank :: self.ranks]
            return [MicroBatch(batch, n, len(batch)) for n, batch in numbered]
        draw.shuffle(steps)
        plan = []
        for number, step in list(enumerate(steps))[self.start :]:
            share = step[self.rank :: self.ranks]
            *others, last = self._cut(share or step[:1])
            plan += [MicroBatch(part, number, len(step), False) for part in others]
            plan.append(MicroBatch(last, number, len(step), True, bool(share)))
        return plan

    def _cut(self, share: list[int]) -> list[list[int]]:
        if not self.batch_frames:
            return [share]
        return cut(share, lambda index: self.frames(self.durations[index]), self.batch_frames)


class Batches(DataLoader[Batch]):
    """The batches of utterances, those of one rank of several; `set_epoch` draws a new order.

    In none are more than `batch_frames` padded frames, with all copies; see `BucketSampler`.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        vocabulary: Vocabulary,
        sample_rate: int,
        batch_size: int,
        seed: int | None = None,
        workers: int = 0,
        augment: Augment | None = None,
        cache: FrameCache | None = None,
        copies: int = 1,
        batch_frames: int = MOST_FRAMES,
        frames: Callable[[float], int] = frames_of_10_ms,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.speech = SpeechDataset(
            utterances, vocabulary, sample_rate, augment, seed or 0, cache, copies
        )
        durations, most = self.speech.durations(), batch_frames and max(1, batch_frames // copies)
        self.bucket_sampler = BucketSampler(
            durations, batch_size, seed, 0, rank, ranks, most, frames
        )
        super().__init__(
            self.speech,  # type: ignore[arg-type]
            batch_sampler=self.bucket_sampler,
            collate_fn=_as_it_is,  # SpeechDataset.__getitems__ has collated
            worker_init_fn=ignore_signals,
            num_workers=workers,
        )

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        with without_tracebacks():
            yield from super().__iter__()

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Draw the order of an epoch; its first `start` steps are left out."""
        self.bucket_sampler.epoch = self.speech.epoch = epoch
        self.bucket_sampler.start = start
        self.bucket_sampler.durations = self.speech.durations()

    @property
    def steps(self) -> int:
        """The number of steps of an epoch."""
        return self.bucket_sampler.steps


def _as_it_is(batch: Any) -> Any:
    return batch


def _chunks(order: list[int], size: int) -> list[list[int]]:
    return [order[start : start + size] for start in range(0, len(order), size)]
