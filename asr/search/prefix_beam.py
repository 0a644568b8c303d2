"""Prefix beam search over CTC's log-probabilities, compiled (Graves 2012; Hannun et al. 2014).

A hypothesis is a prefix, the labels so far, with the probability mass of all its alignments in the
beam. Masses are numbers, not logarithms, relative to the best one of each frame. This file knows
neither torch nor phones; `tests/test_search.py` compares it with a plain form of the same search.
"""

import math
from heapq import heappush, heapreplace
from typing import Any, NamedTuple

import numpy as np

from asr.processor.compiled import compiled
from asr.search.graph import fill_row

BLANK = 0
NONE = -1
NODES, ROWS, FILLED, FRAMES, ROOT, SINCE = range(6)  # places in `Beam.counts`
LIKELY = 0.01  # mass of a prefix whose last label may be said to begin, of the best one's
MOST_ROWS = 1 << 14  # of the language model, kept at a time


class Beam(NamedTuple):
    """A search that goes on: prefixes with their masses, in a trie, after some frames."""

    counts: Any  # (6,) numbers: nodes of the trie, rows, prefixes in the beam, frames so far, the
    # trie's root, and the frames after which something was decided, or nothing was open
    log_scale: Any  # (1,): logarithm of the mass 1
    # ── the trie of prefixes; the root is the empty one, or what `commit` has decided ───────────
    parent: Any
    label: Any
    child: Any  # one of them; the others are its siblings
    sibling: Any
    state: Any  # of the language model
    gain: Any  # factor that the language model and the bonus give to the last label
    place: Any  # in the beam, or NONE
    moment: Any  # the frame in which the last label begins, in most of the alignments
    # ── gains and targets of all labels in the states of the language model met so far ─────────
    rows_by_hash: Any  # less than half full
    state_of: Any  # of each row
    gains: Any
    targets: Any
    highest: Any
    # ── prefixes with the mass of alignments that end in blank, and in a label ──────────────────
    node: Any
    blank_mass: Any
    label_mass: Any
    reached: Any  # frame in which an extension was in the beam


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
    b = begin(graph, size, beam, 1 + beam * frames)
    b = advance(b, log_probs, graph, weight, bonus, threshold)
    filled = b.counts[FILLED]
    scores = _scores(b, graph, weight)
    return _best_paths(b.parent, b.label, b.node[:filled], scores, min(n_best, filled), frames)


@compiled()
def begin(graph: Any, size: int, beam: int, nodes: int) -> Any:
    """The `Beam` before the first frame, for V labels, with room for `nodes` of the trie."""
    nodes = max(nodes, beam + 1)
    b = Beam(
        np.array([1, 0, 1, 0, 0, 0]),
        np.zeros(1),
        np.empty(nodes, np.int32),
        np.empty(nodes, np.int32),
        np.empty(nodes, np.int32),
        np.empty(nodes, np.int32),
        np.empty(nodes, np.int32),
        np.empty(nodes),
        np.empty(nodes, np.int32),
        np.empty(nodes, np.int32),
        np.full(256, NONE, np.int32),
        np.empty(128, np.int32),
        np.empty((min(64, len(graph.states)), size)),
        np.empty((min(64, len(graph.states)), size), np.int32),
        np.empty(min(64, len(graph.states))),
        np.zeros(beam, np.int32),
        np.zeros(beam),
        np.zeros(beam),
        np.full((beam, size), NONE, np.int32),
    )
    b.parent[0], b.label[0], b.child[0], b.sibling[0] = NONE, BLANK, NONE, NONE
    b.state[0], b.gain[0], b.place[0], b.moment[0] = graph.start, 1.0, 0, 0
    b.blank_mass[0] = 1.0
    return b


@compiled()
def advance(
    b: Any, log_probs: Any, graph: Any, weight: float, bonus: float, threshold: float
) -> Any:
    """The `Beam` after further frames, (T, V), of which any number may come at a time."""
    frames, size = log_probs.shape
    parent, label, child, sibling = b.parent, b.label, b.child, b.sibling
    state, gain, place, moment = b.state, b.gain, b.place, b.moment
    rows_by_hash, state_of = b.rows_by_hash, b.state_of
    gains, targets, highest = b.gains, b.targets, b.highest
    node, blank_mass, label_mass, reached = b.node, b.blank_mass, b.label_mass, b.reached
    nodes, rows, filled, before, root, since = b.counts
    beam = len(node)
    next_node = np.zeros(beam, np.int32)
    next_blank_mass, next_label_mass = np.zeros(beam), np.zeros(beam)
    stay_blank, stay_label = np.zeros(beam), np.zeros(beam)
    log_scale = b.log_scale[0]
    floor = math.exp(-threshold)
    for frame in range(frames):
        t = before + frame
        if nodes + beam > len(parent):
            nodes = _prune(
                *(parent, label, child, sibling, state, gain, place, moment),
                *(node[:filled], nodes),
            )
            root = 0
            if 2 * (nodes + beam) > len(parent):
                parent, label = _longer(parent), _longer(label)
                child, sibling = _longer(child), _longer(sibling)
                state, gain = _longer(state), _longer(gain)
                place, moment = _longer(place), _longer(moment)
        if rows > MOST_ROWS:
            rows = 0
            rows_by_hash[:] = NONE
        top = log_probs[frame].max()
        prob = np.exp(log_probs[frame].astype(np.float64) - top)
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
            if parent[n] != NONE:
                j = place[parent[n]]
                if j != NONE:
                    from_parent = blank_mass[j]
                    if label[node[j]] != e:
                        from_parent += label_mass[j]
                    begins = from_parent * prob[e] * gain[n]
                    if begins > max(LIKELY, stay_blank[k] + stay_label[k]):
                        moment[n] = t
                    stay_label[k] += begins
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
                moment[n] = t
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
    return Beam(
        np.array([nodes, rows, filled, before + frames, root, since]),
        np.array([log_scale]),
        parent,
        label,
        child,
        sibling,
        state,
        gain,
        place,
        moment,
        rows_by_hash,
        state_of,
        gains,
        targets,
        highest,
        node,
        blank_mass,
        label_mass,
        reached,
    )


