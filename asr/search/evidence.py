"""How likely CTC's log-probabilities make a transcript, and each of its words, compiled.

By forward and backward sums over all alignments (Graves et al. 2006) of a transcript whose words
have several pronunciations, the transcript is compared with all those that differ from it in one
place: a word left out, a word replaced by any phones, phones inserted between two words. Any phones
are a loop over the labels, each of which has a price. This file knows neither torch nor phones;
`tests/test_evidence.py` compares it with sums over all transcripts, enumerated.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from asr.processor.compiled import compiled

BLANK = 0
IMPOSSIBLE = -1e9  # log-likelihood that counts for −∞
# A transcript seems to be of another recording where its agreement is below the first value, and
# the recognised phones are likelier by more than the second, in nats a phone; docs/alignment.md.
AGREEING, DOUBTFUL = 0.3, 2.0


class Words(NamedTuple):
    """A transcript of W words: the labels of all pronunciations, one after another.

    Pronunciation r has `labels[first[r] : first[r + 1]]`, word w the pronunciations
    `of_word[w]`…`of_word[w + 1]` (exclusive).
    """

    labels: Any  # (P,) int64
    first: Any  # (R + 1,) int64
    of_word: Any  # (W + 1,) int64


class Evidence(NamedTuple):
    """Log-likelihoods of a transcript of W words and of its neighbours, in nats, and its words.

    A place is before a word, or behind the last one.
    """

    total: float  # of the transcript as it is
    free: float  # of any phones instead of all words
    replaced: Any  # (W,) any phones instead of this word
    left_out: Any  # (W,) without this word
    inserted: Any  # (W + 1,) any phones in this place
    frames: Any  # (W, 2) first and last frame of each word


def words_of(transcript: Sequence[Sequence[Sequence[int]]]) -> Words:
    """The words of a transcript, each a list of its pronunciations, which are labels above 0."""
    variants = [one for word in transcript for one in word]
    return Words(
        np.array([label for one in variants for label in one], np.int64),
        np.array(list(accumulate(map(len, variants), initial=0)), np.int64),
        np.array(list(accumulate(map(len, transcript), initial=0)), np.int64),
    )


def evidence(log_probs: Any, words: Words, price: float) -> Evidence:
    """The evidence for each word, from log-probabilities (T, V) with the blank as label 0.

    A word's pronunciations are equally good. A phone of a loop costs `price` nats. The likelihood
    of a transcript that does not fit into the frames is −∞.
    """
    log_probs = np.ascontiguousarray(log_probs, np.float64)
    phones, edges = sums(log_probs, words)
    mirrored = sums(log_probs[::-1].copy(), _mirror(words))
    after_phones, after_edges = (np.ascontiguousarray(part[::-1, ::-1]) for part in mirrored)
    parts = words, phones, edges, after_phones, after_edges
    count = len(words.of_word) - 1
    probs, cost = np.exp(log_probs), math.exp(-price)
    total = float(
        np.logaddexp.reduce(np.append(after_phones[0, _firsts(words)], after_edges[0, 0]))
    )
    return Evidence(
        total,
        loop(probs, *parts, 0, count, cost),
        np.array([loop(probs, *parts, w, w + 1, cost) for w in range(count)]),
        np.array([without(*parts, w) for w in range(count)]),
        np.array([loop(probs, *parts, w, w, cost) for w in range(count + 1)]),
        _frames(log_probs, words, phones, after_phones, total),
    )


def likelihood(log_probs: Any, words: Words) -> float:
    """log P(transcript), in nats; (T, V)."""
    phones, edges = sums(np.ascontiguousarray(log_probs, np.float64), words)
    ends = words.first[words.of_word[-2] + 1 : words.of_word[-1] + 1] - 1
    return float(np.logaddexp.reduce(np.append(phones[-1, ends], edges[-1, -1])))


def neighbours_of(
    transcript: Sequence[Sequence[Sequence[int]]],
) -> list[Sequence[Sequence[Sequence[int]]]]:
    """Three transcripts of the same phones in another order: backwards, and begun at each third."""
    backwards = [[way[::-1] for way in word] for word in transcript[::-1]]
    phones = [[[phone]] for word in transcript for phone in word[0]]
    later = (len(phones) * part // 3 for part in (1, 2))
    return [backwards, *([*phones[n:], *phones[:n]] for n in later)]


def agreement(given: float, recognised: float, chance: float, phones: int) -> tuple[float, bool]:
    """The agreement of a transcript (`share_of`), and whether it seems to be of another recording.

    `phones` is the number of its phones.
    """
    share = share_of(given, recognised, chance)
    worse = (recognised - max(given, IMPOSSIBLE)) / phones
    return share, share < AGREEING and worse > DOUBTFUL


def share_of(given: float, recognised: float, chance: float) -> float:
    """How well a transcript agrees with a recording, 0…1, from log-likelihoods.

    1 where the transcript is as likely as the recognised phones, 0 where it is as likely as its own
    phones in another order (`chance`, the likeliest of `neighbours_of`).
    """
    given, chance = max(given, IMPOSSIBLE), max(chance, IMPOSSIBLE)
    return min(max((given - chance) / max(recognised - chance, 1e-9), 0.0), 1.0)


def _mirror(words: Words) -> Words:
    labels, first, of_word = words
    edges = len(labels) - first[::-1], len(first) - 1 - of_word[::-1]
    return Words(labels[::-1].copy(), *edges)


def _firsts(words: Words) -> Any:
    """The first phones of the first word."""
    return words.first[words.of_word[0] : words.of_word[1]]


def _frames(log_probs: Any, words: Words, phones: Any, after_phones: Any, total: float) -> Any:
    """First and last frame in which each word's phones are half as likely as they ever are."""
    starts = words.first[words.of_word]
    if not math.isfinite(total):
        return np.zeros((len(starts) - 1, 2), np.int64)
    joint = phones[1:] + after_phones[:-1] - log_probs[:, words.labels] - total
    by_word = np.add.reduceat(np.exp(joint), starts[:-1], axis=1)
    likely = by_word >= 0.5 * by_word.max(axis=0)
    last = len(likely) - 1 - likely[::-1].argmax(axis=0)
    return np.stack([likely.argmax(axis=0), last], axis=1)


