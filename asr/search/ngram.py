"""N-grams with back-off, as tries of arrays, and their estimation from texts.

The vocabulary is closed: each of its symbols, phones or words, has a probability after every
history, and no other symbol has one.
"""

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np

from asr.errors import DataError
from asr.phones import unknown_phone
from asr.processor.compiled import compiled

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
ORDERS = range(1, 9)
NEVER = -99.0  # ARPA's log10 for a probability that is never asked for
LOWEST, ROUNDING, HIGHEST_BACKOFF = -1000.0, 1e-4, 100.0  # of log10 values
LN10 = math.log(10)

Discounts = tuple[float, float, float]


class Sentences(NamedTuple):
    """Sentences as numbers: label k + 1 is `symbols[k]`; it needs no object for each symbol.

    Sentence s is `labels[ends[s - 1]:ends[s]]`, the first begins at 0.
    """

    symbols: tuple[str, ...]
    labels: Any  # (total,) int32, from 1
    ends: Any  # (sentences,) int64

    @classmethod
    def of(cls, sentences: "Iterable[Sequence[str]] | Sentences") -> "Sentences":
        """The same sentences as numbers; symbols in the order in which they occur."""
        if isinstance(sentences, Sentences):
            return sentences
        label_of: dict[str, int] = defaultdict(lambda: len(label_of) + 1)
        labels, ends = array("i"), array("q")
        for sentence in sentences:
            labels.extend(map(label_of.__getitem__, sentence))
            ends.append(len(labels))
        return cls(tuple(label_of), np.array(labels, np.int32), np.array(ends, np.int64))

    def padded(self, number: Any, start: int, end: int) -> Any:
        """All sentences in one array, label k as `number[k - 1]`, between `start` and `end`."""
        padding = 2 * np.arange(len(self.ends))
        begins = np.concatenate(([0], self.ends[:-1])) + padding
        result = np.empty(len(self.labels) + 2 * len(self.ends), np.int32)
        is_label = np.ones(len(result), np.bool_)
        for places, symbol in ((begins, start), (self.ends + padding + 1, end)):
            result[places] = symbol
            is_label[places] = False
        result[is_label] = number[self.labels - 1]
        return result


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """P(symbol | the `order` − 1 symbols before it) with back-off, in ARPA's terms, as a trie.

    A node is an n-gram. Node 0 is the empty one; node k + 1 the unigram of `symbols[k]`; longer
    ones follow, order by order, each order sorted by prefix and symbol. The n-grams of node n and
    one further symbol are the nodes `children[n]`…`children[n + 1]`. Where a file has an n-gram and
    not its prefix, the prefix is a node without a probability. `about` describes in words how the
    model was estimated.
    """

    order: int
    symbols: tuple[str, ...]  # sorted, with `<s>` and `</s>`
    children: Any  # (histories + 1,) int64; histories: the nodes below the highest order
    symbol: Any  # (nodes,) int32, index of the last symbol; −1 of node 0
    log10_prob: Any  # (nodes,) float64, of the last symbol after the others; NaN: none
    log10_backoff: Any  # (histories,) float64, weight of the lower order; NaN: none
    about: str = ""
    counts: Any = None  # (nodes,) of the text, where the model was estimated here

    @classmethod
    def of_ngrams(
        cls,
        symbols: Sequence[str],
        ngrams: Any,
        log10_prob: Any,
        log10_backoff: Any,
        about: str = "",
    ) -> Self:
        """The model of n-grams in any order, (N, order), symbols from 1, shorter ones padded by 0.

        The values of an n-gram are NaN where it has none.
        """
        rank = np.argsort(np.argsort(np.array(symbols, dtype=object)))
        lengths = (ngrams > 0).sum(axis=1)
        node = np.zeros(len(ngrams), np.int64)  # of each n-gram's prefix, within its order
        parts = [(np.array([-1]), *np.full((2, 1), math.nan))]
        numbers = []
        for n in range(1, ngrams.shape[1] + 1):
            rows = np.flatnonzero(lengths >= n)
            keys = node[rows] * len(symbols) + rank[ngrams[rows, n - 1] - 1]
            if n > 1:
                known, node[rows] = np.unique(keys, return_inverse=True)
            else:
                known, node[rows] = np.arange(len(symbols)), keys
            numbers.append(np.bincount(known // len(symbols), minlength=len(parts[-1][0])))
            values = np.full((2, len(known)), math.nan)
            own = rows[lengths[rows] == n]
            values[:, node[own]] = log10_prob[own], log10_backoff[own]
            parts.append((known % len(symbols), *values))
        symbol, prob, backoff = (np.concatenate(part) for part in zip(*parts, strict=True))
        children = 1 + np.cumsum(np.concatenate(([0], *numbers)))
        backoff = backoff[: len(children) - 1]
        names = tuple(sorted(symbols))
        return cls(len(parts) - 1, names, children, symbol.astype(np.int32), prob, backoff, about)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LanguageModel):
            return NotImplemented
        arrays = ("children", "symbol", "log10_prob", "log10_backoff")
        return (self.order, self.symbols, self.about) == (
            other.order,
            other.symbols,
            other.about,
        ) and all(
            np.array_equal(getattr(self, key), getattr(other, key), equal_nan=True)
            for key in arrays
        )

    def require_sound(self, where: str) -> None:
        """Raise `DataError` for values and n-grams that no language model has."""
        values = {"probability": self.log10_prob, "back-off": self.log10_backoff}
        for what, numbers in values.items():
            known = numbers[~np.isnan(numbers)]
            for extreme in (known.min(initial=0.0), known.max(initial=LOWEST)):
                if reason := wrong_log10(float(extreme), what):
                    raise DataError(f"{where}: {reason}")
        absent = np.flatnonzero(np.isnan(self.log10_prob[self.nodes(1)]))
        if len(absent):
            raise DataError(f"{where}: no unigram of {self.symbols[absent[0]]!r}")
        if END not in self.symbols:
            raise DataError(f"{where}: no probability of {END}, the end of a sentence")

    @cached_property
    def phones(self) -> tuple[str, ...]:
        """The vocabulary, sorted."""
        return tuple(symbol for symbol in self.symbols if symbol not in (START, END, UNKNOWN))

    @cached_property
    def number(self) -> dict[str, int]:
        """The index of each symbol in `symbols`."""
        return {symbol: number for number, symbol in enumerate(self.symbols)}

    def nodes(self, order: int) -> slice:
        """The nodes of one order; the empty n-gram has order 0."""
        first = [0, 1]
        while len(first) <= order + 1:
            at = first[-1]
            first.append(int(self.children[at]) if at < len(self.children) else len(self.symbol))
        return slice(first[order], first[order + 1])

    @cached_property
    def parent(self) -> Any:
        """The prefix of each node, (nodes,) int32; of the empty n-gram itself."""
        histories = np.arange(len(self.children) - 1, dtype=np.int32)
        parents = np.repeat(histories, np.diff(self.children))
        return np.concatenate((np.zeros(1, np.int32), parents))

    @cached_property
    def suffix(self) -> Any:
        """The longest node that each node's n-gram ends in, besides itself, (nodes,) int32."""
        return _suffixes(self.children, self.symbol)

    def log_prob(self, history: Sequence[str], symbol: str) -> float:
        """Natural log P(symbol | history); `<s>` begins the history of a sentence."""
        if symbol not in self.number:
            raise DataError(unknown_phone(symbol, self.phones, "the language model"))
        known = [self.number.get(one, -1) for one in (*history, symbol)]
        return float(self._log_probs(np.array(known, np.int32), -1)[-1])

    def log_prob_of(self, phones: Sequence[str]) -> float:
        """Natural log P of a whole sentence, including its end."""
        return self._total([phones])[0]

    def perplexity(self, sentences: Iterable[Sequence[str]] | Sentences) -> float:
        """exp of the mean negative log-probability of a symbol; a sentence's end counts as one."""
        total, symbols = self._total(sentences)
        return math.exp(-total / symbols)

    def _total(self, sentences: Iterable[Sequence[str]] | Sentences) -> tuple[float, int]:
        """The natural log P of sentences, and the number of symbols that it is of."""
        text = Sentences.of(sentences)
        number = np.array([self.number.get(symbol, -1) for symbol in text.symbols], np.int32)
        unknown = number[text.labels - 1] < 0
        if np.any(unknown):
            symbol = text.symbols[text.labels[np.argmax(unknown)] - 1]
            raise DataError(unknown_phone(symbol, self.phones, "the language model"))
        start = self.number.get(START, len(self.symbols))
        padded = text.padded(number, start, self.number[END])
        total = float(self._log_probs(padded, start).sum())
        return total, len(text.labels) + len(text.ends)

    def _log_probs(self, numbers: Any, start: int) -> Any:
        values = self.log10_prob, self.log10_backoff
        return LN10 * _walk(self.children, self.symbol, self.suffix, *values, numbers, start)

    def count(self, order: int) -> int:
        """The number of n-grams of one order."""
        return int(np.count_nonzero(~np.isnan(self.log10_prob[self.nodes(order)])))


# numba caches the compiled callers by their own files: after a change here, delete __pycache__.
@compiled()
def _child(children: Any, symbol: Any, node: int, last: int) -> int:
    """The node of a node's n-gram and one further symbol, or −1."""
    if node + 1 >= len(children):
        return -1
    low, high = children[node], children[node + 1]
    while low < high:
        middle = (low + high) // 2
        if symbol[middle] < last:
            low = middle + 1
        else:
            high = middle
    return low if low < children[node + 1] and symbol[low] == last else -1


@compiled()
def _suffixes(children: Any, symbol: Any) -> Any:
    suffix = np.zeros(len(symbol), np.int32)
    for node in range(1, len(children) - 1):
        for child in range(children[node], children[node + 1]):
            shorter = suffix[node]
            result = _child(children, symbol, shorter, symbol[child])
            while result < 0 and shorter > 0:
                shorter = suffix[shorter]
                result = _child(children, symbol, shorter, symbol[child])
            suffix[child] = max(result, 0)
    return suffix


@compiled()
def _walk(
    children: Any, symbol: Any, suffix: Any, prob: Any, backoff: Any, numbers: Any, start: int
) -> Any:
    """log10 P of each symbol after those before it; `start` begins a sentence, with 0."""
    result = np.zeros(len(numbers))
    state = 0
    for place, last in enumerate(numbers):
        if last == start:
            state = 0
        target = -1
        while True:
            child = _child(children, symbol, state, last)
            if child >= 0:
                if target < 0:
                    target = child
                if not math.isnan(prob[child]):
                    result[place] += prob[child]
                    break
            if state == 0:
                break
            if not math.isnan(backoff[state]):
                result[place] += backoff[state]
            state = suffix[state]
        if last == start:
            result[place] = 0.0
        state = max(target, 0)
        if state >= len(children) - 1:
            state = suffix[state]
    return result


def wrong_log10(value: float, what: str) -> str:
    """What is wrong with a log10 value of an n-gram, a probability or a back-off, or ""."""
    highest = ROUNDING if what == "probability" else HIGHEST_BACKOFF
    if LOWEST <= value <= highest:
        return ""
    return f"{what} is {value:g}, expected a log10 from {LOWEST:g} to {highest:g}"


def estimate(
    sentences: Iterable[Sequence[str]] | Sentences,
    order: int,
    symbols: Iterable[str] = (),
    smoothing: str = "kneser-ney",
    min_counts: Sequence[int] = (),
) -> LanguageModel:
    """The interpolated n-gram of sentences over `symbols` and all symbols that occur.

    "kneser-ney": modified Kneser–Ney (Chen & Goodman 1998, section 3) at each order whose counts
    of counts give discounts, Witten–Bell at the others, for example on tiny data and for the
    unigrams of large data, where no phone is rare; `about` says which. Below a Kneser–Ney order,
    counts are numbers of distinct left neighbours. "witten-bell": Witten–Bell (1991) at all orders.
    Unigrams are interpolated with the uniform distribution. N-grams of order n that occur less than
    `min_counts[n - 1]` times are left out, after the discounts are known, and their mass goes to
    the lower order. Raises `DataError` without sentences.
    """
    if order not in ORDERS:
        raise DataError(f"order is {order}, expected {ORDERS[0]}…{ORDERS[-1]}")
    if smoothing not in ("kneser-ney", "witten-bell"):
        raise DataError(f"smoothing is {smoothing!r}, expected kneser-ney or witten-bell")
    least = [1, *min_counts[1:], *[max(min_counts, default=1)] * order][:order]
    if sorted(least) != least:
        raise DataError(f"min_counts is {list(min_counts)}, expected numbers that do not fall")
    text = Sentences.of(sentences)
    if not len(text.ends):
        raise DataError("no sentences to estimate a language model from")
    used = np.flatnonzero(np.bincount(text.labels, minlength=len(text.symbols) + 1)[1:])
    names = tuple(sorted({START, END, *symbols} | {text.symbols[k] for k in used}))
    number = {symbol: k for k, symbol in enumerate(names)}
    numbers = np.array([number.get(symbol, -1) for symbol in text.symbols], np.int32)
    padded = text.padded(numbers, number[START], number[END])
    levels = _levels(padded, order, len(names), number[START])
    counts, discounts = _smoothed_counts(levels, smoothing)
    probs = [np.full(1, 1 / (len(names) - 1))]
    weights = []
    kept = [np.ones(1, np.bool_)]
    for level, count, discount, fewest in zip(levels, counts, discounts, least, strict=True):
        kept.append(level.count >= fewest if fewest > 1 else np.ones(len(count), np.bool_))
        own, weight = _interpolation(level, count, discount, kept[-1], len(probs[-1]))
        probs.append(own + weight[level.parent] * probs[-1][level.suffix])
        weights.append(weight)
    values = [np.log10(prob) for prob in probs]
    values[0][:], values[1][number[START]] = math.nan, NEVER
    about = _describe(discounts, text, [n for n in least if n > 1] and least)
    return _assembled(names, levels, kept, values, weights, about)


class _Level(NamedTuple):
    """The n-grams of one order that occur, sorted by prefix and symbol."""

    parent: Any  # the number, within its order, of the n-gram without its last symbol
    symbol: Any
    suffix: Any  # the number, within its order, of the n-gram without its first symbol
    count: Any
    is_first: Any  # whether `<s>` is its first symbol


def _levels(text: Any, order: int, size: int, start: int) -> list[_Level]:
    """The n-grams of each order; `text` has all sentences, each from `<s>` to `</s>`."""
    symbols = np.arange(size, dtype=np.int32)
    none = np.zeros(size, np.int32)
    count = np.bincount(text, minlength=size)
    levels = [_Level(none, symbols, none, count, symbols == start)]
    begins = text == start  # of the n-grams, in the order of the text, the first of a sentence
    ids, last = text, text
    for _ in range(1, order):
        follows = ~begins
        prefix, suffix, last = ids[:-1][follows[1:]], ids[follows], last[follows]
        begins = begins[:-1][follows[1:]]
        keys = prefix.astype(np.int64) * size + last
        places = np.argsort(keys)
        keys = keys[places]
        is_new = np.diff(keys, prepend=-1) != 0
        first = np.flatnonzero(is_new)
        ids = np.empty(len(keys), np.int32)
        ids[places] = np.cumsum(is_new, dtype=np.int32) - 1
        parent = (keys[first] // size).astype(np.int32)
        levels.append(
            _Level(
                parent,
                (keys[first] % size).astype(np.int32),
                suffix[places[first]],
                np.diff(first, append=len(keys)),
                levels[-1].is_first[parent],
            )
        )
    return levels


def _smoothed_counts(
    levels: Sequence[_Level], smoothing: str
) -> tuple[list[Any], list[Discounts | None]]:
    """The counts that each order is estimated from, and its discounts (None: Witten–Bell)."""
    counts: list[Any] = []
    discounts: list[Discounts | None] = []
    longer = None
    for level in levels[::-1]:
        count = level.count
        if longer is not None and discounts[-1] is not None:
            count = np.bincount(longer.suffix, minlength=len(level.symbol))
            count[level.is_first] = level.count[level.is_first]  # `<s>` has no left neighbour
        if level is levels[0]:
            count = np.where(level.is_first, 0, count)  # and is never predicted
        counts.append(count)
        discounts.append(_discounts(count) if smoothing == "kneser-ney" else None)
        longer = level
    return counts[::-1], discounts[::-1]


def _discounts(counts: Any) -> Discounts | None:
    """D1, D2, D3+ (Chen & Goodman 1998, equation 26), or None where the counts give none."""
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == k)) for k in range(1, 5))
    if not (n1 and n2 and n3):
        return None
    y = n1 / (n1 + 2 * n2)
    discounts = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return discounts if all(0 < d <= k for k, d in enumerate(discounts, start=1)) else None


