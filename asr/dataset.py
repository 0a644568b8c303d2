"""Utterances to padded batches: reading, bucketing by length, collating.

Nothing is dropped: every utterance of a split comes once in an epoch.
"""

import random
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from asr import audio
from asr.batch import Batch, pad
from asr.phones import Vocabulary
from asr.records import Manifest, Utterance

POOL_BATCHES = 20  # utterances of so many batches are sorted by length together


class SpeechDataset(Dataset[tuple[torch.Tensor, Utterance]]):
    """Waveforms (S,), each with its utterance."""

    def __init__(self, utterances: Sequence[Utterance], sample_rate: int) -> None:
        self.utterances = utterances
        self.sample_rate = sample_rate

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Utterance]:
        utterance = self.utterances[index]
        return torch.from_numpy(audio.load(utterance.audio, self.sample_rate)), utterance


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
    ) -> None:
        self.bucket_sampler = BucketSampler(durations_of(utterances), batch_size, seed)
        super().__init__(
            SpeechDataset(utterances, sample_rate),  # type: ignore[arg-type]
            batch_sampler=self.bucket_sampler,
            collate_fn=Collate(vocabulary, sample_rate),
            num_workers=workers,
        )

    def set_epoch(self, epoch: int) -> None:
        self.bucket_sampler.epoch = epoch


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

    def __call__(self, examples: Sequence[tuple[torch.Tensor, Utterance]]) -> Batch:
        utterances = [utterance for _, utterance in examples]
        waveforms, waveform_lengths = pad([waveform for waveform, _ in examples])
        targets, target_lengths = pad(
            [torch.tensor(self.vocabulary.encode(u.phones), dtype=torch.long) for u in utterances]
        )
        return Batch(
            waveforms,
            waveform_lengths,
            targets,
            target_lengths,
            self._ends(utterances),
            tuple(utterance.id for utterance in utterances),
        )

    def _ends(self, utterances: Sequence[Utterance]) -> torch.Tensor | None:
        ends = [
            torch.tensor([round(segment.end_s * self.sample_rate) for segment in u.segments])
            for u in utterances
            if u.segments is not None
        ]
        return pad(ends)[0] if len(ends) == len(utterances) else None


def _chunks(order: list[int], size: int) -> list[list[int]]:
    return [order[start : start + size] for start in range(0, len(order), size)]
