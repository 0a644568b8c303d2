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
from asr.search.ngram import END, LN10, START, LanguageModel


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
    log_prob: Any  # (arcs,) float32
    target: Any  # (arcs,) int32
    lower: Any  # (states,) int32
    backoff: Any  # (states,) float32
    end: Any  # (states,) float32, log-probability that the sentence ends

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
    arcs = labels, np.zeros(len(labels), np.float32), np.zeros_like(labels)
    state = np.zeros(1, np.int32), np.zeros(1, np.float32), np.zeros(1, np.float32)
    return Graph(0, np.array([0, len(labels)]), *arcs, *state)


def graph_of(model: LanguageModel, phones: Sequence[str], where: str = "") -> Graph:
    """The graph of a model in which phone k has label k + 1.

    A model of CMUdict's phones also serves labels that fold to them, such as TIMIT's. Raises
    `DataError` as `require_phones`, begun with `where`.
    """
    require_phones(model, phones, where)
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
    """The graph of a model of exactly these phones.

    Its states are the histories with continuations; another one is its longest suffix of those.
    """
    label_of = np.zeros(len(model.symbols), np.int32)
    label_of[[model.number[phone] for phone in phones]] = range(1, len(phones) + 1)
    backoff = np.nan_to_num(model.log10_backoff)
    is_state = (np.diff(model.children) > 0) | (backoff != 0)
    is_state[0] = True
    state = np.zeros(len(model.symbol), np.int32)
    end = np.zeros(len(backoff))
    ends = model.symbol == model.number[END]
    ends &= ~np.isnan(model.log10_prob)
    for order in range(1, model.order + 1):
        nodes = model.nodes(order)
        state[nodes] = state[model.suffix[nodes]]
        above = model.nodes(order - 1)  # the histories of these nodes
        end[above] = backoff[above] + end[model.suffix[above]]
        last = nodes.start + np.flatnonzero(ends[nodes])
        end[model.parent[last]] = model.log10_prob[last]
        if order < model.order:
            own = nodes.start + np.flatnonzero(is_state[nodes])
            state[own] = np.count_nonzero(is_state[: nodes.start]) + np.arange(len(own))
    histories = np.flatnonzero(is_state)
    label = label_of[model.symbol]
    label[0] = 0
    arcs = np.flatnonzero((label > 0) & ~np.isnan(model.log10_prob))
    source = state[model.parent[arcs]]
    if np.any(np.diff(label_of[label_of > 0]) < 0):  # the symbols are sorted otherwise
        arcs = arcs[np.lexsort((label[arcs], source))]
    return Graph(
        int(state[model.number[START] + 1]) if START in model.number else 0,
        _first_arcs(source, len(histories)),
        label[arcs],
        (LN10 * model.log10_prob[arcs]).astype(np.float32),
        state[arcs],
        state[model.suffix[histories]],
        (LN10 * backoff[histories]).astype(np.float32),
        (LN10 * end[histories]).astype(np.float32),
    )


def _first_arcs(sources: Any, states: int) -> Any:
    """Where the arcs of each state begin, for arcs that are sorted by state."""
    return np.concatenate(([0], np.cumsum(np.bincount(sources, minlength=states))))


def _folding_graph(inner: Graph, phones: Sequence[str], labels: Sequence[str]) -> Graph:
    """`inner`, over CMUdict's `phones`, for a recogniser whose `labels` fold to them.

    A label sequence has the log-probability of the phones that `fold_to_arpabet` makes of it. After
    the states of `inner` come those of a history followed by a closure. A closure costs what its
    stop costs; then the stop's release is free, and an affricate costs the difference. Before any
    other label the closure alone counts as the stop: the state backs off, at no cost, to the
    history with the stop. Silence is free and only ends a closure. A history without arcs for a
    closure's stop and releases has no state for the closure: that of its suffix is the same.
    """
    folding = fold_to_arpabet()
    number = {phone: n for n, phone in enumerate(phones, start=1)}
    count = len(inner.lower)
    histories = np.arange(count)
    sources = np.repeat(histories, np.diff(inner.first_arc))
    arcs: list[tuple[Any, int, Any, Any]] = []  # states, their label, log-probabilities, targets
    lower, end = [inner.lower], [inner.end]
    for label, name in enumerate(labels, start=1):
        phone = folding.target[name]
        if phone is None:
            arcs.append((histories, label, np.zeros(count), histories))
            continue
        n = number[phone]
        own = inner.label == n
        if name not in folding.releases:
            arcs.append((sources[own], label, inner.log_prob[own], inner.target[own]))
            continue
        releases = {
            labels.index(release) + 1: number[folding.target[release] or ""]
            for release in folding.releases[name] & set(labels)
        }
        own |= np.isin(inner.label, list(releases.values()))
        closed = np.unique(sources[own])
        log_prob, target = _column(inner, sources, n)
        waiting = sum(map(len, lower)) + np.arange(len(closed))
        arcs.append((closed, label, log_prob[closed], waiting))
        for release, r in releases.items():
            released, behind = _column(inner, sources, r)
            arcs.append((waiting, release, (released - log_prob)[closed], behind[closed]))
        lower.append(target[closed])
        end.append(inner.end[target[closed]])
    of_label = np.repeat([arc[1] for arc in arcs], [len(arc[0]) for arc in arcs])
    states, log_probs, targets = (np.concatenate([arc[k] for arc in arcs]) for k in (0, 2, 3))
    order = np.argsort(states * (len(labels) + 1) + of_label)
    backoff = np.zeros(sum(map(len, lower)), np.float32)
    backoff[:count] = inner.backoff
    return Graph(
        inner.start,
        _first_arcs(states[order], len(backoff)),
        of_label[order].astype(np.int32),
        log_probs[order].astype(np.float32),
        targets[order].astype(np.int32),
        np.concatenate(lower),
        backoff,
        np.concatenate(end),
    )


def _column(graph: Graph, sources: Any, label: int) -> tuple[Any, Any]:
    """log P of one label after each history, back-off included, and the state behind it."""
    log_prob, target = np.full(len(graph.lower), np.nan), np.zeros(len(graph.lower), np.int32)
    own = graph.label == label
    log_prob[sources[own]], target[sources[own]] = graph.log_prob[own], graph.target[own]
    waiting = np.flatnonzero(np.isnan(log_prob))
    while len(waiting):
        lower = graph.lower[waiting]
        log_prob[waiting] = graph.backoff[waiting] + log_prob[lower]
        target[waiting] = target[lower]
        waiting = waiting[np.isnan(log_prob[waiting])]
    return log_prob, target


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
