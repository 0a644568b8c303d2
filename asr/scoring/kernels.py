"""`asr.scoring.alignment.cheapest` for many utterances, compiled by numba."""

from itertools import pairwise
from typing import Any

import numpy as np

from asr.processor.compiled import compiled
from asr.scoring.base import CORRECT, DELETED, INSERTED, OPTIONAL, SUBSTITUTED, Pairs

LETTERS = np.frombuffer((CORRECT + SUBSTITUTED + DELETED + INSERTED + OPTIONAL).encode(), np.uint8)


def cheapest(pairs: Pairs, costs: tuple[int, int, int]) -> list[str]:
    """The cheapest alignment of every pair, with sclite's choice among equal costs."""
    (said, said_ends), (heard, heard_ends) = pairs.labels
    optional = np.array([phone in pairs.optional for phone in pairs.phones], dtype=np.bool_)
    longest = [int(np.diff(ends).max(initial=0)) for ends in (said_ends, heard_ends)]
    table = np.empty((longest[0] + 1, longest[1] + 1), dtype=np.int32)
    steps = np.empty(len(said) + len(heard), dtype=np.uint8)
    ends = np.zeros(len(said_ends), dtype=np.int64)
    fill(said, said_ends, heard, heard_ends, *costs, optional, LETTERS, table, steps, ends)
    letters = steps[: ends[-1]].tobytes().decode("ascii")
    return [letters[low:high] for low, high in pairwise(ends.tolist())]


@compiled()
def fill(
    said: Any,
    said_ends: Any,
    heard: Any,
    heard_ends: Any,
    substitution: int,
    gap: int,
    optional_gap: int,
    optional: Any,
    letters: Any,
    cost: Any,
    steps: Any,
    ends: Any,
) -> None:
    """Fill `steps` (uint8) with the letters of N utterances and `ends` (N + 1,) with their ends.

    Labels (int32) of all utterances follow each other, and `said_ends`, `heard_ends` (N + 1,) say
    where each ends. `optional` (V,) marks labels that may be left out, `letters` are CSDIO.
    `cost` (int32) has room for the longest reference and hypothesis.
    """
    for k in range(len(said_ends) - 1):
        ref = said[said_ends[k] : said_ends[k + 1]]
        hyp = heard[heard_ends[k] : heard_ends[k + 1]]
        n, m = len(ref), len(hyp)
        for j in range(m + 1):
            cost[0, j] = gap * j
        for i in range(n):
            above, row, phone = cost[i], cost[i + 1], ref[i]
            drop = optional_gap if optional[phone] else gap
            for j in range(m):  # a loop of its own, many steps of which a processor does at once
                pair = above[j] + (0 if hyp[j] == phone else substitution)
                row[j + 1] = min(pair, above[j + 1] + drop)
            row[0] = above[0] + drop
            for j in range(m):
                row[j + 1] = min(row[j + 1], row[j] + gap)
        i, j, end = n, m, ends[k]
        while i > 0 or j > 0:
            is_pair = i > 0 and j > 0
            if is_pair:
                is_same = ref[i - 1] == hyp[j - 1]
                is_pair = cost[i, j] == cost[i - 1, j - 1] + (0 if is_same else substitution)
            if is_pair:
                letter = 0 if is_same else 1
                i, j = i - 1, j - 1
            elif j > 0 and cost[i, j] == cost[i, j - 1] + gap:
                letter = 3
                j -= 1
            else:
                letter = 4 if optional[ref[i - 1]] else 2
                i -= 1
            steps[end] = letters[letter]
            end += 1
        steps[ends[k] : end] = steps[ends[k] : end][::-1].copy()
        ends[k + 1] = end
