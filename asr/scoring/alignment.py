"""Alignment of hypotheses to their references, step by step as each scorer does it.

`levenshtein` is jiwer's minimum edit distance. `sclite` is NIST sclite's with -s (letter case
counts): substitutions cost 4, insertions and deletions 3. This is the readable form of what
`asr.scoring.kernels` does for many utterances.
"""

from collections.abc import Sequence
from typing import Any

from asr.scoring.base import CORRECT, DELETED, INSERTED, OPTIONAL, SUBSTITUTED, Pairs

# Of a substitution, of an insertion or a deletion, and of the deletion of an optional phone:
# sclite 2 of 4/3/3 (word.c, wwd_WORD), levenshtein 0 of 1/1/1.
COSTS = {"sclite": (4, 3, 2), "levenshtein": (1, 1, 0)}
BLOCK = 1000  # utterances that jiwer aligns at once: its alignments are large

JIWER_LETTERS = {
    "equal": CORRECT,
    "substitute": SUBSTITUTED,
    "delete": DELETED,
    "insert": INSERTED,
}


def fewest_errors(pairs: Pairs) -> list[str]:
    """jiwer's alignment of every pair: one letter of CSDIO for each of its steps."""
    import jiwer

    unchanged = jiwer.Compose([])  # phones are words already, also where they hold a space

    def sentences(side: Sequence[Sequence[str]]) -> Any:
        return [list(phones) for phones in side]

    aligned = []
    for start in range(0, len(pairs.said), BLOCK):
        said, heard = (sentences(side[start : start + BLOCK]) for side in (pairs.said, pairs.heard))
        for chunks in jiwer.process_words(said, heard, unchanged, unchanged).alignments:
            steps = [
                JIWER_LETTERS[chunk.type]
                * max(
                    chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx
                )
                for chunk in chunks
            ]
            aligned.append("".join(steps))
    return aligned


def cheapest(pairs: Pairs, costs: tuple[int, int, int]) -> list[str]:
    """The cheapest alignment of every pair, with sclite's choice among equal costs."""
    return [
        _cheapest(said, heard, costs, pairs.optional)
        for said, heard in zip(pairs.said, pairs.heard, strict=True)
    ]


def _cheapest(
    reference: Sequence[str],
    hypothesis: Sequence[str],
    costs: tuple[int, int, int],
    optional: frozenset[str],
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
