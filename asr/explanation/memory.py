"""Measures of a recurrent network's memory: gradients, half-lives, gates, and recall of a class.

Phones are classes that the caller gives. Steps are those of the recurrent stack, T' of an
utterance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor

Floats = npt.NDArray[np.float64]
Encode = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # (N, T, F), (N,) → (N, T', D), (N,)


@dataclass(frozen=True)
class Reach:
    """How strongly an encoded frame depends on the input k steps away.

    `norms` (P, K): the Frobenius norm of ∂y_t/∂x_{t-k} at P steps t. `lags` (K,): k, negative
    where the input comes later. `step_s`: duration of a step.
    """

    lags: npt.NDArray[np.int64]
    norms: Floats
    step_s: float

    def curve(self, quantile: float = 0.5) -> Floats:
        """A quantile over the steps t, as a share of the median at k = 0: (K,)."""
        here = float(np.median(self.norms[:, self.lags == 0]))
        shares: Floats = np.quantile(self.norms, quantile, axis=0) / here
        return shares

    def falls_to(self, share: float, later: bool = False) -> float | None:
        """Seconds from k = 0 to where the median falls below `share` for good.

        None where it does not within the lags. Between two lags the curve is a straight line on a
        logarithmic scale. `later` takes the side of the input after t.
        """
        side = self.lags <= 0 if later else self.lags >= 0
        order = np.argsort(np.abs(self.lags[side]))
        curve = np.log(np.maximum(self.curve()[side][order], 1e-30)) - np.log(share)
        above = np.flatnonzero(curve >= 0)
        last = int(above[-1]) if len(above) else 0
        if last == len(curve) - 1:
            return None
        fall = curve[last] - curve[last + 1]
        return float(self.step_s * (last + max(curve[last], 0.0) / fall))


def reach(
    encode: Encode,
    frames: Tensor,
    times: Sequence[int],
    lags: Sequence[int],
    directions: Tensor,
    frames_per_step: int,
    step_s: float,
) -> Reach:
    """Measure |∂y_t/∂x_{t-k}| of one utterance at the steps `times`, by automatic differentiation.

    The squared Frobenius norm of a Jacobian J with D rows is D times the mean of |vᵀJ|² over
    random unit vectors v (Hutchinson 1990), and exactly that over an orthonormal basis.
    Shapes: frames (T, F), directions (P, D) unit vectors. x_t are the `frames_per_step` frames that
    are stacked into step t.
    """
    inputs = frames.detach().expand(len(directions), -1, -1).clone().requires_grad_()
    lengths = torch.full((len(directions),), len(frames))
    encoded, _ = encode(inputs, lengths)
    rows = []
    for time in times:
        probed = (encoded[:, time] * directions).sum()
        (gradient,) = torch.autograd.grad(probed, inputs, retain_graph=True)
        squares = gradient.double().square().sum(dim=2).mean(dim=0) * directions.shape[1]
        missing = -len(squares) % frames_per_step
        steps = torch.nn.functional.pad(squares, (0, missing)).reshape(-1, frames_per_step)
        rows.append(steps.sum(dim=1).sqrt()[[time - lag for lag in lags]])
    return Reach(np.array(lags), torch.stack(rows).numpy(), step_s)


def half_lives(keep: npt.NDArray[Any]) -> Floats:
    """Steps after which half of a cell's content is gone: (T, H) of the forget gate → (H,).

    Content decays by the product of the gate's values, hence by their geometric mean.
    """
    decay = np.abs(np.log(np.clip(keep.astype(np.float64), 1e-12, 1.0)).mean(axis=0))
    with np.errstate(divide="ignore"):
        steps: Floats = np.log(2) / decay
    return steps


# ── gates at boundaries ──────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class AtBoundaries:
    """A gate near phone boundaries, against chance.

    `near` is its mean within one step of a boundary, `inside` elsewhere between the first and the
    last boundary. `p`: how often boundaries moved by chance differ as much, in either direction.
    `profile` (2W+1,): its mean at each distance from a boundary; 95 % of the means at moved
    boundaries are between `low` and `high`.
    """

    near: float
    inside: float
    p: float
    boundaries: int
    profile: Floats
    low: Floats
    high: Floats


def at_boundaries(
    series: Sequence[npt.NDArray[Any]],
    boundaries: Sequence[Sequence[int]],
    window: int,
    shuffles: int = 999,
) -> AtBoundaries | None:
    """Compare the course (T',) of a gate at the boundaries of each utterance with chance.

    Chance moves all boundaries of an utterance by one random distance, around a circle from its
    first boundary to its last, which preserves their spacing and the course of the gate. None where
    there are too few boundaries to compare.
    """
    rng = np.random.default_rng(0)
    distance = np.arange(-window, window + 1)
    profile = np.zeros((1 + shuffles, len(distance)))  # the first row is as labelled
    near = np.zeros(1 + shuffles)
    total = 0.0
    count = steps = near_steps = 0
    for course, edges in zip(series, boundaries, strict=True):
        if len(edges) < 2 or edges[-1] - edges[0] <= 2 * window:
            continue
        span = course[edges[0] : edges[-1] + 1].astype(np.float64)
        at = np.array(edges) - edges[0]
        close = np.unique((at[:, None] + [-1, 0, 1]) % len(span))
        moves = rng.integers(len(span), size=1 + shuffles)
        moves[0] = 0
        around = (moves[:, None] + distance) % len(span)
        profile += _moved(span, at)[around]
        near += _moved(span, close)[moves]
        total += span.sum()
        count, steps, near_steps = count + len(at), steps + len(span), near_steps + len(close)
    if near_steps == steps:
        return None
    inside = (total - near) / (steps - near_steps)
    near /= near_steps
    differences = np.abs(near - inside)
    profile /= count
    low, high = np.quantile(profile[1:], [0.025, 0.975], axis=0)
    p = float((differences >= differences[0]).mean())
    return AtBoundaries(float(near[0]), float(inside[0]), p, count, profile[0], low, high)


def _moved(span: Floats, steps: npt.NDArray[np.int64]) -> Floats:
    """The sum of a course at `steps`, for each distance they can be moved around the circle."""
    summed: Floats = span[(steps[:, None] + np.arange(len(span))) % len(span)].sum(axis=0)
    return summed


# ── recall of the phone before ───────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Recall:
    """Information in the states of H cells about the phone before the present one.

    `explained` (H,): the part ω² of the variance of a state's ranks that is explained by the class
    of the phone before, among phones of the same class; about 0 where there is no information.
    `score` (H,): that times `kept` (H,), the part of its state that the cell keeps. `chance`: the
    best score of all cells is below this in 95 % of shuffles.
    """

    explained: Floats
    kept: Floats
    score: Floats
    chance: float
    phones: int

    @property
    def best(self) -> int:
        return int(np.argmax(self.score))


def recall(
    states: npt.NDArray[Any],
    kept: npt.NDArray[Any],
    previous: Sequence[str],
    current: Sequence[str],
    shuffles: int = 200,
) -> Recall:
    """Measure the cells' recall of the class before.

    Shapes: `states` (B, H) within phones, `kept` (H,) from 0 to 1, `previous` and `current` B, the
    classes of the phone before and of the phone itself. Ranks replace states, because a few
    outliers of a saturated cell would dominate; states are rounded to 0.01. Shuffles exchange
    `previous` among phones of the same class only, because some classes follow others more often,
    which is no memory.
    """
    names, classes = np.unique(np.asarray(previous), return_inverse=True)
    _, strata = np.unique(np.asarray(current), return_inverse=True)
    ranks = _ranks(states)
    members = np.eye(strata.max() + 1)[strata]  # (B, strata)
    rest = ranks - members @ ((members.T @ ranks) / members.sum(axis=0)[:, None])
    total = (rest**2).sum(axis=0)
    freedom = len(ranks) - len(names) - (members.shape[1] - 1)
    if len(names) < 2 or freedom < 1:
        raise ValueError(f"{len(ranks)} phones of {len(names)} classes are too few to compare")

    def explained(labels: npt.NDArray[np.int64]) -> Floats:
        groups = np.eye(len(names))[labels]
        between = ((groups.T @ rest) ** 2 / groups.sum(axis=0)[:, None]).sum(axis=0)
        error = (total - between) / freedom
        omega: Floats = (between - (len(names) - 1) * error) / np.maximum(total + error, 1e-30)
        return omega

    rng = np.random.default_rng(0)
    by_stratum = np.argsort(strata, kind="stable")
    best = []
    for _ in range(shuffles):
        shuffled = np.empty_like(classes)
        shuffled[by_stratum] = classes[np.lexsort((rng.random(len(classes)), strata))]
        best.append((explained(shuffled) * kept).max())
    observed = explained(classes)
    return Recall(observed, kept, observed * kept, float(np.quantile(best, 0.95)), len(ranks))


def rank_correlation(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> Floats:
    """Spearman's, of the columns of two (B, H): (H,); 0 where a column never changes."""
    a, b = (ranks - ranks.mean(axis=0) for ranks in (_ranks(before), _ranks(after)))
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    correlation: Floats = (a * b).sum(axis=0) / np.maximum(scale, 1e-30)
    return correlation


def _ranks(values: npt.NDArray[Any]) -> Floats:
    ranks: Floats = rankdata(np.round(values.astype(np.float64), 2), axis=0)
    return ranks
