"""Prefix beam search over CTC's log-probabilities, compiled (Graves 2012; Hannun et al. 2014).

A hypothesis is a prefix, the labels so far, with the probability mass of all its alignments in the
beam. Masses are numbers, not logarithms, relative to the best one of each frame. This file knows
neither torch nor phones; `tests/test_search.py` compares it with a plain form of the same search.
"""

import math
from heapq import heappush, heapreplace
from typing import Any

import numpy as np

from asr.processor.compiled import compiled
from asr.search.graph import fill_row

BLANK = 0
NONE = -1


@compiled()
def search(
    log_probs: Any,
    graph: Any,
    weight: float,
    bonus: float,
    beam: int,
    threshold: float,
    n_best: int,
) -> Any:
    """The best label sequences of one utterance, best first.

    `log_probs` (T, V), label 0 the blank; `graph` a `search.graph.Graph`. In each frame the
    `beam` best prefixes at most `threshold` nats below the best one are kept. Returns labels
    (n, T), their counts (n,) and scores (n,) in nats, n ≤ n_best: log Σ over alignments + weight ·
    log P of the language model, with the sentence's end, + bonus for each label.
    """
    frames, size = log_probs.shape
    most = 1 + beam * frames
    # ── the trie of prefixes; node 0 is the empty one ───────────────────────────────────────────
    parent = np.empty(most, np.int32)
    label = np.empty(most, np.int32)
    child = np.empty(most, np.int32)  # one of them; the others are its siblings
    sibling = np.empty(most, np.int32)
    state = np.empty(most, np.int32)  # of the language model
    gain = np.empty(most)  # factor that the language model and the bonus give to the last label
    place = np.empty(most, np.int32)  # in the beam, or NONE
    parent[0], label[0], child[0], sibling[0] = NONE, BLANK, NONE, NONE
    state[0], gain[0], place[0] = graph.start, 1.0, 0
    nodes = 1
    # ── gains and targets of all labels in the states of the language model met so far ─────────
    rows_by_hash = np.full(256, NONE, np.int32)  # less than half full
    state_of = np.empty(128, np.int32)  # of each row
    gains = np.empty((min(64, len(graph.states)), size))
    targets = np.empty((len(gains), size), np.int32)
    highest = np.empty(len(gains))
    rows = 0
    # ── the beam: prefixes with the mass of alignments that end in blank, and in a label ────────
    node = np.zeros(beam, np.int32)
    blank_mass, label_mass = np.zeros(beam), np.zeros(beam)
    next_node = np.zeros(beam, np.int32)
    next_blank_mass, next_label_mass = np.zeros(beam), np.zeros(beam)
    stay_blank, stay_label = np.zeros(beam), np.zeros(beam)
    reached = np.full((beam, size), NONE, np.int32)  # frame in which an extension was in the beam
    blank_mass[0] = 1.0
    filled = 1
    log_scale = 0.0
    floor = math.exp(-threshold)
    for t in range(frames):
        top = log_probs[t].max()
        prob = np.exp(log_probs[t].astype(np.float64) - top)
        by_prob = np.argsort(-prob[1:]) + 1
        heap = [(0.0, 0) for _ in range(0)]  # (mass, place · V + label), blank: the prefix itself
        best = 0.0
        # ── prefixes that stay as they are ──────────────────────────────────────────────────────
        for k in range(filled):
            n = node[k]
            e = label[n]
            mass = blank_mass[k] + label_mass[k]
            stay_blank[k] = mass * prob[BLANK]
            stay_label[k] = label_mass[k] * prob[e]
            if n > 0:
                j = place[parent[n]]
                if j != NONE:
                    from_parent = blank_mass[j]
                    if label[node[j]] != e:
                        from_parent += label_mass[j]
                    stay_label[k] += from_parent * prob[e] * gain[n]
                    reached[j, e] = t
            stays = stay_blank[k] + stay_label[k]
            if stays > 0.0:
                heappush(heap, (stays, k * size))
                best = max(best, stays)
        # ── prefixes that grow by a label ───────────────────────────────────────────────────────
        for k in range(filled):
            n = node[k]
            mass = blank_mass[k] + label_mass[k]
            s = state[n]
            if 2 * rows == len(rows_by_hash):
                rows_by_hash = np.full(4 * rows, NONE, np.int32)
                state_of = np.concatenate((state_of, np.empty_like(state_of)))
                for row in range(rows):
                    rows_by_hash[_place(rows_by_hash, state_of, state_of[row])] = row
            h = _place(rows_by_hash, state_of, s)
            if rows_by_hash[h] == NONE:
                if rows == len(gains):
                    gains = np.concatenate((gains, np.empty_like(gains)))
                    targets = np.concatenate((targets, np.empty_like(targets)))
                    highest = np.concatenate((highest, np.empty_like(highest)))
                fill_row(graph, s, gains[rows], targets[rows])
                gains[rows] = np.exp(weight * gains[rows] + bonus)
                highest[rows] = gains[rows, 1:].max()
                rows_by_hash[h], state_of[rows] = rows, s
                rows += 1
            row = rows_by_hash[h]
            bound = mass * highest[row]
            for v in by_prob:
                least = best * floor
                if len(heap) == beam:
                    least = max(least, heap[0][0])
                if bound * prob[v] <= least:
                    break
                if reached[k, v] == t:
                    continue
                grown = (blank_mass[k] if v == label[n] else mass) * prob[v] * gains[row, v]
                if grown > least:
                    if len(heap) == beam:
                        heapreplace(heap, (grown, k * size + v))
                    else:
                        heappush(heap, (grown, k * size + v))
                    best = max(best, grown)
        # ── the new beam ────────────────────────────────────────────────────────────────────────
        for k in range(filled):
            place[node[k]] = NONE
        kept = 0
        for mass, code in heap:
            if mass < best * floor:
                continue
            k, v = code // size, code % size
            if v == BLANK:
                next_node[kept] = node[k]
                next_blank_mass[kept] = stay_blank[k] / best
                next_label_mass[kept] = stay_label[k] / best
            else:
                n = child[node[k]]
                while n != NONE and label[n] != v:
                    n = sibling[n]
                if n == NONE:
                    n = nodes
                    nodes += 1
                    parent[n], label[n], child[n] = node[k], v, NONE
                    sibling[n] = child[node[k]]
                    child[node[k]] = n
                    row = rows_by_hash[_place(rows_by_hash, state_of, state[node[k]])]
                    state[n], gain[n] = targets[row, v], gains[row, v]
                next_node[kept] = n
                next_blank_mass[kept] = 0.0
                next_label_mass[kept] = mass / best
            kept += 1
        node, next_node = next_node, node
        blank_mass, next_blank_mass = next_blank_mass, blank_mass
        label_mass, next_label_mass = next_label_mass, label_mass
        filled = kept
        for k in range(filled):
            place[node[k]] = k
        log_scale += top + (math.log(best) if best > 0.0 else 0.0)
    return _best_paths(
        parent,
        label,
        node[:filled],
        np.log(blank_mass[:filled] + label_mass[:filled])
        + weight * graph.states["end"][state[node[:filled]]]
        + log_scale,
        min(n_best, filled),
        frames,
    )


@compiled()
def _place(rows_by_hash: Any, state_of: Any, state: int) -> int:
    """Where the row of a state is, or belongs, in a hash table with a free place."""
    h = state * 2654435761 % len(rows_by_hash)
    while rows_by_hash[h] != NONE and state_of[rows_by_hash[h]] != state:
        h = (h + 1) % len(rows_by_hash)
    return h


@compiled()
def _best_paths(parent: Any, label: Any, node: Any, scores: Any, n_best: int, frames: int) -> Any:
    order = np.argsort(-scores)[:n_best]
    labels = np.zeros((n_best, frames), np.int32)
    lengths = np.zeros(n_best, np.int64)
    for rank, k in enumerate(order):
        n = node[k]
        while n > 0:
            labels[rank, lengths[rank]] = label[n]
            lengths[rank] += 1
            n = parent[n]
        labels[rank, : lengths[rank]] = labels[rank, : lengths[rank]][::-1].copy()
    return labels, lengths, scores[order]