@compiled()
def add(one: float, other: float) -> float:
    """log(exp(one) + exp(other))."""
    if other > one:
        one, other = other, one
    return one + math.log1p(math.exp(other - one)) if other > -math.inf else one


@compiled()
def sums(log_probs: Any, words: Words) -> Any:
    """Sums over the alignments up to each frame that are then in a phone, or before a word.

    (T, V) → (T + 1, P), (T + 1, W + 1), row t + 1 after frame t; before word w is in the blank
    behind the words before it, or, in row 0, in none.
    """
    labels, first, of_word = words
    frames, size = len(log_probs), len(of_word) - 1
    phones = np.full((frames + 1, len(labels)), -math.inf)
    inner = np.full(len(labels), -math.inf)  # in the blank before the phone, within its word
    edges = np.full((frames + 1, size + 1), -math.inf)
    edges[0, 0] = 0.0
    for t in range(frames):
        now, was = log_probs[t], phones[t]
        for w in range(size + 1):
            edge = edges[t, w]
            if w < size:
                for r in range(of_word[w], of_word[w + 1]):
                    for p in range(first[r], first[r + 1]):
                        label = labels[p]
                        if p == first[r]:
                            before = edge
                            if w > 0:
                                for other in range(of_word[w - 1], of_word[w]):
                                    e = first[other + 1] - 1
                                    if labels[e] != label:
                                        before = add(before, was[e])
                        else:
                            before = inner[p]
                            if labels[p - 1] != label:
                                before = add(before, was[p - 1])
                            inner[p] = add(inner[p], was[p - 1]) + now[BLANK]
                        phones[t + 1, p] = add(was[p], before) + now[label]
            if w > 0:
                for other in range(of_word[w - 1], of_word[w]):
                    edge = add(edge, was[first[other + 1] - 1])
            edges[t + 1, w] = edge + now[BLANK]
    return phones, edges


