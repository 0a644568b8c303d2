"""What makes the confidences of a search probabilities; `asr.scoring.reliability` fits it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.errors import DataError
from asr.records import Hypothesis

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Calibration:
    """A map from the confidence of a search to the probability that its phone is right.

    Straight between points, constant beyond the first and the last; it never falls. Raises
    `DataError` for points that are none of such a map.
    """

    raw: tuple[float, ...]  # in 0…1, each above the one before
    probability: tuple[float, ...]  # in 0…1, none below the one before

    def __post_init__(self) -> None:
        both = self.raw, self.probability
        rises = all(a < b for a, b in pairwise(self.raw))
        if (
            not len(self.raw) == len(self.probability) > 0
            or not all(0 <= value <= 1 for side in both for value in side)
            or not (rises and all(a <= b for a, b in pairwise(self.probability)))
        ):
            raise DataError(
                f"calibration: found {len(self.raw)} raw values and {len(self.probability)} "
                f"probabilities, expected equally many, rising, in 0 to 1; ship the model again"
            )

    def __call__(self, confidences: Sequence[float] | Array) -> Array:
        """Probabilities, (n,), of confidences, (n,)."""
        return np.interp(confidences, self.raw, self.probability)

    def of(self, hypothesis: Hypothesis) -> Hypothesis:
        """The same phones at the same times, with probabilities as their confidences."""
        if hypothesis.confidences is None:
            return hypothesis
        probabilities = self(hypothesis.confidences).round(4).tolist()
        return replace(hypothesis, confidences=tuple(probabilities))
