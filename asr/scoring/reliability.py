"""How well confidences tell right phones from wrong ones, and what makes them probabilities.

A phone is right where the alignment of its transcript with the reference matches it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from asr.records import Hypothesis
from asr.scoring.counts import CORRECT, Array
from asr.scoring.protocols import protocol
from asr.scoring.result import Score
from asr.search.calibration import Calibration

BINS = 15  # of equal width in 0…1
POINTS = 20  # of a calibration, at most: groups of equal shares of right and of wrong phones
FOLDS = 5  # of speakers, for the error of a calibration on speakers whom it was not fitted on


@dataclass(frozen=True)
class Judged:
    """Scored phones: confidence, whether each is right, and its speaker's number, each (n,)."""

    confidences: Array
    right: Array
    speakers: Array

    @classmethod
    def of(cls, score: Score, hypotheses: Mapping[str, Hypothesis]) -> "Judged":
        """Of a score and the hypotheses, by id and with confidences, that were scored."""
        rule, numbers = protocol(score.protocol), dict[str | None, int]()
        rows = list[tuple[float, bool, int]]()
        for alignment in score.alignments:
            one = hypotheses[alignment.reference.id]
            _, indices = rule.apply(one.phones, "hypothesis")
            speaker = numbers.setdefault(alignment.reference.speaker, len(numbers))
            matches = (op == CORRECT for op, _, j in alignment.steps() if j is not None)
            given = one.confidences or ()
            rows += [(given[n], ok, speaker) for n, ok in zip(indices, matches, strict=True)]
        confidences, right, speakers = np.array(rows, dtype=float).reshape(-1, 3).T
        return cls(confidences, right.astype(bool), speakers.astype(int))

    def __getitem__(self, chosen: Array) -> "Judged":
        return Judged(self.confidences[chosen], self.right[chosen], self.speakers[chosen])

    def by(self, calibration: Calibration) -> "Judged":
        return replace(self, confidences=calibration(self.confidences))

    def curve(self, bins: int = BINS) -> list[tuple[int, float, float]]:
        """Of each bin of equal width that has phones: phones, mean confidence, share right."""
        place = np.minimum((self.confidences * bins).astype(int), bins - 1)
        sums = (np.bincount(place, values) for values in (None, self.confidences, self.right))
        return [(int(n), float(c / n), float(r / n)) for n, c, r in zip(*sums, strict=True) if n]

    @property
    def error(self) -> float | None:
        """Expected calibration error: mean |share right − mean confidence| of the bins of `curve`.

        Bins weigh as their phones (Naeini et al. 2015). None without phones.
        """
        gaps = [n * abs(right - confidence) for n, confidence, right in self.curve()]
        return sum(gaps) / len(self.right) if gaps else None

    @property
    def area(self) -> float | None:
        """The probability that a right phone has a higher confidence than a wrong one, ties half.

        This is the area under the ROC curve. None unless there are phones of both kinds.
        """
        _, place, count = np.unique(self.confidences, return_inverse=True, return_counts=True)
        rank = (count.cumsum() - (count - 1) / 2)[place]  # from 1, of equal ones the mean
        right, wrong = int(self.right.sum()), int((~self.right).sum())
        if not right or not wrong:
            return None
        return float((rank[self.right].sum() - right * (right + 1) / 2) / (right * wrong))


def calibrated(sets: Iterable[Judged], points: int = POINTS) -> Calibration | None:
    """The isotonic regression of right on confidence, in few points; None without phones.

    Each set, such as one condition of recording, weighs the same. Groups of neighbouring
    confidences count half a right and half a wrong phone more than they have, so that no
    probability is 0 or 1.
    """
    from scipy.optimize import isotonic_regression  # slow to import, and not needed to score

    some = [one for one in sets if len(one.right)]
    if not some:
        return None
    most = max(len(one.right) for one in some)
    weights = np.concatenate([np.full(len(one.right), most / len(one.right)) for one in some])
    confidences = np.concatenate([one.confidences for one in some])
    right = np.concatenate([one.right for one in some]) * weights
    values, place = np.unique(confidences.round(4), return_inverse=True)
    weight, hits = np.bincount(place, weights), np.bincount(place, right)
    mass = hits / (hits.sum() or 1.0) + (weight - hits) / ((weight - hits).sum() or 1.0)
    middle = (mass.cumsum() - mass / 2) / mass.sum()
    group = np.unique((middle * points).astype(int), return_inverse=True)[1]
    size = np.bincount(group, weight)
    raw = np.bincount(group, weight * values) / size
    share = (np.bincount(group, hits) + 0.5) / (size + 1.0)
    probability = isotonic_regression(share, weights=size).x
    return Calibration(tuple(raw.round(6).tolist()), tuple(probability.round(6).tolist()))


def held_out(sets: Mapping[str, Judged]) -> list[Judged]:
    """Each set with the probabilities of calibrations that were fitted without its speakers.

    Speakers are divided into `FOLDS` parts, the same in all sets; one speaker alone is calibrated
    by their own phones.
    """
    results = [replace(one, confidences=one.confidences.copy()) for one in sets.values()]
    speakers = max((int(one.speakers.max(initial=0)) + 1 for one in results), default=1)
    for fold in range(folds := min(FOLDS, speakers)):
        rest = (one[(one.speakers % folds != fold) | (folds == 1)] for one in sets.values())
        if calibration := calibrated(rest):
            for one in results:
                own = one.speakers % folds == fold
                one.confidences[own] = calibration(one.confidences[own])
    return results
