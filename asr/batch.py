"""Padded batches, and the integer lengths of what is not padding."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Utterances of unequal length, padded with zeros at the end.

    Shapes: waveforms (N, S) float32, waveform_lengths (N,), targets (N, U) labels,
    target_lengths (N,), target_starts and target_ends (N, U) of the phones in samples, −1 in
    utterances without times, ids N, speakers N. `seeds` N are those of the augmentation, None
    without augmentation. `frames` (N, T, static width) are features from a cache; `waveforms` is
    then (N, 0), while `waveform_lengths` still counts the samples that the frames were computed
    from. In training an utterance may come in several copies: all utterances, then all again.

    A training step may have several batches, which are read one after the other, or by several
    processes: `step` is its number in the epoch, from 0; `step_utterances` counts its utterances in
    all of them, with their copies (0: those of this batch are all); `ends_step` is the last batch
    of this process. What is not `counted` stands in for a share without utterances: it has weight 0
    in the step, and in all sums.
    """

    waveforms: Tensor
    waveform_lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    target_ends: Tensor | None
    ids: tuple[str, ...]
    speakers: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None
    frames: Tensor | None = None
    target_starts: Tensor | None = None
    step: int = 0
    step_utterances: int = 0
    ends_step: bool = True
    counted: bool = True

    @classmethod
    def of(cls, waveforms: Sequence[Tensor], speakers: Sequence[str] = ()) -> Self:
        """Waveforms without targets, N × (S,), with their numbers as ids."""
        no_labels = torch.zeros(len(waveforms), 0, dtype=torch.long)
        ids = tuple(map(str, range(len(waveforms))))
        counts = no_labels.sum(dim=1)
        return cls(*pad(waveforms), no_labels, counts, None, ids, tuple(speakers))

    def to(self, device: torch.device) -> Self:
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)


class MicroBatch(list[int]):
    """Indices of the utterances that one process reads at once; the rest is as in `Batch`."""

    def __init__(
        self,
        indices: Sequence[int],
        step: int,
        utterances: int,
        ends: bool = True,
        counted: bool = True,
    ) -> None:
        super().__init__(indices)
        self.step, self.step_utterances = step, utterances
        self.ends_step, self.counted = ends, counted


def cut(indices: Sequence[int], frames: Callable[[int], int], most: int) -> list[list[int]]:
    """Utterances, from short to long, in parts of at most `most` padded frames.

    One with more frames is alone.
    """
    parts: list[list[int]] = []
    for index in indices:
        if parts and (len(parts[-1]) + 1) * frames(index) <= most:
            parts[-1].append(index)
        else:
            parts.append([index])
    return parts


def frames_of_10_ms(seconds: float) -> int:
    return math.ceil(100 * seconds)


def pad(sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack sequences of unequal first dimension: N × (L_i, …) → (N, max L, …), lengths (N,)."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    return torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True), lengths


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """True at positions that are not padding: (N,) → (N, size)."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


def reverse(padded: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each sequence within its length; padding stays at the end: (N, T, …) → (N, T, …)."""
    position = torch.arange(padded.shape[1], device=padded.device)
    mirrored = lengths.unsqueeze(1) - 1 - position
    index = torch.where(mirrored >= 0, mirrored, position)
    reversed_: Tensor = _Reversal.apply(padded, index)  # type: ignore[no-untyped-call]
    return reversed_


class _Reversal(torch.autograd.Function):
    """Its gradient is a reversal too, several times faster than the gradient of indexing."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        return padded[torch.arange(len(padded), device=padded.device).unsqueeze(1), index]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        reversed_: Tensor = _Reversal.apply(gradient, index)  # type: ignore[no-untyped-call]
        return reversed_, None
