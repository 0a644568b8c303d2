"""Phone n-grams: estimated from manifests, kept as ARPA files, compiled to a graph for search.

The vocabulary is closed: every phone of it has a probability after every history, and no other
phone has one. Only phones are modelled, so there is no lexicon, no `<unk>` and no pruning.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asr.errors import DataError
from asr.files import atomic_open
from asr.phones import fold_to_arpabet, phone_set, unknown_phone

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
ORDERS = range(1, 7)
NEVER = -99.0  # ARPA's log10 of a probability that is not asked for
LN10 = math.log(10)

Ngram = tuple[str, ...]
Discounts = tuple[float, float, float]


@dataclass(frozen=True)
class LanguageModel:
    """P(phone | the `order` − 1 symbols before it) with back-off, in ARPA's terms.

    `log10_probs` holds every n-gram that was seen, of each order, and its last symbol's probability
    after the others; `log10_backoffs` the factor under which a history hands over to the history
    without its first symbol. `about` says in words how it was made.
    """

    order: int
    log10_probs: Mapping[Ngram, float]
    log10_backoffs: Mapping[Ngram, float]
    about: str = ""

    @property
    def phones(self) -> tuple[str, ...]:
        """The vocabulary, sorted."""
        unigrams = {ngram[0] for ngram in self.log10_probs if len(ngram) == 1}
        return tuple(sorted(unigrams - {START, END, UNKNOWN}))

    def log_prob(self, history: Sequence[str], symbol: str) -> float:
        """Natural log P(symbol | history); a history begins with `<s>` where a sentence does."""
        context = tuple(history[max(0, len(history) - self.order + 1) :])
        backoff = 0.0
        while (*context, symbol) not in self.log10_probs:
            if not context:
                raise DataError(unknown_phone(symbol, self.phones, "the language model"))
            backoff += self.log10_backoffs.get(context, 0.0)
            context = context[1:]
        return LN10 * (backoff + self.log10_probs[*context, symbol])

    def log_prob_of(self, phones: Sequence[str]) -> float:
        """Natural log P of a whole sentence, its end included."""
        padded = (START, *phones, END)
        return sum(self.log_prob(padded[:n], padded[n]) for n in range(1, len(padded)))

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> float:
        """exp of the mean negative log-probability of a symbol; a sentence's end is one."""
        total, symbols = 0.0, 0
        for phones in sentences:
            total += self.log_prob_of(phones)
            symbols += len(phones) + 1
        return math.exp(-total / symbols)

    def count(self, order: int) -> int:
        """The number of n-grams of one order."""
        return sum(len(ngram) == order for ngram in self.log10_probs)


# ── estimation ───────────────────────────────────────────────────────────────────────────────


def estimate(
    sentences: Iterable[Sequence[str]],
    order: int,
    phones: Iterable[str] = (),
    smoothing: str = "kneser-ney",
) -> LanguageModel:
    """Interpolated n-gram of some sentences over `phones` and those that occur.

    "kneser-ney": modified Kneser–Ney (Chen & Goodman 1998, section 3) at each order whose counts
    of counts give discounts, Witten–Bell at the others, as on tiny data, and for the unigrams of
    large data, where no phone is rare; `about` says which. Below a Kneser–Ney order counts are
    numbers of different left neighbours. "witten-bell": Witten–Bell (1991) at all orders.
    The unigrams are interpolated with the uniform distribution.
    """
    if order not in ORDERS:
        raise DataError(f"order is {order}, expected {ORDERS[0]}…{ORDERS[-1]}")
    if smoothing not in ("kneser-ney", "witten-bell"):
        raise DataError(f"smoothing is {smoothing!r}, expected kneser-ney or witten-bell")
    raw = _raw_counts(sentences, order)
    if not raw[0]:
        raise DataError("no sentences to estimate a language model from")
    vocabulary = sorted({ngram[0] for ngram in raw[0]} - {START, END} | set(phones))
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
    """How often each n-gram of order 1, 2, … was seen; nothing predicts `<s>`."""
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
    """The counts that each order is estimated from, and its discounts; None: Witten–Bell."""
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
    """D1, D2, D3+ (Chen & Goodman 1998, equation 26), or None where they are no discounts."""
    n1, n2, n3, n4 = (sum(count == k for count in ngrams.values()) for k in range(1, 5))
    if not (n1 and n2 and n3):
        return None
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if all(0 < d <= k for k, d in enumerate(found, start=1)) else None


def _discount(count: int, discounts: Discounts | None) -> float:
    return discounts[min(count, 3) - 1] if discounts and count else 0.0


def _interpolation(
    ngrams: Counter[Ngram], discounts: Discounts | None
) -> tuple[dict[Ngram, float], dict[Ngram, float]]:
    """By history: the weight of the next lower order, and what counts are divided by."""
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


# ── ARPA ─────────────────────────────────────────────────────────────────────────────────────


