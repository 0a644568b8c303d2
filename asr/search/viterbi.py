"""Viterbi search in hidden Markov models of phones, compiled (Rabiner 1989; Young et al. 1989).

A phone is a chain of `states · floor` positions from left to right: each state has `floor` of
them, and only its last one may be stayed in. Label 0, no phone, is a single position that may lie
before, between and after phones. Column 0 of the scores is label 0's, then come the states of
label 1, of label 2, and so on. There are no transition probabilities: a path's score is that of
its frames, the language model and the bonus.

This file knows neither torch nor phones; `tests/test_hmm.py` compares it with all paths,
enumerated.
"""

import math
from typing import Any

import numpy as np

from asr.processor.compiled import compiled
from asr.search.graph import fill_row

NONE = -1


@compiled()
def search(
    scores: Any,
    graph: Any,
    states: int,
    floor: int,
    weight: float,
    bonus: float,
    beam: int,
    threshold: float,
) -> Any:
    """The best path of one utterance: labels (n,) with 0 between phones, first frames (n,), score.

    `scores` (T, 1 + (V − 1) · states) in nats; `graph` a `search.graph.Graph`. A token is a
    position in a phone under a state of the language model; in each frame the `beam` best tokens
    at most `threshold` nats below the best one are kept. The score is that of the frames +
    weight · log P of the language model, with the sentence's end, + bonus for each label but 0.
    Where no token has reached the end of a phone in the last frame, the best token is taken; where
    there is no token at all, the score is −∞.
    """
    frames = len(scores)
    size = 1 + (scores.shape[1] - 1) // states
    chain = states * floor
    histories = len(graph.states) - 1
    # ── nodes: the label that a history ends in; labels after the empty history; no phone ───────
    first_silence = histories + size
    label_of = np.zeros(first_silence + histories, np.int32)
    for arc in graph.arcs:
        label_of[arc.target] = arc.label
    for v in range(size):
        label_of[histories + v] = v
    # ── gains and targets of all labels in the histories met so far ────────────────────────────
    row_of = np.full(histories, NONE, np.int32)
    gains = np.empty((min(64, histories), size))
    targets = np.empty((len(gains), size), np.int32)
    highest = np.empty(len(gains))
    rows = 0
    # ── tokens, by cell = node · chain + position ───────────────────────────────────────────────
    cells = len(label_of) * chain
    score, next_score = np.full(cells, -math.inf), np.full(cells, -math.inf)
    record, next_record = np.empty(cells, np.int32), np.empty(cells, np.int32)
    active = np.empty(0, np.int32)
    entered = np.full(cells, NONE, np.int32)  # frame in which its token came from another label
    touched = np.empty(cells, np.int32)
    # ── where labels begin: each record knows the one before it ─────────────────────────────────
    previous = np.empty(1024, np.int32)
    label = np.empty(1024, np.int32)
    start = np.empty(1024, np.int32)
    records = 0
    exit_score = np.full(histories, -math.inf)
    exit_record = np.empty(histories, np.int32)
    exits = np.empty(histories, np.int32)
    exit_score[graph.start], exit_record[graph.start], exits[0] = 0.0, NONE, graph.start
    exiting = 1
    for t in range(frames):
        now = scores[t]
        best = -math.inf
        reached = 0
        # ── tokens that stay, or go on in their label ───────────────────────────────────────────
        for cell in active:
            node, position = cell // chain, cell % chain
            for ahead in range(2):
                if node >= first_silence:
                    if ahead == 1:
                        continue
                    column = 0
                else:
                    if ahead == 0 and position % floor != floor - 1:
                        continue
                    if ahead == 1 and position == chain - 1:
                        continue
                    column = 1 + (label_of[node] - 1) * states + (position + ahead) // floor
                total = score[cell] + now[column]
                if total > next_score[cell + ahead]:
                    if next_score[cell + ahead] == -math.inf:
                        touched[reached] = cell + ahead
                        reached += 1
                    next_score[cell + ahead] = total
                    next_record[cell + ahead] = record[cell]
                    entered[cell + ahead] = NONE
                    best = max(best, total)
        # ── tokens that enter a label ───────────────────────────────────────────────────────────
        loudest = now.max()
        for e in range(exiting):
            q = exits[e]
            if row_of[q] == NONE:
                if rows == len(gains):
                    gains = np.concatenate((gains, np.empty_like(gains)))
                    targets = np.concatenate((targets, np.empty_like(targets)))
                    highest = np.concatenate((highest, np.empty_like(highest)))
                fill_row(graph, q, gains[rows], targets[rows])
                gains[rows] = gains[rows] * weight + bonus
                gains[rows, 0] = 0.0  # label 0 is no phone, and leaves the history as it is
                highest[rows] = max(0.0, gains[rows].max())
                row_of[q] = rows
                rows += 1
            row = row_of[q]
            if exit_score[q] + highest[row] + loudest < best - threshold:
                continue
            for v in range(size):
                if v == 0:
                    entry, column = (first_silence + q) * chain, 0
                else:
                    entry = (targets[row, v] or histories + v) * chain
                    column = 1 + (v - 1) * states
                total = exit_score[q] + gains[row, v] + now[column]
                if total > next_score[entry] and total >= best - threshold:
                    if next_score[entry] == -math.inf:
                        touched[reached] = entry
                        reached += 1
                    next_score[entry] = total
                    next_record[entry] = exit_record[q]
                    entered[entry] = t
                    best = max(best, total)
        # ── the tokens that stay in the beam, and those of them that may leave their label ──────
        for cell in active:
            score[cell] = -math.inf
        for e in range(exiting):
            exit_score[exits[e]] = -math.inf
        exiting = 0
        least = best - threshold
        if reached > beam:
            some = next_score[touched[:reached]]
            least = max(least, np.partition(some, reached - beam)[reached - beam])
        active = np.empty(min(reached, beam), np.int32)
        kept = 0
        for i in range(reached):
            cell = touched[i]
            if next_score[cell] < least or kept == len(active):
                next_score[cell] = -math.inf
                continue
            active[kept] = cell
            kept += 1
            node = cell // chain
            if entered[cell] == t:
                if records == len(label):
                    previous = np.concatenate((previous, np.empty_like(previous)))
                    label = np.concatenate((label, np.empty_like(label)))
                    start = np.concatenate((start, np.empty_like(start)))
                previous[records] = next_record[cell]
                label[records], start[records] = label_of[node], t
                next_record[cell] = records
                records += 1
            q = _history(node, histories, first_silence)
            if node >= first_silence or cell % chain == chain - 1:
                if exit_score[q] == -math.inf:
                    exits[exiting] = q
                    exiting += 1
                if next_score[cell] > exit_score[q]:
                    exit_score[q], exit_record[q] = next_score[cell], next_record[cell]
        active = active[:kept]
        score, next_score = next_score, score
        record, next_record = next_record, record
    # ── the end ─────────────────────────────────────────────────────────────────────────────────
    best, last = -math.inf, NONE
    for e in range(exiting):
        total = exit_score[exits[e]] + weight * graph.states[exits[e]].end
        if total > best:
            best, last = total, exit_record[exits[e]]
    if exiting == 0:
        for cell in active:
            if score[cell] > best:
                best, last = score[cell], record[cell]
    count, one = 0, last
    while one != NONE:
        count, one = count + 1, previous[one]
    labels, starts = np.empty(count, np.int64), np.empty(count, np.int64)
    for i in range(count - 1, -1, -1):
        labels[i], starts[i], last = label[last], start[last], previous[last]
    return labels, starts, best


@compiled()
def _history(node: int, histories: int, first_silence: int) -> int:
    """The state of the language model at a node."""
    if node < histories:
        return node
    return 0 if node < first_silence else node - first_silence