@compiled()
def commit(b: Any, share: float, patience: int) -> Any:
    """Decide the first labels of all prefixes, and forget the others: → labels (any number,).

    A label is decided when the prefixes with it have the `share` of the beam's mass, or more than
    those with any other label or none and it began `patience` frames ago, or nothing was decided
    for twice as many. With `share` 1 and endless patience all prefixes have it, and
    nothing is lost.
    """
    labels = np.empty(0, np.int32)
    while True:
        filled, root, now = b.counts[FILLED], b.counts[ROOT], b.counts[FRAMES]
        first = np.empty(filled, np.int32)  # the node below the root that a prefix goes through
        masses = np.zeros(b.gains.shape[1])  # of each label there, and of none
        below = np.full(len(masses), NONE, np.int32)  # the node of each label there
        for k in range(filled):
            n, first[k] = b.node[k], NONE
            while n != root:
                n, first[k] = b.parent[n], n
            v = BLANK if first[k] == NONE else b.label[first[k]]
            masses[v] += b.blank_mass[k] + b.label_mass[k]
            below[v] = first[k]
        total, decided = masses.sum(), np.argmax(masses)
        if decided == BLANK or total == 0.0:
            b.counts[SINCE] = now
            return labels
        if not (
            masses[decided] >= share * total
            or now - 1 - b.moment[below[decided]] >= patience
            or now - b.counts[SINCE] >= 2 * patience
        ):
            return labels
        kept = 0
        for k in range(filled):
            n = b.node[k]
            b.place[n] = NONE
            if first[k] != NONE and b.label[first[k]] == decided:
                b.node[kept], b.place[n] = n, kept
                b.blank_mass[kept], b.label_mass[kept] = b.blank_mass[k], b.label_mass[k]
                kept += 1
        root = below[decided]
        b.counts[FILLED], b.counts[ROOT], b.counts[SINCE] = kept, root, now
        b.parent[root] = NONE
        labels = np.append(labels, np.int32(decided))


@compiled()
def best(b: Any, graph: Any, weight: float) -> Any:
    """The labels of the best prefix below the root, (any number,), if the sentence ended here.

    With `weight` 0 nothing is said of the sentence's end.
    """
    labels = np.empty(0, np.int32)
    if b.counts[FILLED] == 0:
        return labels
    n = b.node[np.argmax(_scores(b, graph, weight))]
    while b.parent[n] != NONE:
        labels = np.append(labels, b.label[n])
        n = b.parent[n]
    return labels[::-1].copy()


@compiled()
def _scores(b: Any, graph: Any, weight: float) -> Any:
    """Of the prefixes in the beam, with the sentence's end."""
    filled = b.counts[FILLED]
    mass = np.log(b.blank_mass[:filled] + b.label_mass[:filled])
    return mass + weight * graph.states["end"][b.state[b.node[:filled]]] + b.log_scale[0]


@compiled()
def _longer(values: Any) -> Any:
    return np.concatenate((values, np.empty_like(values)))


@compiled()
def _prune(
    parent: Any,
    label: Any,
    child: Any,
    sibling: Any,
    state: Any,
    gain: Any,
    place: Any,
    moment: Any,
    leaves: Any,
    nodes: int,
) -> int:
    """Forget the nodes that lead to none of the `leaves`, which get new numbers; how many are left.

    The root, the node before all others that are left, becomes node 0.
    """
    number = np.full(nodes, NONE, np.int32)
    for n in leaves:
        while n != NONE and number[n] == NONE:
            number[n] = 0
            n = parent[n]
    left = 0
    for n in range(nodes):
        if number[n] == NONE:
            continue
        m, above = left, parent[n]
        number[n] = m
        left += 1
        label[m], state[m], gain[m] = label[n], state[n], gain[n]
        place[m], moment[m] = place[n], moment[n]
        child[m] = sibling[m] = NONE
        parent[m] = NONE if above == NONE else number[above]
        if above != NONE:
            sibling[m], child[parent[m]] = child[parent[m]], m
    for k in range(len(leaves)):
        leaves[k] = number[leaves[k]]
    return left


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
        while parent[n] != NONE:
            labels[rank, lengths[rank]] = label[n]
            lengths[rank] += 1
            n = parent[n]
        labels[rank, : lengths[rank]] = labels[rank, : lengths[rank]][::-1].copy()
    return labels, lengths, scores[order]
