"""Is one system better than another on the same utterances, and how many utterances would tell?

MAPSSWE is computed on sclite's alignments, as NIST sc_stats does it, whatever scorer counts the
errors. The bootstrap draws speakers, both systems together. This file aligns nothing itself.
"""

import math
from collections.abc import Iterable, Mapping

from asr.scoring.base import (
    CORRECT,
    INSERTED,
    OPTIONAL,
    ErrorCounts,
    Interval,
    Mapsswe,
    PairedBootstrap,
)

BOUNDARY = 2  # correct phones in both systems that end a segment (sc_stats, DEFAULT_MIN_NUM_GOOD)


def mapsswe(pairs: Iterable[tuple[str, str]]) -> Mapsswe:
    """Test the alignments of A and B, given as letters of CSDIO for every utterance."""
    differences = [errors_a - errors_b for pair in pairs for errors_a, errors_b in segments(*pair)]
    n = len(differences)
    if n == 0:
        return Mapsswe(0, 0.0, 0.0, 0.0, 1.0)
    mean = sum(differences) / n
    variance = sum((d - mean) ** 2 for d in differences) / (n - 1) if n > 1 else 0.0
    sd = math.sqrt(variance)
    if sd == 0.0:
        # Every segment differs alike: no spread to test against, which sc_stats leaves at 0.
        return Mapsswe(n, mean, 0.0, 0.0, 1.0)
    z = mean / (sd / math.sqrt(n))
    return Mapsswe(n, mean, sd, z, math.erfc(abs(z) / math.sqrt(2.0)))


def segments(ops_a: str, ops_b: str) -> list[tuple[int, int]]:
    """Errors of A and of B in each segment of one utterance that holds any.

    A segment is bounded by two phones that both systems have right, or by the ends of the
    utterance (mtchprs.c, test_comp_sents). Both strings align the same reference.
    """
    found = []
    i = j = 0  # steps of A and of B
    good_a = good_b = 0  # the last phone that both had right before the errors
    state, good = "b", 0
    while i < len(ops_a):
        while i < len(ops_a) and ops_a[i] == INSERTED:
            i, state = i + 1, "e"
        while j < len(ops_b) and ops_b[j] == INSERTED:
            j, state = j + 1, "e"
        both_right = (
            i < len(ops_a)
            and j < len(ops_b)
            and ops_a[i] in (CORRECT, OPTIONAL)
            and ops_b[j] in (CORRECT, OPTIONAL)
        )
        if not both_right:
            state = "e"
        elif state == "b":
            good_a, good_b = i, j
        else:
            good = 1 if state == "e" else good + 1
            state = "g"
            if good == BOUNDARY:
                found.append((_errors(ops_a, good_a, i), _errors(ops_b, good_b, j)))
                good_a, good_b, state = i, j, "b"
        i, j = min(i + 1, len(ops_a)), min(j + 1, len(ops_b))
    if state != "b" or j < len(ops_b):  # errors, or insertions of B behind the last phone
        found.append((_errors(ops_a, good_a, len(ops_a)), _errors(ops_b, good_b, len(ops_b))))
    return [errors for errors in found if errors != (0, 0)]


def _errors(ops: str, good: int, last: int) -> int:
    within = ops[max(good - (BOUNDARY - 1), 0) : last + 1]
    return len(within) - within.count(CORRECT) - within.count(OPTIONAL)


def paired_bootstrap(
    counts_a: Mapping[str, ErrorCounts],
    counts_b: Mapping[str, ErrorCounts],
    by: str,
    replicates: int,
    seed: int,
) -> PairedBootstrap | None:
    """Draw the same units for both systems; None below two units or without phones."""
    import numpy as np

    names = sorted(counts_a)
    ref, err_a, err_b = (
        np.array(
            [(counts_a[n].ref, counts_a[n].err, counts_b[n].err) for n in names], dtype=np.int64
        )
        .reshape(-1, 3)
        .T
    )
    if len(names) < 2 or replicates < 1 or ref.sum() == 0:
        return None
    draws = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1.0 / len(names)), size=replicates
    )
    drawn_ref = draws @ ref
    differences = 100.0 * (draws @ (err_a - err_b))[drawn_ref > 0] / drawn_ref[drawn_ref > 0]
    point = 100.0 * float((err_a - err_b).sum()) / float(ref.sum())
    low, high = (float(x) for x in np.percentile(differences, [2.5, 97.5]))
    below = (1 + int((differences <= 0).sum())) / (len(differences) + 1)
    above = (1 + int((differences >= 0).sum())) / (len(differences) + 1)
    return PairedBootstrap(
        by,
        len(names),
        point,
        Interval(min(low, point), max(high, point)),
        min(1.0, 2.0 * min(below, above)),
    )
