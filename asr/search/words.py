"""Word search over CTC's log-probabilities: a pronunciation tree with a word n-gram, compiled.

A token is a node of the tree in a state of the n-gram, with the probability mass of the alignments
that end in blank and in the node's phone, as in `prefix_beam`. Tokens of equal node and state are
one (Ney & Ortmanns 2000); the n-gram looks ahead by the best unigram below a node. A word outside
the lexicon is a loop over phones with a price. This file knows neither torch nor words:
`tests/test_words.py` compares it with an exhaustive search.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from asr.processor.compiled import compiled

BLANK = 0
NONE = -1


class Tree(NamedTuple):
    """Pronunciations as a prefix tree, over V labels; a node is the phone that leads to it.

    Node q < V is the root after a word that ends in phone q (0: before the first word), node V + q
    an unknown word that has come to phone q. The children of node n are the nodes
    `first_child[n]`…`last_child[n]`, in the order of labels; the pronunciations that end in it are
    `first_entry[n]`…`last_entry[n]`.
    """

    label: Any  # (nodes,) int32
    first_child: Any  # (nodes,) int32
    last_child: Any
    first_entry: Any
    last_entry: Any
    look_ahead: Any  # (nodes,) float64, log-probability of the likeliest word below it
    word: Any  # (entries,) int32, label of the word in the n-gram
    source: Any  # (entries,) int32, row of the pronunciation that the tree was made of
    is_first: Any  # (entries,) bool, whether it is the first of its word


def tree_of(pronunciations: Any, word: Any, log_prob: Any, size: int) -> Tree:
    """The tree of `pronunciations` (E, longest), labels 1…`size` − 1 and then zeros.

    `word` (E,) are the labels of their words, the pronunciations of each together, and `log_prob`
    (E,) the words' in the empty history.
    """
    phones = np.ascontiguousarray(pronunciations, np.uint8)
    order = np.lexsort(phones.T[::-1])
    is_first = np.append(True, word[1:] != word[:-1])[order]
    phones, word, log_prob = phones[order], word[order], log_prob[order]
    lengths = (phones > 0).sum(axis=1)
    same = np.cumprod(phones[1:] == phones[:-1], axis=1).sum(axis=1)  # phones shared with the last
    shared = np.concatenate([[0], same])
    label = [np.arange(size), np.arange(size)]
    parents = [np.full(2 * size, NONE)]
    above = np.zeros(len(phones), np.int64)  # node of each row at the depth before
    end = np.zeros(len(phones), np.int64)
    ahead: list[Any] = [np.zeros(2 * size)]
    nodes = 2 * size
    for depth in range(phones.shape[1]):
        rows = np.flatnonzero(lengths > depth)
        # a row is the first of its node where it differs from the row before at this depth
        is_new = shared[rows] <= depth
        place = np.cumsum(is_new) - 1
        label.append(phones[rows[is_new], depth])
        parents.append(above[rows[is_new]])
        best = np.full(int(is_new.sum()), -np.inf)
        np.maximum.at(best, place, log_prob[rows])
        ahead.append(best)
        above[rows] = nodes + place
        end[rows[lengths[rows] == depth + 1]] = above[rows[lengths[rows] == depth + 1]]
        nodes += len(best)
    parent = np.concatenate(parents)
    by_end = np.argsort(end, kind="stable")
    first_child, last_child, first_entry, last_entry = (
        np.searchsorted(keys, np.arange(nodes), side=side).astype(np.int32)
        for keys in (parent, end[by_end])
        for side in ("left", "right")
    )
    for array in (first_child, last_child):
        array[:size] = array[0]  # all roots have the children of the first
        array[size : 2 * size] = 0
    tree = Tree(
        np.concatenate(label).astype(np.int32),
        first_child,
        last_child,
        first_entry,
        last_entry,
        np.concatenate(ahead),
        word[by_end].astype(np.int32),
        order[by_end].astype(np.int32),
        is_first[by_end],
    )
    for array in tree:
        array.setflags(write=False)  # as the kept ones: `search` has one form
    return tree


KEY, NODE, STATE, HISTORY, CODE = range(5)  # columns of candidates
BLANK_MASS, LABEL_MASS, LARGEST = range(3)


@compiled()
def follow(graph: Any, state: int, label: int) -> Any:
    """The log-probability of a label in a state, and the state after it."""
    total = 0.0
    while True:
        low, end = graph.states[state].first_arc, graph.states[state + 1].first_arc
        high = end
        while low < high:
            middle = (low + high) // 2
            if graph.arcs[middle].label < label:
                low = middle + 1
            else:
                high = middle
        if low < end and graph.arcs[low].label == label:
            return total + graph.arcs[low].log_prob, graph.arcs[low].target
        if state == 0:
            return -np.inf, 0
        total += graph.states[state].backoff
        state = graph.states[state].lower


@compiled()
def search(
    log_probs: Any,
    tree: Any,
    graph: Any,
    phones: Any,
    weight: float,
    bonus: float,
    word_bonus: float,
    variant: float,
    unknown: float,
    beam: int,
    threshold: float,
    n_best: int,
) -> Any:
    """The best words of one utterance, best first, as codes.

    `log_probs` (T, V), label 0 the blank; `graph` is the n-gram of words, `phones` that of the
    phones of unknown words, each of which costs `unknown` nats more; a pronunciation that is not
    its word's first costs `variant`. In each frame the `beam` best
    tokens at most `threshold` nats below the best one are kept. Returns codes (n, T), their counts
    (n,) and scores (n,) in nats: log Σ over alignments + weight · log P of the n-grams, with the
    sentence's end, + bonus for each phone + word_bonus for each word. A code is the row of a
    pronunciation, or stands for a phone of an unknown word, see `phone_of`.

    With `n_best` 1 histories that the n-gram does not tell apart are one, of which the likeliest is
    kept. Otherwise each history has its own tokens, which asks for a larger beam.
    """
    frames, size = log_probs.shape
    entries = len(tree.word)
    recombine = n_best == 1
    boost, word_boost = math.exp(bonus), math.exp(word_bonus)
    ending = np.where(tree.is_first, word_boost, word_boost * math.exp(-variant))
    ahead = np.exp(weight * tree.look_ahead)
    # ── the words before a token, a trie; children and siblings only where histories stay apart ──
    most = 1 + beam * frames
    before, code = np.full(most, NONE, np.int32), np.full(most, NONE, np.int32)
    child = np.full(1 if recombine else most, NONE, np.int32)
    sibling = np.full(len(child), NONE, np.int32)
    histories = 1
    # ── tokens ──────────────────────────────────────────────────────────────────────────────────
    node, state = np.zeros(beam, np.int64), np.zeros(beam, np.int64)
    history = np.zeros(beam, np.int64)
    blank_mass, label_mass = np.zeros(beam), np.zeros(beam)
    state[0], blank_mass[0], filled = graph.start, 1.0, 1
    # ── candidates for the next frame, and the open hash table in which they are found ──────────
    room = 2048
    while room < 8 * beam:
        room *= 2
    to, mass = np.empty((room, 5), np.int64), np.empty((room, 3))
    table = np.full(4 * room, NONE, np.int32)
    contexts = max(len(graph.states), len(phones.states), most + len(tree.label) * beam)
    log_scale = 0.0
    floor = math.exp(-threshold)
    for t in range(frames):
        top = log_probs[t].max()
        prob = np.exp(log_probs[t].astype(np.float64) - top)
        table[:] = NONE
        best, lowest = 0.0, np.inf
        # ── tokens that stay where they are ─────────────────────────────────────────────────────
        for k in range(filled):
            key = node[k] * contexts + (state[k] if recombine else history[k])
            table[_place(table, to, key)] = k
            to[k, KEY], to[k, NODE], to[k, STATE] = key, node[k], state[k]
            to[k, HISTORY], to[k, CODE] = history[k], NONE
            mass[k, BLANK_MASS] = (blank_mass[k] + label_mass[k]) * prob[BLANK]
            mass[k, LABEL_MASS] = label_mass[k] * prob[tree.label[node[k]]]
            mass[k, LARGEST] = mass[k, BLANK_MASS] + mass[k, LABEL_MASS]
            best, lowest = max(best, mass[k, LARGEST]), min(lowest, mass[k, LARGEST])
        count = filled
        least = max(best * floor, lowest if filled == beam else 0.0)
        # ── tokens that come to a further phone ─────────────────────────────────────────────────
        for k in range(filled):
            n = node[k]
            is_unknown = size <= n < 2 * size
            first, last = tree.first_child[n], tree.last_child[n]
            loops = size - 1 if unknown > -np.inf and n < 2 * size else 0
            for c in range(first, last + loops):
                v = tree.label[c] if c < last else c - last + 1
                grown = blank_mass[k] if v == tree.label[n] else blank_mass[k] + label_mass[k]
                grown *= prob[v] * boost / ahead[n]
                if grown * max(word_boost, 1.0) <= least:
                    continue
                if c < last:
                    choices = 1 + tree.last_entry[c] - tree.first_entry[c]
                else:
                    choices = 2
                    p, s = follow(phones, state[k] if is_unknown else 0, v)
                    grown *= math.exp(weight * p + (0.0 if is_unknown else unknown))
                if count + choices > room:
                    room *= 2
                    to, mass = np.concatenate((to, to)), np.concatenate((mass, mass))
                    table = np.full(4 * room, NONE, np.int32)
                    for j in range(count):
                        table[_place(table, to, to[j, KEY])] = j
                for choice in range(choices):
                    e = np.int64(NONE)
                    if c >= last:
                        e = entries + (2 * choice + (0 if is_unknown else 1)) * size + v
                        m, s = (size + v, s) if choice == 0 else (v, 0)
                        reached = grown * (1.0 if choice == 0 else word_boost)
                    elif choice == 0:
                        if tree.first_child[c] == tree.last_child[c]:
                            continue
                        m, s, reached = c, state[k], grown * ahead[c]
                    else:
                        e = tree.first_entry[c] + choice - 1
                        p, s = follow(graph, state[k], tree.word[e])
                        m, reached = v, grown * ending[e] * math.exp(weight * p)
                    if reached <= least:
                        continue
                    context = s
                    if not recombine:
                        context = (
                            history[k] if e == NONE else _after(child, sibling, code, history[k], e)
                        )
                        if context == NONE:
                            context = most + count
                    key = m * contexts + context
                    place = _place(table, to, key)
                    j = table[place]
                    if j == NONE:
                        j = table[place] = count
                        to[j, KEY], to[j, NODE], to[j, STATE] = key, m, s
                        mass[j] = 0.0
                        count += 1
                    mass[j, LABEL_MASS] += reached
                    if reached > mass[j, LARGEST]:
                        mass[j, LARGEST] = reached
                        to[j, HISTORY], to[j, CODE] = history[k], e
                    best = max(best, mass[j, BLANK_MASS] + mass[j, LABEL_MASS])
            least = max(least, best * floor)
        # ── the new beam ────────────────────────────────────────────────────────────────────────
        total = mass[:count, BLANK_MASS] + mass[:count, LABEL_MASS]
        if count > beam:
            least = max(least, np.partition(total, count - beam)[count - beam])
        filled = 0
        for j in range(count):
            if total[j] < least or total[j] == 0.0 or filled == beam:
                continue
            h, e = to[j, HISTORY], to[j, CODE]
            if e != NONE:
                known = NONE if recombine else _after(child, sibling, code, h, e)
                if known == NONE:
                    known = histories
                    before[known], code[known] = h, e
                    if not recombine:
                        sibling[known], child[h] = child[h], known
                    histories += 1
                h = known
            node[filled], state[filled], history[filled] = to[j, NODE], to[j, STATE], h
            blank_mass[filled] = mass[j, BLANK_MASS] / best
            label_mass[filled] = mass[j, LABEL_MASS] / best
            filled += 1
        log_scale += top + (math.log(best) if best > 0.0 else 0.0)
    ends = np.flatnonzero(node[:filled] < size)
    if len(ends) == 0:  # each token is within a word, which is then left out
        ends = np.arange(filled)
    scores = np.log(blank_mass[ends] + label_mass[ends]) + weight * graph.states["end"][state[ends]]
    order = np.argsort(-scores)[:n_best]
    codes, lengths = np.zeros((len(order), frames), np.int32), np.zeros(len(order), np.int64)
    for rank, k in enumerate(ends[order]):
        h = history[k]
        while h > 0:
            codes[rank, lengths[rank]] = code[h]
            lengths[rank] += 1
            h = before[h]
        codes[rank, : lengths[rank]] = codes[rank, : lengths[rank]][::-1].copy()
    return codes, lengths, scores[order] + log_scale


@compiled()
def _place(table: Any, to: Any, key: Any) -> Any:
    """Where the candidate with this key is in the table, or else the free place for it."""
    place = ((key * 0x1E3779B97F4A7C15) >> 29) & (len(table) - 1)
    while table[place] != NONE and to[table[place], KEY] != key:
        place = (place + 1) & (len(table) - 1)
    return place


@compiled()
def _after(child: Any, sibling: Any, code: Any, history: Any, e: Any) -> Any:
    """The history that continues another one by a code, or NONE."""
    h = child[history]
    while h != NONE and code[h] != e:
        h = sibling[h]
    return h
