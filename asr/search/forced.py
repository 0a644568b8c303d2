"""Forced alignment: the best path through the words of a text, compiled.

Tokens are passed along a network of words (Young, Russell & Thornton 1989), frame by frame, so that
scores may come in parts of any size. Gate w lies before word w, gate W behind the last one. From
gate w a path goes through one of the word's pronunciations to gate w + 1, or through silence
(label 0) or a filler back to gate w; at a cost it skips words without a frame. A filler stands for
sound that is not in the text: each of its frames has the score of the frame's best column, less a
cost. A phone is a chain of `states · floor` cells, as in `search.viterbi`.

Back-pointers are records of where states begin. Those that no token needs are discarded when there
is no room for more, so memory grows with the text and not with frames × text. This file knows
neither torch nor phones; `tests/test_forced.py` compares it with all paths, enumerated.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from asr.processor.compiled import compiled

NONE = -1
SILENCE, FILLER = -1, -2  # in `Network.phone` and `Route.phones`
ROOM = 1 << 16  # records that there is room for at first

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


class Costs(NamedTuple):
    """In nats. With inf there are no fillers, and no word is skipped."""

    filler: float = math.inf  # of each frame in a filler
    entry: float = 0.0  # of each filler
    skip: float = math.inf  # of each gap in the words
    word: float = 0.0  # of each word in a gap


class Network(NamedTuple):
    """The cells of all words in their order: C cells, W words."""

    begin: Ints  # (W + 2,) first cell of gate w: its silence, its filler, then its word
    column: Ints  # (C,) in the scores; of a filler −1
    stays: npt.NDArray[np.bool_]  # (C,)
    enters: Ints  # (C,) from 0: the cell before; 1: the same, a state begins; 2: the gate
    leaves: Ints  # (C,) to 0: the next cell; 1: its own gate; 2: the next gate
    phone: Ints  # (C,) number in the text, where all pronunciations count; SILENCE or FILLER
    label: Ints  # of each phone
    word: Ints  # of each phone
    least: int  # frames of the shortest path without skips


class Route(NamedTuple):
    """The best path: its stretches of one state each, and its score in nats, or −∞: no path."""

    columns: Ints  # (n,); of a filler −1
    phones: Ints  # (n,), as `Network.phone`
    starts: Ints  # (n + 1,) first frames; the last value is T
    score: float

    def parts(self) -> tuple[Ints, Ints]:
        """Phones, silences and fillers, and their edges: (m,), (m + 1,)."""
        first = np.flatnonzero(np.diff(self.phones, prepend=FILLER - 1))
        return self.phones[first], np.append(self.starts[first], self.starts[-1])


def network(
    words: Sequence[Sequence[Sequence[int]]],
    states: int,
    floor: int,
    pause: int = 1,
    silence: bool = True,
    filler: bool = False,
) -> Network:
    """Words, each with its pronunciations, each of at least one label from 1.

    A phone stays in each of its `states` for at least `floor` frames, a silence for `pause`.
    """
    begin, label, word_of, least = [0], list[int](), list[int](), 0
    cells = list[tuple[int, bool, int, int, int]]()
    for w in range(len(words) + 1):
        if silence:
            for n in range(pause):
                last = n == pause - 1
                cells.append((0, last, 0 if n else 2, int(last), SILENCE))
        if filler:
            cells.append((-1, True, 2, 1, FILLER))
        pronunciations = words[w] if w < len(words) else []
        for pronunciation in pronunciations:
            for u, one in enumerate(pronunciation):
                for position in range(states * floor):
                    enters = int(position % floor == 0) + int(u == position == 0)
                    last = u == len(pronunciation) - 1 and position == states * floor - 1
                    column = 1 + (one - 1) * states + position // floor
                    stays = position % floor == floor - 1
                    cells.append((column, stays, enters, 2 * int(last), len(label)))
                label.append(one)
                word_of.append(w)
        least += min((len(one) for one in pronunciations), default=0) * states * floor
        begin.append(len(cells))
    table = np.array(cells, dtype=np.int32).reshape(-1, 5).T.copy()
    return Network(
        np.array(begin, dtype=np.int32),
        table[0],
        table[1].astype(bool),
        *(table[2], table[3], table[4]),
        *(np.array(label, dtype=np.int32), np.array(word_of, dtype=np.int32)),
        least,
    )


class Search:
    """The tokens of one recording, to which scores are fed in parts.

    After each frame tokens more than `threshold` nats below the best one are discarded; with inf
    the search is exact.
    """

    def __init__(
        self, network: Network, costs: Costs | None = None, threshold: float = math.inf
    ) -> None:
        self.network = network
        self.costs, self.threshold = costs or Costs(), threshold
        size, gates = len(network.column), len(network.begin) - 1
        self.score, self.record = np.full(size, -math.inf), np.full(size, NONE, np.int32)
        self.gate, self.of_gate = np.full(gates, -math.inf), np.full(gates, NONE, np.int32)
        self.gate[0] = 0.0
        # first and last gate with a token, frames, records
        self.now = np.array([0, 0, 0, 0])
        self.best = 0.0
        # the record before, the cell that began, its first frame
        self.records = np.empty((3, max(ROOM, 2 * size)), np.int32)

    def feed(self, scores: Floats) -> None:
        """Pass the tokens through frames (T, K)."""
        scores = np.ascontiguousarray(scores, dtype=np.float32)
        done = 0
        while done < len(scores):
            tokens = self.score, self.record, self.gate, self.of_gate
            done, self.best = _advance(
                scores, done, self.best, self.network, self.costs, self.threshold,
                *tokens, self.now, self.records,
            )  # fmt: skip
            if done < len(scores):
                self.now[3] = _collect(*tokens, self.now, self.network.begin, self.records)
                if 2 * self.now[3] > self.records.shape[1]:
                    self.records = np.concatenate([self.records, np.empty_like(self.records)], 1)

    def route(self) -> Route:
        """The best path through all frames so far that ends behind the last word."""
        gate, of_gate = self.gate.copy(), self.of_gate.copy()
        now = self.now.copy()
        _skip(self.costs, -math.inf, gate, of_gate, now)
        last, cells = int(of_gate[-1]), list[int]()
        starts = [int(self.now[2])]
        while last != NONE:
            last, cell, start = self.records[:, last].tolist()
            cells.append(cell)
            starts.append(start)
        score = float(gate[-1])
        if score == -math.inf:
            cells, starts = [], starts[:1]
        places = np.array(cells[::-1], dtype=np.intp)
        first = np.array(starts[::-1], dtype=np.int32)
        return Route(self.network.column[places], self.network.phone[places], first, score)


@compiled()
def _skip(costs: Any, least: float, gate: Any, of_gate: Any, now: Any) -> None:
    """Pass tokens on to later gates at the cost of a gap, while they have at least `least`."""
    if costs.skip == math.inf:
        return
    run, of_run = -math.inf, NONE
    w = now[0]
    while w < len(gate) and (w <= now[1] or run - costs.word >= least):
        run -= costs.word
        leaving = gate[w] - costs.skip
        if run > gate[w]:
            gate[w], of_gate[w] = run, of_run
        if leaving > run:
            run, of_run = leaving, of_gate[w]
        w += 1
    now[1] = max(now[1], w - 1)


@compiled()
def _advance(
    scores: Any,
    first: int,
    best: float,
    network: Any,
    costs: Any,
    threshold: float,
    score: Any,
    record: Any,
    gate: Any,
    of_gate: Any,
    now: Any,
    records: Any,
) -> Any:
    """Pass tokens through frames until there is no room for records: frames done, best score."""
    begin, column, stays = network.begin, network.column, network.stays
    enters, leaves = network.enters, network.leaves
    gates = len(gate)
    highest = np.full(gates, -math.inf)  # of the cells of a gate and its word
    for t in range(first, len(scores)):
        limit = best - threshold
        _skip(costs, limit, gate, of_gate, now)
        low, high, count = now[0], now[1], now[3]
        if count + begin[high + 1] - begin[low] > records.shape[1]:
            return t, best
        filler = scores[t].max() - costs.filler
        best = -math.inf
        if high + 1 < gates:
            gate[high + 1] = -math.inf
        # ── from the last word to the first, so that each sees the gate of the frame before ─────
        for w in range(high, low - 1, -1):
            own, of_own, onward, of_onward = -math.inf, NONE, -math.inf, NONE
            top = -math.inf
            for c in range(begin[w + 1] - 1, begin[w] - 1, -1):
                value = score[c] if stays[c] else -math.inf
                if enters[c] == 2:
                    before, of_before = gate[w], of_gate[w]
                    if column[c] < 0:
                        before -= costs.entry
                else:
                    before, of_before = score[c - 1], record[c - 1]
                if before > value and before >= limit:
                    value = before
                    if enters[c]:
                        records[0, count] = of_before
                        records[1, count] = c
                        records[2, count] = now[2]
                        of_before = count
                        count += 1
                    record[c] = of_before
                value += filler if column[c] < 0 else scores[t, column[c]]
                score[c] = value
                top = max(top, value)
                if leaves[c] == 1 and value > own:
                    own, of_own = value, record[c]
                elif leaves[c] == 2 and value > onward:
                    onward, of_onward = value, record[c]
            gate[w], of_gate[w] = own, of_own
            if w + 1 < gates and onward > gate[w + 1]:
                gate[w + 1], of_gate[w + 1] = onward, of_onward
            highest[w] = top
            best = max(best, top)
        now[2] += 1
        now[3] = count
        # ── the words that tokens have left, at both ends of the window ────────────────────────
        limit = best - threshold
        if high + 1 < gates and gate[high + 1] > -math.inf:
            high += 1
            highest[high] = -math.inf
        while low < high and max(highest[low], gate[low]) < limit:
            score[begin[low] : begin[low + 1]] = -math.inf
            gate[low] = -math.inf
            low += 1
        while low < high and max(highest[high], gate[high]) < limit:
            score[begin[high] : begin[high + 1]] = -math.inf
            gate[high] = -math.inf
            high -= 1
        now[0], now[1] = low, high
    return len(scores), best


@compiled()
def _collect(
    score: Any, record: Any, gate: Any, of_gate: Any, now: Any, begin: Any, records: Any
) -> int:
    """Discard the records that no token needs, keep the others in their order: their number."""
    low, high, count = now[0], now[1], now[3]
    place = np.full(count, NONE, np.int32)
    for each in range(2):
        values, of_values = (score, record) if each else (gate, of_gate)
        first, behind = (begin[low], begin[high + 1]) if each else (low, high + 1)
        for i in range(first, behind):
            r = of_values[i] if values[i] > -math.inf else NONE
            while r != NONE and place[r] == NONE:
                place[r] = 0
                r = records[0, r]
    kept = 0
    for r in range(count):
        if place[r] != NONE:
            before = records[0, r]
            records[0, kept] = place[before] if before != NONE else NONE
            records[1, kept], records[2, kept] = records[1, r], records[2, r]
            place[r] = kept
            kept += 1
    for c in range(begin[low], begin[high + 1]):
        record[c] = place[record[c]] if score[c] > -math.inf else NONE
    for w in range(low, high + 1):
        of_gate[w] = place[of_gate[w]] if gate[w] > -math.inf and of_gate[w] != NONE else NONE
    return kept
