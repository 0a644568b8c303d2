"""How sure a rate is: bootstrap intervals by speaker and by utterance.

Units are resampled, never phones: phones of one utterance, and utterances of one speaker, err
together. Systems are compared in `significance`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asr.scoring.counts import Array, ErrorCounts

CONFIDENCE = 0.95
DRAWS = 1 << 20  # numbers that are kept at a time, 8 MB


class Interval(NamedTuple):
    """A 95 % interval of a rate, in percent."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.2f} … {self.high:.2f}"


def by_speaker(speakers: Mapping[str, ErrorCounts], replicates: int, seed: int) -> Interval | None:
    """Interval when speakers are drawn anew; None below two speakers."""
    units = [(counts.ref, counts.err, 1) for _, counts in sorted(speakers.items())]
    return percentiles(drawn(units, replicates, seed))


def by_utterance(
    sizes: Mapping[tuple[int, int], int], replicates: int, seed: int
) -> Interval | None:
    """Interval when utterances are drawn anew, from their numbers by (ref, err); None below two.

    Utterances of equal (ref, err) are exchangeable, so drawing their numbers is drawing them.
    """
    units = [(ref, err, number) for (ref, err), number in sorted(sizes.items())]
    return percentiles(drawn(units, replicates, seed))


def drawn(
    units: Sequence[tuple[int, int, int]], replicates: int, seed: int
) -> tuple[float, Array] | None:
    """The rate in percent of units (ref, err, number), and its rates when they are drawn anew.

    None below two units or without phones.
    """
    ref, err, number = np.array(units, dtype=np.int64).reshape(-1, 3).T
    size = int(number.sum())
    if size < 2 or replicates < 1 or ref.sum() == 0:
        return None
    generator, sums, block = np.random.default_rng(seed), [], max(DRAWS // len(units), 1)
    for done in range(0, replicates, block):  # the same draws in blocks of any size
        draws = generator.multinomial(size, number / size, min(block, replicates - done))
        sums.append(draws @ np.stack([ref, err], axis=1))
    drawn_ref, drawn_err = np.concatenate(sums).T
    rates = 100.0 * drawn_err[drawn_ref > 0] / drawn_ref[drawn_ref > 0]
    return 100.0 * float((err * number).sum()) / float((ref * number).sum()), rates


def percentiles(
    drawn: tuple[float, Array] | None, tail: float = 50.0 * (1.0 - CONFIDENCE)
) -> Interval | None:
    """The interval without `tail` percent of the drawn rates on either side, around the rate."""
    if drawn is None:
        return None
    point, rates = drawn
    low, high = np.percentile(rates, [tail, 100.0 - tail])
    return Interval(min(float(low), point), max(float(high), point))
