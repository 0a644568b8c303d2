"""Means and standard deviations that the frames of an utterance are normalised by, in numpy.

`asr.features.normalization` has the same for batches on a GPU. Variances are at least
VARIANCE_FLOOR, so that silence stays finite.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.features.config import FeaturesConfig

VARIANCE_FLOOR = 1e-10  # Kaldi's, of apply-cmvn-sliding
LOUDEST = 10  # frames: a tenth of a second
OTHERS = 0.2  # share of the loud frames without speech that the moments may have
PRIOR_VARIANCE = 100  # loud frames that a prior counts for
DB_PER_NAT = 10 / math.log(10)  # of a logarithm of power

Array = npt.NDArray[Any]
Moments = tuple[Any, Any]  # mean and standard deviation, (F,)


def of_frames(frames: Array, chosen: Array) -> Moments:
    """The moments of some frames: (T, F), (T,) bool → (F,), (F,)."""
    own = frames[chosen]
    size = max(1, len(own))
    mean = own.sum(axis=0, dtype=np.float64) / size
    return mean, std_of(np.square(own - mean).sum(axis=0) / size)


def of_loud(
    frames: Array, within: Array, config: FeaturesConfig, prior: Moments | None = None
) -> Moments:
    """The moments of the loud frames out of those `within` (T,) bool.

    Loud frames are at most `active_db` below the
    `LOUDEST`th loudest one, so that neither silence added to an utterance, however long, nor a
    click changes the moments. `prior` has those of many utterances (F,), (F,), zeros where there is
    none. Its variance counts as that of `PRIOR_VARIANCE` frames: that of a word alone is too small.
    """
    loud = loudest(frames, within, config)
    mean, std = of_frames(frames, loud)
    if prior is None or not np.any(prior[0]):
        return mean, std
    size = int(loud.sum())
    variance = size * np.square(std) + PRIOR_VARIANCE * np.square(prior[1])
    return mean, std_of(variance / (size + PRIOR_VARIANCE))


def of_speech(
    frames: Array, speech: Array, config: FeaturesConfig, prior: Moments | None = None
) -> Moments | None:
    """The moments of the loud frames with `speech` (T,) bool, where many others are as loud.

    None where the share of the others is at most `OTHERS`, and where nobody speaks.
    """
    loud = loudest(frames, np.ones_like(speech), config)
    others = int((loud & ~speech).sum()) / max(1, int(loud.sum()))
    return of_loud(frames, speech, config, prior) if others > OTHERS and speech.any() else None


def level_of(frames: Array, config: FeaturesConfig) -> Array:
    """The mean of each frame's log-mel values: (T, F) → (T,)."""
    level: Array = frames[:, int(config.energy) : config.static_width].mean(axis=1)
    return level


def loudest(frames: Array, within: Array, config: FeaturesConfig) -> Array:
    """Which frames are loud, (T,) bool."""
    level = np.where(within, level_of(frames, config), -np.inf)
    if not len(level):
        return within
    place = min(max(1, int(within.sum())), LOUDEST) - 1
    reference = -np.partition(-level, place)[place]
    loud: Array = np.isfinite(level) & (level >= reference - config.active_db / DB_PER_NAT)
    return loud


def around(frames: Array, window: int) -> Moments:
    """The moments of the `window` frames around each frame: (T, F) → (T, F), (T, F).

    As Kaldi's `apply-cmvn-sliding --center=true --norm-vars=true`: at the edges of an utterance the
    window is moved inwards, and shortened only where the utterance is shorter.
    """
    count = len(frames)
    start = np.minimum(np.arange(count) - window // 2, count - window).clip(min=0)
    stop = np.minimum(start + window, count)
    size = (stop - start)[:, None]
    exact = frames.astype(np.float64)

    def mean(values: Array) -> Array:
        sums = np.pad(values.cumsum(axis=0), ((1, 0), (0, 0)))
        means: Array = (sums[stop] - sums[start]) / size
        return means

    first = mean(exact)
    return first, std_of(mean(np.square(exact)) - np.square(first))


@dataclass
class Sums:
    """Sums over the frames of many utterances, in double precision."""

    count: int = 0
    total: Any = 0.0  # (F,)
    squares: Any = 0.0

    def add(self, frames: Array) -> None:
        """(any number, F)."""
        exact = frames.astype(np.float64)
        self.count += len(exact)
        self.total = self.total + exact.sum(axis=0)
        self.squares = self.squares + np.square(exact).sum(axis=0)

    def moments(self) -> Moments:
        """(F,), (F,), float32."""
        mean = np.asarray(self.total) / self.count
        std = std_of(np.asarray(self.squares) / self.count - np.square(mean))
        return mean.astype(np.float32), std.astype(np.float32)


def std_of(variance: Any) -> Any:
    return np.sqrt(np.maximum(variance, VARIANCE_FLOOR))
