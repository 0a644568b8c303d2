"""Padded batches in which every sequence is treated by its own length, whatever its batch mates."""

from collections.abc import Callable

import torch
from torch import Tensor

from asr.batch import length_mask

Fill = Callable[[slice, Tensor], None]  # fill(rows, frames): compute the frames of these utterances


def by_utterance(fill: Fill, counts: Tensor, like: Tensor, width: int) -> Tensor:
    """The frames of a batch as `fill` computes them, zero behind each count: (N, T, width).

    N, T, type and device are those of `like`. On a CPU every utterance is filled by itself, with
    `frames` (1, its count, width); elsewhere all are filled at once.
    """
    frames = like.new_zeros(len(like), like.shape[1], width)
    if like.device.type == "cpu":
        for n, count in enumerate(counts.tolist()):
            fill(slice(n, n + 1), frames[n : n + 1, :count])
        return frames
    fill(slice(None), frames)
    return zero_behind(frames, counts)


def zero_behind(frames: Tensor, counts: Tensor) -> Tensor:
    """Set to zero, in place, what lies behind each count: (N, T, F), (N,) → (N, T, F)."""
    return frames.masked_fill_(~length_mask(counts, frames.shape[1]).unsqueeze(2), 0.0)


def extend(padded: Tensor, lengths: Tensor, before: int, after: int, edge: str) -> Tensor:
    """Continue each sequence beyond both ends of its own length: (N, L, …) → (N, L + more, …).

    `edge` is "constant" (zeros), "nearest" (the last value again), "reflect" (mirrored, the last
    value once) or "symmetric" (mirrored, the last value twice). Behind `after` the content of a
    shorter sequence is undefined.
    """
    shape = (len(padded), before + padded.shape[1] + after, *padded.shape[2:])
    if not padded.shape[1]:
        return padded.new_zeros(shape)
    extended = padded.new_empty(shape)
    extended[:, before : before + padded.shape[1]] = padded
    lengths = lengths.unsqueeze(1)
    offsets = torch.arange(-before, after, device=padded.device)
    outside = torch.where(offsets < 0, offsets, lengths + offsets)  # (N, before + after)
    values = padded.gather(1, _like(padded, _source(outside, lengths, edge)))
    if edge == "constant":
        values.zero_()
    return extended.scatter_(1, _like(padded, outside + before), values)


def _source(positions: Tensor, lengths: Tensor, edge: str) -> Tensor:
    """The position within its sequence that a value beyond the ends is taken from."""
    if edge in ("constant", "nearest"):
        return torch.minimum(positions, lengths - 1).clamp_(min=0)
    once = int(edge == "reflect")
    period = (2 * (lengths - once)).clamp_(min=1)
    position = positions.remainder(period)
    return torch.minimum(position, period - 1 + once - position).clamp_(min=0)


def _like(padded: Tensor, index: Tensor) -> Tensor:
    """An index along the second dimension, the same for all that lies behind it."""
    shape = (*index.shape, *padded.shape[2:])
    return index[(...,) + (None,) * (padded.dim() - 2)].expand(shape)
