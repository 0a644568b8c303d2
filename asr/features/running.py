"""Moments of a stream: each frame is normalised by what was loud until then, itself included.

A reference level follows the loudest frames: it rises to a louder one by the share `RISE` of the
difference, which takes some frames, and falls by `FALL_DB_S`. A frame weighs exp((level −
reference) / `SOFT`), and nothing if it is more than `active_db` below the reference. Where the
reference rises, all frames before weigh less by the same rule, so that noise before speech is
forgotten with its first vowel. Together frames weigh at most `MEMORY`; those of training, moved by
the reference, weigh `PRIOR` more. The rules are this project's own; Kaldi's online-cmvn, which has
a prior too, uses all frames of a window alike.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from asr.features.config import FeaturesConfig
from asr.features.moments import DB_PER_NAT, VARIANCE_FLOOR, Array, Moments
from asr.processor.compiled import compiled

RISE = 0.2
FALL_DB_S = 1.0
SOFT = 10 / DB_PER_NAT  # nats: 10 dB
PEAK = 7 / DB_PER_NAT  # of the reference over the mean of the weighted frames, on average
MEMORY = 600.0  # frames as loud as the reference
PRIOR = 20.0


class Rules(NamedTuple):
    """Of one configuration, in nats."""

    first: int  # of the log-mel values in a frame
    static: int  # values of a frame without its Δ
    active: float  # how far below the reference a loud frame is at most
    fall: float  # of the reference from one frame to the next

    @classmethod
    def of(cls, config: FeaturesConfig) -> "Rules":
        fall = FALL_DB_S / DB_PER_NAT * config.hop_samples / config.sample_rate
        return cls(int(config.energy), config.static_width, config.active_db / DB_PER_NAT, fall)

    def mean_level(self, mean: Array) -> float:
        """Of a frame of `training` moments."""
        return float(np.asarray(mean[self.first : self.static], np.float64).mean())


class Running:
    """The moments of the frames of one stream, which may come in any pieces.

    `training` are those of the loud frames of the training set, (F,) each.
    """

    def __init__(self, config: FeaturesConfig, training: Moments) -> None:
        self.rules = Rules.of(config)
        self.prior = tuple(np.asarray(part, np.float64) for part in training)
        self.reference = np.array([self.rules.mean_level(self.prior[0])])
        self.sums = np.zeros((3, len(self.prior[0])))  # of weights, of values, of squares

    def __call__(self, frames: Array) -> Moments:
        """The next frames, (T, F) → (T, F), (T, F)."""
        mean, std = np.empty((2, *frames.shape))
        prior_mean, prior_std = self.prior
        follow(frames, self.rules, prior_mean, prior_std, self.reference, self.sums, mean, std)
        return mean, std


@compiled()
def follow(
    frames: Any,
    rules: Any,
    prior_mean: Any,
    prior_std: Any,
    reference: Any,
    sums: Any,
    mean: Any,
    std: Any,
) -> None:
    """Fill mean and std (T, F); `reference` (1,) and `sums` (3, F) are taken over and changed."""
    first, static = rules.first, rules.static
    usual = prior_mean[first:static].mean() + PEAK
    for t in range(len(frames)):
        level = 0.0
        for i in range(first, static):
            level += frames[t, i]
        level /= static - first
        above = level - reference[0]
        if above > 0:
            reference[0] += RISE * above
            sums *= math.exp(-RISE * above / SOFT)
        else:
            reference[0] -= rules.fall
        below = reference[0] - level
        weight = math.exp(-max(0.0, below) / SOFT) if below <= rules.active else 0.0
        sums *= 1 - weight / MEMORY
        for i in range(frames.shape[1]):
            value = frames[t, i]
            sums[0, i] += weight
            sums[1, i] += weight * value
            sums[2, i] += weight * value * value
            size, total, squares = sums[0, i], sums[1, i], sums[2, i]
            prior = prior_mean[i] + (reference[0] - usual if i < static else 0.0)
            mean[t, i] = (PRIOR * prior + total) / (PRIOR + size)
            spread = squares - total * total / size if size > 0 else 0.0
            variance = (PRIOR * prior_std[i] ** 2 + max(0.0, spread)) / (PRIOR + size)
            std[t, i] = math.sqrt(max(variance, VARIANCE_FLOOR))