def _interpolation(
    level: _Level, count: Any, discounts: Discounts | None, kept: Any, histories: int
) -> tuple[Any, Any]:
    """Each n-gram's own share of its probability, and for each history the lower order's weight."""

    def after_each(values: Any) -> Any:
        return np.bincount(level.parent, values, minlength=histories)

    total = after_each(count)
    if discounts:
        discount = np.array((0.0, *discounts))[np.minimum(count, 3)]
        withheld = np.where(kept, discount, count)
        own = count - withheld
        left = after_each(withheld)
    else:
        own = np.where(kept, count, 0)
        left = after_each(count - own + (count > 0))
        total = total + after_each(count > 0)
    with np.errstate(invalid="ignore"):  # histories without continuation: 0 / 0
        return own / total[level.parent], left / total


def _assembled(
    names: tuple[str, ...],
    levels: Sequence[_Level],
    kept: Sequence[Any],
    values: Sequence[Any],
    weights: Sequence[Any],
    about: str,
) -> LanguageModel:
    """The model of the n-grams that are kept; `kept` and `values` begin with the empty one."""
    numbers, backoffs = [], []
    for n, level in enumerate(levels, start=1):
        continued = np.bincount(level.parent[kept[n]], minlength=len(kept[n - 1]))[kept[n - 1]]
        with np.errstate(invalid="ignore"):
            weight = np.log10(weights[n - 1][kept[n - 1]])
        numbers.append(continued)
        backoffs.append(np.where(continued > 0, weight, math.nan))
    backoffs[0][:] = math.nan
    tokens = levels[0].count.sum()
    chosen = list(zip(levels, kept[1:], strict=True))
    return LanguageModel(
        len(levels),
        names,
        1 + np.cumsum(np.concatenate(([0], *numbers))),
        np.concatenate([[-1], *(level.symbol[k] for level, k in chosen)]).astype(np.int32),
        np.concatenate([value[k] for value, k in zip(values, kept, strict=True)]),
        np.concatenate(backoffs),
        about,
        np.concatenate([[tokens], *(level.count[k] for level, k in chosen)]),
    )


def _describe(discounts: Sequence[Discounts | None], text: Sentences, least: list[int]) -> str:
    names = {True: "modified Kneser-Ney", False: "Witten-Bell"}
    smoothing = ", ".join(f"{n} {names[d is not None]}" for n, d in enumerate(discounts, start=1))
    cut = f"; least counts {' '.join(map(str, least))}" if least else ""
    size = f"{len(text.labels)} symbols in {len(text.ends)} sentences"
    return f"orders: {smoothing}; from {size}{cut}"
