"""Utterances to padded batches: reading, bucketing by length, collating.

Nothing is dropped: every utterance of a split comes once in an epoch.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from asr import audio
from asr.augment import Augment, seed_of
from asr.batch import Batch, pad
from asr.phones import Vocabulary
from asr.records import Manifest, Utterance

POOL_BATCHES = 20  # utterances of so many batches are sorted by length together


@dataclass(frozen=True)
class Example:
    """One utterance as a batch takes it in: waveform (S,), and what augmentation made of it."""

    utterance: Utterance
    waveform: torch.Tensor
    seed: int | None = None  # of its augmentation
    speed: float = 1.0  # how many times faster it was made


class SpeechDataset(Dataset[Example]):
    """Utterances with their waveforms; with `augment`, changed anew in every epoch."""

    def __init__(
        self,
        utterances: Sequence[Utterance],
        sample_rate: int,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        self.utterances = utterances
        self.sample_rate = sample_rate
        self.augment = augment
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int) -> Example:
        utterance = self.utterances[index]
        waveform = self.waveform(index)
        if self.augment is None:
            return Example(utterance, waveform)
        seed = seed_of(self.seed, self.epoch, utterance.id)
        waveform, speed = self.augment.waveform(waveform, seed, self.waveform)
        return Example(utterance, waveform, seed, speed)

    def waveform(self, index: int) -> torch.Tensor:
        """(S,) as recorded; any whole number will do for an index."""
        utterance = self.utterances[index % len(self.utterances)]
        return torch.from_numpy(audio.load(utterance.audio, self.sample_rate))


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
    ) -> None:
        self.bucket_sampler = BucketSampler(durations_of(utterances), batch_size, seed)
        self.speech = SpeechDataset(utterances, sample_rate, augment, seed or 0)
        super().__init__(
            self.speech,  # type: ignore[arg-type]
            batch_sampler=self.bucket_sampler,
            collate_fn=Collate(vocabulary, sample_rate),
            num_workers=workers,
        )

    def set_epoch(self, epoch: int) -> None:
        self.bucket_sampler.epoch = epoch
        self.speech.epoch = epoch


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
        seeds = tuple(example.seed for example in examples if example.seed is not None)
        targets, target_lengths = pad(
            [torch.tensor(self.vocabulary.encode(u.phones), dtype=torch.long) for u in utterances]
        )
        return Batch(
            waveforms,
            waveform_lengths,
            targets,
            target_lengths,
            self._ends(examples),
            tuple(utterance.id for utterance in utterances),
            tuple(utterance.speaker for utterance in utterances),
            seeds if len(seeds) == len(examples) else None,
        )

    def _ends(self, examples: Sequence[Example]) -> torch.Tensor | None:
        ends = []
        for example in examples:
            if example.utterance.segments is None:
                return None
            scale = self.sample_rate / example.speed
            segments = example.utterance.segments
            ends.append(torch.tensor([round(segment.end_s * scale) for segment in segments]))
        return pad(ends)[0]


def _chunks(order: list[int], size: int) -> list[list[int]]:
    return [order[start : start + size] for start in range(0, len(order), size)]