def write_arpa(path: str | Path, model: LanguageModel) -> None:
    """Write log10 probabilities with all their digits, so that reading gives the same model."""
    with atomic_open(path) as file:
        if model.about:
            file.write(f"# {model.about}\n\n")
        file.write("\\data\\\n")
        for order in range(1, model.order + 1):
            file.write(f"ngram {order}={model.count(order)}\n")
        for order in range(1, model.order + 1):
            file.write(f"\n\\{order}-grams:\n")
            for ngram, prob in model.log10_probs.items():
                if len(ngram) == order:
                    backoff = model.log10_backoffs.get(ngram)
                    weight = "" if backoff is None else f"\t{backoff!r}"
                    file.write(f"{prob!r}\t{' '.join(ngram)}{weight}\n")
        file.write("\n\\end\\\n")


def read_arpa(path: str | Path) -> LanguageModel:
    """Read an ARPA file, of ours or of others; `DataError` names the line that is wrong."""
    probs: dict[Ngram, float] = {}
    backoffs: dict[Ngram, float] = {}
    about: list[str] = []
    promised: list[int] = []
    order, where = 0, f"{path}"
    for where, line in _arpa_lines(path):
        if line.startswith("#") and not promised:
            about.append(line.removeprefix("#").strip())
        elif line.startswith("ngram ") and order == 0:
            promised.append(_number(line.partition("=")[2], int, where))
        elif line == "\\end\\":
            break
        elif line.startswith("\\") and line.endswith("-grams:"):
            order = _number(line[1 : -len("-grams:")], int, where)
        elif order:
            prob, *ngram = line.split()
            if len(ngram) == order + 1:
                weight = _number(ngram.pop(), float, where)
                backoffs[tuple(ngram)] = weight
            if len(ngram) != order:
                raise DataError(
                    f"{where}: expected a probability, {order} symbols and perhaps a back-off "
                    f"weight, found {line!r}"
                )
            probs[tuple(ngram)] = _number(prob, float, where)
        elif line != "\\data\\":
            raise DataError(f"{where}: expected an ARPA file, found {line!r}")
    else:
        raise DataError(f"{where}: the file ends without \\end\\")
    model = LanguageModel(len(promised), probs, backoffs, " ".join(about))
    found = [model.count(n) for n in range(1, model.order + 1)]
    if not promised or found != promised:
        raise DataError(f"{path}: its head promises {promised} n-grams by order, it has {found}")
    if (END,) not in probs:
        raise DataError(f"{path}: no probability of {END}, the end of a sentence")
    return model


def _arpa_lines(path: str | Path) -> Iterator[tuple[str, str]]:
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{path}:{number}", line.strip()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason})") from error


