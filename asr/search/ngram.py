"""Phone n-grams with back-off, and their estimation from phone sequences.

The vocabulary is closed: each of its phones has a probability after every history, and no other
phone has one. Only phones are modelled, so there is no lexicon, no `<unk>` and no pruning.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from asr.errors import DataError
from asr.phones import unknown_phone

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
ORDERS = range(1, 7)
NEVER = -99.0  # ARPA's log10 for a probability that is never asked for
LOWEST, ROUNDING, HIGHEST_BACKOFF = -1000.0, 1e-4, 100.0  # of log10 values
LN10 = math.log(10)

Ngram = tuple[str, ...]
Discounts = tuple[float, float, float]


class Sentences(NamedTuple):
    """Sentences as numbers: label k + 1 is `symbols[k]`; it needs no object for each symbol.

    Sentence s is `labels[ends[s - 1]:ends[s]]`, the first begins at 0.
    """

    symbols: tuple[str, ...]
    labels: Any  # (total,) int32, from 1
    ends: Any  # (sentences,) int64

    def texts(self) -> Iterator[tuple[str, ...]]:
        """The symbols of each sentence."""
        for begin, end in pairwise((0, *self.ends.tolist())):
            yield tuple(self.symbols[label - 1] for label in self.labels[begin:end].tolist())


@dataclass(frozen=True)
class LanguageModel:
    """P(phone | the `order` − 1 symbols before it) with back-off, in ARPA's terms.

    `log10_probs` maps every n-gram seen in training, of each order, to the probability of its last
    symbol after the others; `log10_backoffs` maps a history to the weight of the history without
    its first symbol. `about` describes in words how the model was estimated.
    """

    order: int
    log10_probs: Mapping[Ngram, float]
    log10_backoffs: Mapping[Ngram, float]
    about: str = ""

    def require_sound(self, where: str) -> None:
        """Raise `DataError` for values and n-grams that no language model has."""
        known = {ngram[0] for ngram in self.log10_probs if len(ngram) == 1}
        for what, values in (("probability", self.log10_probs), ("back-off", self.log10_backoffs)):
            extremes = (min(values.values(), default=0.0), max(values.values(), default=0.0))
            if reason := wrong_log10(extremes[0], what) or wrong_log10(extremes[1], what):
                raise DataError(f"{where}: {reason}")
            if not set(map(len, values)) <= set(range(1, self.order + 1)):
                raise DataError(f"{where}: expected n-grams of 1 to {self.order} symbols")
            if foreign := set().union(*values) - known:
                raise DataError(f"{where}: no unigram of {min(foreign)!r}")
        if (END,) not in self.log10_probs:
            raise DataError(f"{where}: no probability of {END}, the end of a sentence")

    @property
    def phones(self) -> tuple[str, ...]:
        """The vocabulary, sorted."""
        unigrams = {ngram[0] for ngram in self.log10_probs if len(ngram) == 1}
        return tuple(sorted(unigrams - {START, END, UNKNOWN}))

    def log_prob(self, history: Sequence[str], symbol: str) -> float:
        """Natural log P(symbol | history); `<s>` begins the history of a sentence."""
        context = tuple(history[max(0, len(history) - self.order + 1) :])
        backoff = 0.0
        while (*context, symbol) not in self.log10_probs:
            if not context:
                raise DataError(unknown_phone(symbol, self.phones, "the language model"))
            backoff += self.log10_backoffs.get(context, 0.0)
            context = context[1:]
        return LN10 * (backoff + self.log10_probs[*context, symbol])

    def log_prob_of(self, phones: Sequence[str]) -> float:
        """Natural log P of a whole sentence, including its end."""
        padded = (START, *phones, END)
        return sum(self.log_prob(padded[:n], padded[n]) for n in range(1, len(padded)))

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> float:
        """exp of the mean negative log-probability of a symbol; a sentence's end counts as one."""
        total, symbols = 0.0, 0
        for phones in sentences:
            total += self.log_prob_of(phones)
            symbols += len(phones) + 1
        return math.exp(-total / symbols)

    def count(self, order: int) -> int:
        """The number of n-grams of one order."""
        return sum(len(ngram) == order for ngram in self.log10_probs)


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
) -> LanguageModel:
    """The interpolated n-gram of sentences over `symbols` and all symbols that occur.

    "kneser-ney": modified Kneser–Ney (Chen & Goodman 1998, section 3) at each order whose counts
    of counts give discounts, Witten–Bell at the others, for example on tiny data and for the
    unigrams of large data, where no phone is rare; `about` says which. Below a Kneser–Ney order,
    counts are numbers of distinct left neighbours. "witten-bell": Witten–Bell (1991) at all orders.
    Unigrams are interpolated with the uniform distribution. Raises `DataError` without sentences.
    """
    if order not in ORDERS:
        raise DataError(f"order is {order}, expected {ORDERS[0]}…{ORDERS[-1]}")
    if smoothing not in ("kneser-ney", "witten-bell"):
        raise DataError(f"smoothing is {smoothing!r}, expected kneser-ney or witten-bell")
    if isinstance(sentences, Sentences):
        sentences = sentences.texts()
    raw = _raw_counts(sentences, order)
    if not raw[0]:
        raise DataError("no sentences to estimate a language model from")
    vocabulary = sorted({ngram[0] for ngram in raw[0]} - {START, END} | set(symbols))
    counts, discounts = _smoothed_counts(raw, smoothing)
    probs: dict[Ngram, float] = {(): 1 / (len(vocabulary) + 1)}
    backoffs: dict[Ngram, float] = {}
    for ngrams, discount in zip(counts, discounts, strict=True):
        weights, after = _interpolation(ngrams, discount)
        backoffs |= weights
        seen = [(phone,) for phone in (*vocabulary, END)] if ngrams is counts[0] else ngrams
        for ngram in seen:
            history, count = ngram[:-1], ngrams[ngram]
            own = max(count - _discount(count, discount), 0.0) / after[history]
            probs[ngram] = own + weights[history] * probs[ngram[1:]]
    del probs[()], backoffs[()]
    log10_probs = {ngram: math.log10(prob) for ngram, prob in probs.items()}
    return LanguageModel(
        order,
        {(START,): NEVER} | log10_probs,
        {history: math.log10(weight) for history, weight in backoffs.items()},
        _describe(discounts, raw),
    )


