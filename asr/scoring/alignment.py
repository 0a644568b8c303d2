"""Alignment of a hypothesis to its reference, step by step as each scorer does it.

`levenshtein` is rapidfuzz's minimum edit distance, the alignment that jiwer counts. `sclite` is
NIST sclite's with -s (letter case counts): substitutions cost 4, insertions and deletions 3. This
file is the readable statement; `asr.scoring.kernels` says the same for large files.
"""

from collections.abc import Sequence

from asr.scoring.base import CORRECT, DELETED, INSERTED, OPTIONAL, SUBSTITUTED

# What a deletion of an optional phone costs: sclite 2 of 4/3/3 (word.c, wwd_WORD), levenshtein 0
# of 1/1/1.
COSTS = {"sclite": (4, 3, 2), "levenshtein": (1, 1, 0)}


def align(
    reference: Sequence[int],
    hypothesis: Sequence[int],
    scorer: str,
    optional: frozenset[int] = frozenset(),
) -> str:
    """One letter of CSDIO per step of the scorer's best alignment of two sequences of labels."""
    if scorer == "levenshtein" and not optional:
        return _levenshtein(reference, hypothesis)
    return _cheapest(reference, hypothesis, COSTS[scorer], optional)


def _levenshtein(reference: Sequence[int], hypothesis: Sequence[int]) -> str:
    from rapidfuzz.distance import Levenshtein

    letters = {"equal": CORRECT, "replace": SUBSTITUTED, "delete": DELETED, "insert": INSERTED}
    return "".join(
        letters[block.tag] * max(block.src_end - block.src_start, block.dest_end - block.dest_start)
        for block in Levenshtein.opcodes(reference, hypothesis)
    )


def _cheapest(
    reference: Sequence[int],
    hypothesis: Sequence[int],
    costs: tuple[int, int, int],
    optional: frozenset[int],
) -> str:
    """Dynamic programming with sclite's tie-break (net_dp.c, calculate_internal_cells).

    Of equal costs a pair (match or substitution) wins, then an insertion, then a deletion, decided
    from the end of both sequences backwards.
    """
    substitution, gap, optional_gap = costs
    above = [gap * j for j in range(len(hypothesis) + 1)]
    choices = [INSERTED * len(above)]
    for phone in reference:
        drop = optional_gap if phone in optional else gap
        row = [above[0] + drop]
        chosen = [DELETED]
        for j, heard in enumerate(hypothesis):
            pair = above[j] + (0 if heard == phone else substitution)
            delete = above[j + 1] + drop
            insert = row[j] + gap
            if pair <= delete and pair <= insert:
                row.append(pair)
                chosen.append(CORRECT if heard == phone else SUBSTITUTED)
            elif delete < insert:
                row.append(delete)
                chosen.append(DELETED)
            else:
                row.append(insert)
                chosen.append(INSERTED)
        above = row
        choices.append("".join(chosen))
    steps = []
    i, j = len(reference), len(hypothesis)
    while i or j:
        choice = choices[i][j]
        if choice == DELETED and reference[i - 1] in optional:
            choice = OPTIONAL
        steps.append(choice)
        i -= choice != INSERTED
        j -= choice not in (DELETED, OPTIONAL)
    return "".join(reversed(steps))