def _number(text: str, kind: type[Any], where: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise DataError(f"{where}: expected a number, found {text!r}") from None


# ── graph ────────────────────────────────────────────────────────────────────────────────────


class Graph(NamedTuple):
    """An n-gram as arrays for compiled search; a state is a history, 0 the empty one.

    Where labels fold to the n-gram's phones, other states are a history and a closure behind it.
    The arcs of state s are `first_arc[s]`…`first_arc[s + 1]`, sorted by label; of a label without
    arc, the state `lower[s]` decides, under the factor `backoff[s]`. State 0 has all labels.
    Logarithms are natural.
    """

    start: int  # the state in which a sentence begins
    first_arc: Any  # (states + 1,) int64
    label: Any  # (arcs,) int32
    log_prob: Any  # (arcs,) float64
    target: Any  # (arcs,) int32
    lower: Any  # (states,) int32
    backoff: Any  # (states,) float64
    end: Any  # (states,) float64, log-probability that the sentence ends

    @property
    def states_tell_labels(self) -> bool:
        """Whether a state, but for the empty history, is entered by one label only.

        So it is where no labels fold to one phone.
        """
        label_of = np.zeros(len(self.lower), dtype=np.int32)
        label_of[self.target] = self.label
        return bool(np.all((label_of[self.target] == self.label) | (self.target == 0)))


def no_language_model(vocabulary_size: int) -> Graph:
    """One state in which every label has the logarithm 0, and so has the end."""
    labels = vocabulary_size - 1
    return Graph(
        0,
        np.array([0, labels]),
        np.arange(1, vocabulary_size, dtype=np.int32),
        np.zeros(labels),
        np.zeros(labels, dtype=np.int32),
        np.zeros(1, dtype=np.int32),
        np.zeros(1),
        np.zeros(1),
    )


def graph(model: LanguageModel, phones: Sequence[str]) -> Graph:
    """The graph of a model in which phone k has label k + 1.

    A model of CMUdict's phones also serves labels that fold to them, such as TIMIT's. Raises
    `DataError` with the names of the phones that only one side has.
    """
    absent, extra = set(phones) - set(model.phones), set(model.phones) - set(phones)
    if not (absent or extra):
        return _graph(model, phones)
    if model.phones != phone_set("arpabet39") or not set(phones) <= fold_to_arpabet().target.keys():
        raise DataError(
            "the language model is of other phones than the recogniser: "
            + "; ".join(
                f"{what} {', '.join(sorted(names))}"
                for what, names in (("it lacks", absent), ("it has besides", extra))
                if names
            )
        )
    return _folding_graph(_graph(model, model.phones), model.phones, phones)


def _graph(model: LanguageModel, phones: Sequence[str]) -> Graph:
    """The graph of a model of exactly these phones."""
    label = {phone: number for number, phone in enumerate(phones, start=1)}
    histories = {ngram[:-1] for ngram in model.log10_probs} | set(model.log10_backoffs)
    state = {history: s for s, history in enumerate(sorted(histories, key=lambda h: (len(h), h)))}

    def longest_state(history: Ngram) -> int:
        while history not in state:
            history = history[1:]
        return state[history]

    arcs = sorted(
        (state[ngram[:-1]], label[ngram[-1]], LN10 * prob, longest_state(ngram))
        for ngram, prob in model.log10_probs.items()
        if ngram[-1] in label
    )
    first_arc = np.searchsorted([arc[0] for arc in arcs], range(len(state) + 1))
    return Graph(
        longest_state((START,)),
        first_arc,
        np.array([arc[1] for arc in arcs], dtype=np.int32),
        np.array([arc[2] for arc in arcs]),
        np.array([arc[3] for arc in arcs], dtype=np.int32),
        np.array([longest_state(history[1:]) for history in state], dtype=np.int32),
        np.array([LN10 * model.log10_backoffs.get(history, 0.0) for history in state]),
        np.array([model.log_prob(history, END) for history in state]),
    )


def _folding_graph(inner: Graph, phones: Sequence[str], labels: Sequence[str]) -> Graph:
    """`inner`, of CMUdict's `phones`, for a recogniser of `labels` that fold to them.

    A sequence of labels has the log-probability of what `fold_to_arpabet` makes of it. Behind the
    states of `inner` come those of a history and a closure. A closure costs what its stop costs;
    of the releases, the stop is then free, and an affricate costs the difference. Before any other
    label the closure is the stop: the state backs off, for nothing, to the history with it. Silence
    is free and changes nothing, but that a closure is over.
    """
    folding = fold_to_arpabet()
    number = {phone: n for n, phone in enumerate(phones)}
    log_prob, target = _after_each_history(inner, len(phones))
    histories = np.arange(len(inner.lower))
    sources = np.repeat(histories, np.diff(inner.first_arc))
    arcs: list[tuple[Any, int, Any, Any]] = []  # states, their label, log-probabilities, targets
    lower, end = [inner.lower], [inner.end]
    for label, name in enumerate(labels, start=1):
        phone = folding.target[name]
        if phone is None:
            arcs.append((histories, label, np.zeros(len(histories)), histories))
            continue
        n = number[phone]
        if name not in folding.releases:
            own = inner.label == n + 1
            arcs.append((sources[own], label, inner.log_prob[own], inner.target[own]))
            continue
        waiting = len(lower) * len(histories) + histories
        arcs.append((histories, label, log_prob[:, n], waiting))
        for release in folding.releases[name] & set(labels):
            r = number[folding.target[release] or ""]
            difference = log_prob[:, r] - log_prob[:, n]
            arcs.append((waiting, labels.index(release) + 1, difference, target[:, r]))
        lower.append(target[:, n])
        end.append(inner.end[target[:, n]])
    of_label = np.repeat([arc[1] for arc in arcs], [len(arc[0]) for arc in arcs])
    states, log_probs, targets = (np.concatenate([arc[k] for arc in arcs]) for k in (0, 2, 3))
    order = np.lexsort((of_label, states))
    backoff = np.zeros(len(lower) * len(histories))
    backoff[: len(histories)] = inner.backoff
    return Graph(
        inner.start,
        np.searchsorted(states[order], np.arange(len(backoff) + 1)),
        of_label[order].astype(np.int32),
        log_probs[order],
        targets[order].astype(np.int32),
        np.concatenate(lower),
        backoff,
        np.concatenate(end),
    )


def _after_each_history(inner: Graph, phones: int) -> tuple[Any, Any]:
    """Log-probability and target of every phone, back-off included, (states, phones) each."""
    log_prob = np.zeros((len(inner.lower), phones))
    target = np.zeros((len(inner.lower), phones), dtype=np.int32)
    for state, lower in enumerate(inner.lower):  # a shorter history, and so before it
        log_prob[state] = log_prob[lower] + inner.backoff[state]
        target[state] = target[lower]
        arcs = slice(inner.first_arc[state], inner.first_arc[state + 1])
        log_prob[state, inner.label[arcs] - 1] = inner.log_prob[arcs]
        target[state, inner.label[arcs] - 1] = inner.target[arcs]
    return log_prob, target


def load_graph(path: str | Path, phones: Sequence[str]) -> Graph:
    """The graph of an ARPA file, read once for all calls while the file stays as it is."""
    try:
        changed = Path(path).stat().st_mtime_ns
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return _load_graph(str(path), changed, tuple(phones))


@lru_cache(maxsize=4)
def _load_graph(path: str, changed: int, phones: tuple[str, ...]) -> Graph:
    try:
        return graph(read_arpa(path), phones)
    except DataError as error:
        raise DataError(str(error) if path in str(error) else f"{path}: {error}") from None
