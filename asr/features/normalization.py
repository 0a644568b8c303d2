"""Means and standard deviations that frames are normalised by.

The variance is nowhere taken to be less than VARIANCE_FLOOR, so that silence stays finite.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from asr.batch import length_mask

VARIANCE_FLOOR = 1e-10  # Kaldi's, of apply-cmvn-sliding
LOUDEST = 10  # frames: a tenth of a second
DB_PER_NAT = 10 / math.log(10)  # of a logarithm of power

Moments = tuple[Tensor, Tensor]  # mean and standard deviation


@dataclass
class Sums:
    """Of the frames of many utterances, in double precision."""

    count: int = 0
    total: Tensor | float = 0.0  # (F,)
    squares: Tensor | float = 0.0

    def add(self, frames: Tensor) -> None:
        """(any number, F)."""
        frames = frames.double()
        self.count += len(frames)
        self.total = self.total + frames.sum(dim=0)
        self.squares = self.squares + frames.square().sum(dim=0)

    def moments(self) -> Moments:
        """(F,), (F,)."""
        mean = torch.as_tensor(self.total) / self.count
        return mean, _std(torch.as_tensor(self.squares) / self.count - mean.square())


def of_utterances(frames: Tensor, counts: Tensor) -> Moments:
    """Of each utterance: (N, T, F), (N,) → (N, 1, F), (N, 1, F)."""
    return _of_frames(frames, length_mask(counts, frames.shape[1]))


def of_active(frames: Tensor, counts: Tensor, bins: slice, active_db: float) -> Moments:
    """Of the loud frames of each utterance: (N, T, F), (N,) → (N, 1, F), (N, 1, F).

    A frame's level is the mean of its log-mel values, which lie in `bins`. Loud are those at most
    `active_db` below the `LOUDEST`th loudest frame, so that silence added to an utterance, however
    long, changes nothing, and neither does a click.
    """
    inside = length_mask(counts, frames.shape[1])
    level = frames[:, :, bins].mean(dim=2).masked_fill(~inside, -torch.inf)
    ordered = level.sort(dim=1, descending=True).values
    place = counts.clamp(min=1, max=LOUDEST).unsqueeze(1) - 1
    reference = ordered.gather(1, place) if frames.shape[1] else level.new_zeros(len(level), 1)
    return _of_frames(frames, inside & (level >= reference - active_db / DB_PER_NAT))


def _of_frames(frames: Tensor, chosen: Tensor) -> Moments:
    """Of some frames of each utterance: (N, T, F), (N, T) bool → (N, 1, F), (N, 1, F)."""
    size = chosen.sum(dim=1).clamp(min=1).reshape(-1, 1, 1)
    others = ~chosen.unsqueeze(2)
    mean = frames.masked_fill(others, 0).sum(1, keepdim=True, dtype=torch.float64) / size
    squares = (frames - mean).masked_fill(others, 0).square()
    return mean, _std(squares.sum(1, keepdim=True) / size)


def sliding(frames: Tensor, counts: Tensor, window: int) -> Moments:
    """Of the window around each frame: (N, T, F), (N,) → (N, T, F), (N, T, F).

    As Kaldi's `apply-cmvn-sliding --center=true --norm-vars=true`: at the edges of an utterance the
    window is not shortened but moved inwards, as far as the utterance goes.
    """
    time = torch.arange(frames.shape[1], device=frames.device)
    counts = counts.unsqueeze(1)
    start = torch.minimum(time - window // 2, counts - window).clamp(min=0)
    stop = torch.minimum(start + window, counts)
    size = (stop - start).clamp(min=1).unsqueeze(2)
    index = torch.stack([start, stop.clamp(min=0)]).unsqueeze(3).expand(-1, -1, -1, frames.shape[2])

    def mean(values: Tensor) -> Tensor:
        sums = torch.nn.functional.pad(values.cumsum(dim=1), (0, 0, 1, 0))
        return (sums.gather(1, index[1]) - sums.gather(1, index[0])) / size

    double = frames.double()
    first = mean(double)
    return first, _std(mean(double.square()) - first.square())


def _std(variance: Tensor) -> Tensor:
    return variance.clamp(min=VARIANCE_FLOOR).sqrt()
