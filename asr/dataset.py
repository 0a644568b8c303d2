"""Utterances to padded batches: reading, bucketing by length, collating.

Nothing is dropped: every utterance of a split comes once in an epoch.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from asr import audio
from asr.augment import Augment, seed_of
from asr.augment.sounds import accelerate
from asr.batch import Batch, pad
from asr.errors import DataError
from asr.features import Features
from asr.features.cache import CachedFrames, FrameCache
from asr.phones import Vocabulary
from asr.records import Manifest, Utterance

POOL_BATCHES = 20  # utterances of so many batches are sorted by length together


@dataclass(frozen=True)
class Example:
    """One utterance as a batch takes it in: waveform (S,), and what augmentation made of it.

    With frames from a cache the waveform is empty.
    """

    utterance: Utterance
    waveform: torch.Tensor
    seed: int | None = None  # of its augmentation
    speed: float = 1.0  # how many times faster it was made
    cached: CachedFrames | None = None


class SpeechDataset(Dataset[Example]):
    """Utterances with their waveforms; with `augment`, changed anew in every epoch.

    With `cache` they come with static frames in place of a waveform.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        sample_rate: int,
        augment: Augment | None = None,
        seed: int = 0,
        cache: FrameCache | None = None,
    ) -> None:
        self.utterances = utterances
        self.sample_rate = sample_rate
        self.augment = augment
        self.seed = seed
        self.cache = cache
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int) -> Example:
        utterance = self.utterances[index]
        seed = None if self.augment is None else seed_of(self.seed, self.epoch, utterance.id)
        if self.cache is not None:
            pace = 100 if self.augment is None or seed is None else self.augment.pace(seed)
            cached = self.cache.get(utterance.audio, lambda: self._computed(index, pace), pace)
            return Example(utterance, torch.zeros(0), seed, pace / 100, cached)
        waveform = self.waveform(index)
        if self.augment is None or seed is None:
            return Example(utterance, waveform)

        def another(number: int) -> torch.Tensor:
            others = max(1, len(self) - 1)  # a single utterance has but itself
            return self.waveform((index + 1 + number % others) % len(self))

        changed, waveform, speed = self.augment.example(utterance, waveform, seed, another)
        return Example(changed, waveform, seed, speed)

    def waveform(self, index: int) -> torch.Tensor:
        """(S,) as recorded."""
        path = self.utterances[index].audio
        return torch.from_numpy(audio.load(path, self.sample_rate))

    def durations(self) -> Sequence[float]:
        """Seconds of each utterance as it comes in this epoch, but for its pace."""
        augment = self.augment
        if augment is None or not augment.config.moves:
            return durations_of(self.utterances)
        seeds = (seed_of(self.seed, self.epoch, one.id) for one in self.utterances)
        pairs = zip(self.utterances, seeds, strict=True)
        return [augment.layout(one, seed).duration_s for one, seed in pairs]

    @cached_property
    def _features(self) -> Features:
        assert self.cache is not None
        return Features(self.cache.config)

    def _computed(self, index: int, pace: int) -> CachedFrames:
        waveform = torch.from_numpy(accelerate(self.waveform(index).numpy(), pace))
        frames, counts = self._features.static(waveform.unsqueeze(0), torch.tensor([len(waveform)]))
        return CachedFrames(frames[0, : counts[0]], len(waveform))


class BucketSampler(Sampler[list[int]]):
    """Batches of utterances of similar length, in an order drawn anew from (seed, epoch).

    With `seed` None: all utterances from the shortest to the longest, each epoch alike.
    """

    def __init__(self, durations: Sequence[float], batch_size: int, seed: int | None) -> None:
        self.durations = durations
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self.durations) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(len(self.durations)))
        if self.seed is None:
            order.sort(key=self.durations.__getitem__)
            yield from _chunks(order, self.batch_size)
            return
        draw = random.Random(f"{self.seed} {self.epoch}")
        draw.shuffle(order)
        batches: list[list[int]] = []
        for pool in _chunks(order, self.batch_size * POOL_BATCHES):
            pool.sort(key=self.durations.__getitem__)
            batches.extend(_chunks(pool, self.batch_size))
        draw.shuffle(batches)
        yield from batches


class Batches(DataLoader[Batch]):
    """The batches of some utterances; `set_epoch` draws their order anew."""

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
    ) -> None:
        self.speech = SpeechDataset(utterances, sample_rate, augment, seed or 0, cache)
        self.bucket_sampler = BucketSampler(self.speech.durations(), batch_size, seed)
        super().__init__(
            self.speech,  # type: ignore[arg-type]
            batch_sampler=self.bucket_sampler,
            collate_fn=Collate(vocabulary, sample_rate),
            num_workers=workers,
        )

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except DataError as error:  # from a worker it comes with that worker's traceback
            sentence = str(error).rpartition("asr.errors.DataError: ")[2].strip()
            raise DataError(sentence) from error

    def set_epoch(self, epoch: int) -> None:
        self.bucket_sampler.epoch = epoch
        self.speech.epoch = epoch
        self.bucket_sampler.durations = self.speech.durations()


def durations_of(utterances: Sequence[Utterance]) -> Sequence[float]:
    """Seconds; of a `Manifest` without reading its utterances again."""
    if isinstance(utterances, Manifest):
        return utterances.durations
    return [utterance.duration_s for utterance in utterances]


class Collate:
    """Examples of a dataset to one `Batch`."""

    def __init__(self, vocabulary: Vocabulary, sample_rate: int) -> None:
        self.vocabulary = vocabulary
        self.sample_rate = sample_rate

    def __call__(self, examples: Sequence[Example]) -> Batch:
        utterances = [example.utterance for example in examples]
        waveforms, waveform_lengths = pad([example.waveform for example in examples])
        frames = None
        if cached := [example.cached for example in examples if example.cached is not None]:
            frames, _ = pad([one.frames for one in cached])
            waveform_lengths = torch.tensor([one.samples for one in cached])
        seeds = tuple(example.seed for example in examples if example.seed is not None)
        targets, target_lengths = pad(
            [torch.tensor(self.vocabulary.encode(u.phones), dtype=torch.long) for u in utterances]
        )
        return Batch(
            waveforms,
            waveform_lengths,
            targets,
            target_lengths,
            self._times(examples, "end_s"),
            tuple(utterance.id for utterance in utterances),
            tuple(utterance.speaker for utterance in utterances),
            seeds if len(seeds) == len(examples) else None,
            frames,
            self._times(examples, "start_s"),
        )

    def _times(self, examples: Sequence[Example], edge: str) -> torch.Tensor:
        times = []
        for example in examples:
            scale = self.sample_rate / example.speed
            segments = example.utterance.segments
            if segments is None:
                found = [-1] * len(example.utterance.phones)
            else:
                found = [round(getattr(segment, edge) * scale) for segment in segments]
            times.append(torch.tensor(found, dtype=torch.long))
        return pad(times)[0]


def _chunks(order: list[int], size: int) -> list[list[int]]:
    return [order[start : start + size] for start in range(0, len(order), size)]