@compiled()
def loop(
    probs: Any,
    words: Words,
    phones: Any,
    edges: Any,
    after_phones: Any,
    after_edges: Any,
    begin: int,
    end: int,
    cost: float,
) -> float:
    """The likelihood with one or more of any phones instead of the words `begin`…`end` (exclusive).

    `probs` (T, V); `phones` and `edges` as of `sums`, `after_phones` and `after_edges` the same
    from each frame to the end, row t with frame t. Each phone has the factor `cost`.
    """
    labels, first, of_word = words
    frames, size = probs.shape
    here, then = np.zeros(size), np.zeros(size)  # mass in each label, in units of exp(scale)
    scale, mass, total = -math.inf, 0.0, -math.inf
    for t in range(frames):
        # ── what comes from the words before ────────────────────────────────────────────────────
        most = edges[t, begin]
        if begin > 0:
            for r in range(of_word[begin - 1], of_word[begin]):
                most = max(most, phones[t, first[r + 1] - 1])
        level = max(most, scale + math.log(mass)) if mass > 0.0 else most
        if level == -math.inf:
            continue
        shrink = math.exp(scale - level) if mass > 0.0 else 0.0
        entering = math.exp(edges[t, begin] - level)
        arriving = 0.0
        if begin > 0:
            for r in range(of_word[begin - 1], of_word[begin]):
                arriving += math.exp(phones[t, first[r + 1] - 1] - level)
        fresh = mass * shrink + entering + arriving
        for v in range(1, size):
            own = here[v] * shrink
            then[v] = (own + cost * (fresh - own)) * probs[t, v]
        if begin > 0:  # a label follows itself only after a blank
            for r in range(of_word[begin - 1], of_word[begin]):
                e = first[r + 1] - 1
                v = labels[e]
                then[v] -= cost * math.exp(phones[t, e] - level) * probs[t, v]
        then[BLANK] = mass * shrink * probs[t, BLANK]
        here, then = then, here
        scale, mass = level, 0.0
        for v in range(size):
            here[v] = max(here[v], 0.0)
            mass += here[v]
        # ── what goes on to the words behind; the blank goes on in the loop ─────────────────────
        rest = mass - here[BLANK]
        if rest <= 0.0:
            continue
        total = add(total, scale + math.log(rest) + after_edges[t + 1, end])
        if end < len(of_word) - 1:
            for r in range(of_word[end], of_word[end + 1]):
                f = first[r]
                other = rest - here[labels[f]]
                if other > 0.0:
                    total = add(total, scale + math.log(other) + after_phones[t + 1, f])
    return total


@compiled()
def without(
    words: Words, phones: Any, edges: Any, after_phones: Any, after_edges: Any, word: int
) -> float:
    """The likelihood without a word; arrays as of `loop`."""
    labels, first, of_word = words
    frames, size = len(phones) - 1, len(of_word) - 1
    total = -math.inf
    if word + 1 < size:
        for r in range(of_word[word + 1], of_word[word + 2]):
            f = first[r]
            for t in range(frames):
                before = edges[t, word]
                if word > 0:
                    for other in range(of_word[word - 1], of_word[word]):
                        e = first[other + 1] - 1
                        if labels[e] != labels[f]:
                            before = add(before, phones[t, e])
                total = add(total, before + after_phones[t, f])
        return total
    total = edges[frames, word]
    if word > 0:
        for other in range(of_word[word - 1], of_word[word]):
            total = add(total, phones[frames, first[other + 1] - 1])
    return total
