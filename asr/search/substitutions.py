"""How likely other phones are in place of each phone of a transcript, under CTC, compiled.

Every path counts, so that no times are needed (Cao, Fan, Svendsen and Salvi 2024, "A framework for
phoneme-level pronunciation assessment using CTC"). A variant differs from the transcript in one
place; paths up to the place and from it on are those of the transcript, and are summed once for all
variants. This file knows neither torch nor phones; `tests/test_assess.py` compares it with
`torch.nn.functional.ctc_loss`.
"""

import math
from typing import Any

import numpy as np

from asr.processor.compiled import compiled
from asr.search.evidence import BLANK, add

NONE = -1


@compiled()
def variants(log_probs: Any, labels: Any) -> Any:
    """Log-likelihood of a transcript, and of all that differ from it in one place.

    `log_probs` (T, V), label 0 the blank; `labels` (U,) from 1. Returns that of the transcript in
    nats, and, less that, `replaced` (U, V), label u by v, in column 0 left out, and `inserted`
    (U + 1, V), v before label u, or after the last, in column 0 zero. All are −∞ where no path
    through the transcript is.
    """
    frames, size = log_probs.shape
    count = len(labels)
    last = 2 * count  # state 2u is the blank before label u, 2u + 1 the label
    replaced = np.full((count, size), -math.inf)
    inserted = np.full((count + 1, size), -math.inf)
    # ── row t: paths of the frames before t that end in s, of those from t that begin in s ──────
    before = np.full((frames + 1, last + 1), -math.inf)
    after = np.full((frames + 1, last + 1), -math.inf)
    before[0, 0] = after[frames, last] = 0.0
    for t in range(frames):
        for s in range(last + 1):
            mass = before[t, s]
            if s > 0:
                mass = add(mass, before[t, s - 1])
            if s % 2 and s > 1 and labels[s // 2] != labels[s // 2 - 1]:
                mass = add(mass, before[t, s - 2])
            before[t + 1, s] = mass + log_probs[t, labels[s // 2] if s % 2 else BLANK]
    for t in range(frames - 1, -1, -1):
        for s in range(last, -1, -1):
            mass = after[t + 1, s]
            if s < last:
                mass = add(mass, after[t + 1, s + 1])
            if s % 2 and s < last - 1 and labels[s // 2] != labels[s // 2 + 1]:
                mass = add(mass, after[t + 1, s + 2])
            after[t, s] = mass + log_probs[t, labels[s // 2] if s % 2 else BLANK]
    total = after[0, 0]
    if count:
        total = add(total, after[0, 1])
    if total == -math.inf:
        return total, replaced, inserted
    # ── what comes in place of label u, or between label u − 1 and label u ──────────────────────
    probs = np.exp(log_probs.astype(np.float64))
    for u in range(count + 1):
        left = labels[u - 1] if u > 0 else NONE
        right = labels[u] if u < count else NONE
        _one_more(probs, before, after, total, 2 * u, 2 * u, left, right, inserted[u])
        inserted[u, 0] = 0.0
        if u < count:
            right = labels[u + 1] if u + 1 < count else NONE
            _one_more(probs, before, after, total, 2 * u, 2 * u + 2, left, right, replaced[u])
            mass = -math.inf
            for t in range(frames + 1):
                come = before[t, 2 * u]
                if u > 0 and left != right:
                    come = add(come, before[t, 2 * u - 1])
                if right != NONE:
                    mass = add(mass, come + after[t, 2 * u + 3])
                elif t == frames:
                    mass = come
            replaced[u, 0] = mass - total
    return total, replaced, inserted


@compiled()
def _one_more(
    probs: Any,
    before: Any,
    after: Any,
    total: float,
    first: int,
    second: int,
    left: int,
    right: int,
    result: Any,
) -> None:
    """Sum the paths through one more label, from the blank `first` to the blank `second`.

    The label may also follow `left` and precede `right` without a blank, unless it is the same.
    `result` (V,) gets the logarithms, less `total`, for each label.
    """
    frames, size = probs.shape
    masses, sums = np.zeros(size), np.zeros(size)
    earlier = -math.inf  # of the paths that go on after the frame before
    for t in range(frames):
        past_blank = before[t, first]
        past = past_blank if left == NONE else add(past_blank, before[t, first - 1])
        to_blank = after[t + 1, second]
        to = to_blank if right == NONE else add(to_blank, after[t + 1, second + 1])
        if to == -math.inf:
            continue
        # masses are those of the paths in the label at t, with all that may follow, over `total`
        carry = math.exp(to - earlier) if earlier > -math.inf else 0.0
        enter, enter_blank = math.exp(past + to - total), math.exp(past_blank + to - total)
        leave_blank = math.exp(to_blank - to)
        for v in range(1, size):
            masses[v] = probs[t, v] * (masses[v] * carry + (enter_blank if v == left else enter))
            sums[v] += masses[v] * (leave_blank if v == right else 1.0)
        earlier = to
    for v in range(1, size):
        result[v] = math.log(sums[v]) if sums[v] > 0.0 else -math.inf
