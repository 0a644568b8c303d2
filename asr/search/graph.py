"""An n-gram as arrays for compiled search, also over labels that fold to its phones."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asr.errors import DataError
from asr.phones import fold_to_arpabet, phone_set
from asr.processor.compiled import compiled
from asr.search.arpa import read_arpa
from asr.search.ngram import END, LN10, START, LanguageModel, Ngram


class Graph(NamedTuple):
    """An n-gram as arrays; a state is a history, state 0 the empty one.

    Where labels fold to the n-gram's phones, further states are a history followed by a closure.
    The arcs of state s are `first_arc[s]`…`first_arc[s + 1]`, sorted by label; for a label without
    an arc the search backs off to state `lower[s]` at the cost `backoff[s]`. State 0 has an arc for
    every label. Logarithms are natural.
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
        """Whether each state but the empty history is entered by one label only.

        This holds where no two labels fold to one phone.
        """
        label_of = np.zeros(len(self.lower), dtype=np.int32)
        label_of[self.target] = self.label
        return bool(np.all((label_of[self.target] == self.label) | (self.target == 0)))


def no_language_model(vocabulary_size: int) -> Graph:
    """One state, in which every label and the end of the sentence have log-probability 0."""
    labels = np.arange(1, vocabulary_size, dtype=np.int32)
    arcs = labels, np.zeros(len(labels)), np.zeros_like(labels)
    state = np.zeros(1, np.int32), np.zeros(1), np.zeros(1)
    return Graph(0, np.array([0, len(labels)]), *arcs, *state)


def graph_of(model: LanguageModel, phones: Sequence[str]) -> Graph:
    """The graph of a model in which phone k has label k + 1.

    A model of CMUdict's phones also serves labels that fold to them, such as TIMIT's. Raises
    `DataError` as `require_phones`.
    """
    require_phones(model, phones)
    if set(phones) == set(model.phones):
        return _graph(model, phones)
    return _folding_graph(_graph(model, model.phones), model.phones, phones)


def require_phones(model: LanguageModel, phones: Sequence[str], where: str = "") -> None:
    """Raise `DataError`, begun with `where`, that names the phones which only one side has."""
    absent, extra = set(phones) - set(model.phones), set(model.phones) - set(phones)
    folds = (
        model.phones == phone_set("arpabet39") and set(phones) <= fold_to_arpabet().target.keys()
    )
    if (absent or extra) and not folds:
        sides = {"missing": absent, "not in the recogniser": extra}.items()
        differences = [f"{what} {', '.join(sorted(names))}" for what, names in sides if names]
        raise DataError(
            f"{where}the language model has other phones than the recogniser: "
            f"{'; '.join(differences)}"
        )


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
    """`inner`, over CMUdict's `phones`, for a recogniser whose `labels` fold to them.

    A label sequence has the log-probability of the phones that `fold_to_arpabet` makes of it. After
    the states of `inner` come those of a history followed by a closure. A closure costs what its
    stop costs; then the stop's release is free, and an affricate costs the difference. Before any
    other label the closure alone counts as the stop: the state backs off, at no cost, to the
    history with the stop. Silence is free and only ends a closure.
    """
    folding = fold_to_arpabet()
    number = {phone: n for n, phone in enumerate(phones, start=1)}
    histories = np.arange(len(inner.lower))
    log_prob = np.zeros((len(histories), len(phones) + 1))
    target = np.zeros(log_prob.shape, dtype=np.int32)
    for state in range(len(histories)):
        fill_row(inner, state, log_prob[state], target[state])
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
            own = inner.label == n
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


# numba caches the compiled callers by their own files: after a change here, delete __pycache__.
@compiled()
def fill_row(graph: Any, state: int, log_prob: Any, target: Any) -> None:
    """Fill in log P of each label after a history, back-off included, and the state behind it.

    Rows have (V,) values; the target of label 0, which no arc has, is left as it was.
    """
    chain = [state]
    while chain[-1] != 0:
        chain.append(graph.lower[chain[-1]])
    log_prob[:] = 0.0
    for s in chain[::-1]:
        log_prob += graph.backoff[s]
        for arc in range(graph.first_arc[s], graph.first_arc[s + 1]):
            log_prob[graph.label[arc]] = graph.log_prob[arc]
            target[graph.label[arc]] = graph.target[arc]


def load_graph(path: str | Path, phones: Sequence[str]) -> Graph:
    """The graph of an ARPA file, read once for all calls until the file changes."""
    if not Path(path).exists():
        raise DataError(f"{path}: no phone n-gram; make it with `asr ngram`, or set search=beam")
    return _load_graph(str(path), Path(path).stat().st_mtime_ns, tuple(phones))


@lru_cache(maxsize=4)
def _load_graph(path: str, changed: int, phones: tuple[str, ...]) -> Graph:
    try:
        return graph_of(read_arpa(path), phones)
    except DataError as error:
        raise DataError(str(error) if path in str(error) else f"{path}: {error}") from None