def _raw_counts(sentences: Iterable[Sequence[str]], order: int) -> list[Counter[Ngram]]:
    """The count of each n-gram of order 1, 2, …; `<s>` itself is never predicted."""
    raw: list[Counter[Ngram]] = [Counter() for _ in range(order)]
    for phones in sentences:
        padded = (START, *phones, END)
        for n, ngrams in enumerate(raw, start=1):
            ngrams.update(zip(*(padded[k:] for k in range(n)), strict=False))
    del raw[0][START,]
    return raw


def _smoothed_counts(
    raw: Sequence[Counter[Ngram]], smoothing: str
) -> tuple[list[Counter[Ngram]], list[Discounts | None]]:
    """The counts that each order is estimated from, and its discounts (None: Witten–Bell)."""
    counts = [raw[-1]]
    discounts: list[Discounts | None] = []
    for longer, ngrams in zip(raw[::-1], [*raw[-2::-1], Counter()], strict=True):
        discounts.append(_discounts(counts[-1]) if smoothing == "kneser-ney" else None)
        if discounts[-1] is None:
            counts.append(ngrams)
            continue
        neighbours = Counter(ngram[1:] for ngram in longer)
        for ngram, count in ngrams.items():
            if ngram[0] == START:  # which has no left neighbour
                neighbours[ngram] = count
        counts.append(neighbours)
    return counts[-2::-1], discounts[::-1]


def _discounts(ngrams: Counter[Ngram]) -> Discounts | None:
    """D1, D2, D3+ (Chen & Goodman 1998, equation 26), or None where the counts give none."""
    n1, n2, n3, n4 = (sum(count == k for count in ngrams.values()) for k in range(1, 5))
    if not (n1 and n2 and n3):
        return None
    y = n1 / (n1 + 2 * n2)
    discounts = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return discounts if all(0 < d <= k for k, d in enumerate(discounts, start=1)) else None


def _discount(count: int, discounts: Discounts | None) -> float:
    return discounts[min(count, 3) - 1] if discounts and count else 0.0


def _interpolation(
    ngrams: Counter[Ngram], discounts: Discounts | None
) -> tuple[dict[Ngram, float], dict[Ngram, float]]:
    """For each history: the weight of the next lower order, and the divisor of counts."""
    total: Counter[Ngram] = Counter()
    withheld: dict[Ngram, float] = {}
    for ngram, count in ngrams.items():
        history = ngram[:-1]
        total[history] += count
        withheld[history] = withheld.get(history, 0.0) + (_discount(count, discounts) or 1.0)
    if discounts:
        return {h: withheld[h] / total[h] for h in total}, dict(total)
    after = {h: total[h] + withheld[h] for h in total}
    return {h: withheld[h] / after[h] for h in total}, after


def _describe(discounts: Sequence[Discounts | None], raw: Sequence[Counter[Ngram]]) -> str:
    names = {True: "modified Kneser-Ney", False: "Witten-Bell"}
    smoothing = ", ".join(f"{n} {names[d is not None]}" for n, d in enumerate(discounts, start=1))
    sentences = raw[0][END,]
    phones = sum(raw[0].values()) - sentences
    return f"orders: {smoothing}; from {phones} phones in {sentences} sentences"
