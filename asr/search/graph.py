"""An n-gram as arrays for compiled search, also over labels that fold to its phones."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from asr.errors import DataError
from asr.files.kept import give_back, kept, stamp
from asr.phones import fold_to_arpabet, phone_set
from asr.processor.compiled import compiled
from asr.search.arpa import read_arpa
from asr.search.ngram import END, LN10, START, LanguageModel

SOURCES = "graph", "ngram", "packing", "word_model", "words"  # of the code that makes graphs
STATE = np.dtype([("first_arc", "i4"), ("lower", "i4"), ("backoff", "f4"), ("end", "f4")])
ARC = np.dtype([("label", "i4"), ("log_prob", "f4"), ("target", "i4")])


class Graph(NamedTuple):
    """An n-gram as arrays; a state is a history, state 0 the empty one.

    Where labels fold to the n-gram's phones, further states are a history followed by a closure.
    The arcs of state s are `states[s].first_arc`…`states[s + 1].first_arc`, sorted by label; for a
    label without an arc the search backs off to state `lower` at the cost `backoff`. State 0 has an
    arc for every label. `end` is the log-probability that the sentence ends. Logarithms are
    natural. What is read together lies together, because searches read few states, far apart.
    """

    start: int  # the state in which a sentence begins
    states: Any  # (states + 1,) of `STATE`; the last one only ends the arcs of the one before it
    arcs: Any  # (arcs,) of `ARC`

    @classmethod
    def of(cls, start: int, first_arc: Any, arcs: Iterable[Any], states: Iterable[Any]) -> Self:
        """The graph of the fields of `ARC`, each (arcs,), and of `STATE`, but for `first_arc`."""
        result = cls(start, np.zeros(len(first_arc), STATE), np.empty(first_arc[-1], ARC))
        result.states["first_arc"] = first_arc
        for name, values in zip(STATE.names[1:], states, strict=True):  # type: ignore[index]
            result.states[name][:-1] = values
        for name, values in zip(ARC.names, arcs, strict=True):  # type: ignore[arg-type]
            result.arcs[name] = values
        for array in result[1:]:
            array.setflags(write=False)  # as the kept ones: compiled functions have one form
        return result

    def arrays(self) -> dict[str, Any]:
        """What `of_arrays` makes the graph of."""
        return {"start": np.array([self.start]), "states": self.states, "arcs": self.arcs}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        return cls(int(arrays["start"][0]), arrays["states"], arrays["arcs"])

    def give_back(self) -> None:
        """Give the memory of a kept graph back, which grows with what searches read of it."""
        for array in self[1:]:
            give_back(array)

    @property
    def states_tell_labels(self) -> bool:
        """Whether each state but the empty history is entered by one label only.

        This holds where no two labels fold to one phone.
        """
        label, target = self.arcs["label"], self.arcs["target"]
        label_of = np.zeros(len(self.states) - 1, dtype=np.int32)
        label_of[target] = label
        return bool(np.all((label_of[target] == label) | (target == 0)))


def no_language_model(vocabulary_size: int, log_prob: float = 0.0) -> Graph:
    """One state, in which every label has `log_prob`, and the end of the sentence 0."""
    labels = np.arange(1, vocabulary_size)
    return Graph.of(0, [0, len(labels)], (labels, log_prob, 0), (0, 0.0, 0.0))


def graph_of(model: LanguageModel, phones: Sequence[str], where: str = "") -> Graph:
    """The graph of a model in which phone k has label k + 1.

    A model of CMUdict's phones also serves labels that fold to them, such as TIMIT's. Raises
    `DataError` as `require_phones`, begun with `where`.
    """
    require_phones(model, phones, where)
    if set(phones) == set(model.phones):
        return _graph(model, phones)
    return _folding_graph(_graph(model, model.phones), model.phones, phones)


def kept_graph(
    sha256: str, phones: Sequence[str], unpacked: Callable[[], LanguageModel], where: str
) -> Graph:
    """`graph_of` the n-gram of a file with this SHA-256, called `where` in messages.

    It is kept (`asr.files.kept`), and `unpacked` is called at the first use only.
    """

    def make() -> dict[str, Any]:
        model = unpacked()
        require_phones(model, phones, f"{where}: ")
        return graph_of(model, phones).arrays()

    key = [sha256, *phones, digest_of_code()]
    return Graph.of_arrays(kept("phones", key, make, f"the language model of {where}"))


@cache
def digest_of_code() -> str:
    """The digest of the code that makes graphs."""
    sources = (Path(__file__).with_name(f"{name}.py") for name in SOURCES)
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


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
    arcs = (label > 0) & ~np.isnan(model.log10_prob)
    first_arc = _first_arcs(state[model.parent[arcs]], len(histories))
    if np.any(np.diff(label_of[label_of > 0]) < 0):  # the symbols are sorted otherwise
        nodes_of = np.flatnonzero(arcs)
        arcs = nodes_of[np.lexsort((label[arcs], state[model.parent[arcs]]))]
    log_prob = (LN10 * model.log10_prob).astype(np.float32)
    return Graph.of(
        int(state[model.number[START] + 1]) if START in model.number else 0,
        first_arc,
        (of_nodes[arcs] for of_nodes in (label, log_prob, state)),
        (state[model.suffix[histories]], LN10 * backoff[histories], LN10 * end[histories]),
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
    count = len(inner.states) - 1
    histories = np.arange(count)
    sources = np.repeat(histories, np.diff(inner.states["first_arc"]))
    arcs: list[tuple[Any, int, Any, Any]] = []  # states, their label, log-probabilities, targets
    lower, end = [inner.states[:-1]["lower"]], [inner.states[:-1]["end"]]
    for label, name in enumerate(labels, start=1):
        phone = folding.target[name]
        if phone is None:
            arcs.append((histories, label, np.zeros(count), histories))
            continue
        n = number[phone]
        own = inner.arcs["label"] == n
        if name not in folding.releases:
            log_prob, target = inner.arcs["log_prob"][own], inner.arcs["target"][own]
            arcs.append((sources[own], label, log_prob, target))
            continue
        releases = {
            labels.index(release) + 1: number[folding.target[release] or ""]
            for release in folding.releases[name] & set(labels)
        }
        own |= np.isin(inner.arcs["label"], list(releases.values()))
        closed = np.unique(sources[own])
        log_prob, target = _column(inner, sources, n)
        waiting = sum(map(len, lower)) + np.arange(len(closed))
        arcs.append((closed, label, log_prob[closed], waiting))
        for release, r in releases.items():
            released, behind = _column(inner, sources, r)
            arcs.append((waiting, release, (released - log_prob)[closed], behind[closed]))
        lower.append(target[closed])
        end.append(inner.states[:-1]["end"][target[closed]])
    of_label = np.repeat([arc[1] for arc in arcs], [len(arc[0]) for arc in arcs])
    states, log_probs, targets = (np.concatenate([arc[k] for arc in arcs]) for k in (0, 2, 3))
    order = np.argsort(states * (len(labels) + 1) + of_label)
    backoff = np.zeros(sum(map(len, lower)), np.float32)
    backoff[:count] = inner.states[:-1]["backoff"]
    return Graph.of(
        inner.start,
        _first_arcs(states[order], len(backoff)),
        (of_label[order], log_probs[order], targets[order]),
        (np.concatenate(lower), backoff, np.concatenate(end)),
    )


def _column(graph: Graph, sources: Any, label: int) -> tuple[Any, Any]:
    """log P of one label after each history, back-off included, and the state behind it."""
    count = len(graph.states) - 1
    log_prob, target = np.full(count, np.nan), np.zeros(count, np.int32)
    own = graph.arcs["label"] == label
    log_prob[sources[own]] = graph.arcs["log_prob"][own]
    target[sources[own]] = graph.arcs["target"][own]
    waiting = np.flatnonzero(np.isnan(log_prob))
    while len(waiting):
        lower = graph.states["lower"][waiting]
        log_prob[waiting] = graph.states["backoff"][waiting] + log_prob[lower]
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
        chain.append(graph.states[chain[-1]].lower)
    log_prob[:] = 0.0
    for s in chain[::-1]:
        log_prob += graph.states[s].backoff
        for a in range(graph.states[s].first_arc, graph.states[s + 1].first_arc):
            arc = graph.arcs[a]
            log_prob[arc.label] = arc.log_prob
            target[arc.label] = arc.target


def load_graph(path: str | Path, phones: Sequence[str]) -> Graph:
    """The graph of an ARPA file, read once for all calls until the file changes."""
    if not Path(path).exists():
        raise DataError(f"{path}: no phone n-gram; make it with `asr ngram`, or set search=beam")
    return _load_graph(str(path), stamp(path), tuple(phones))


@lru_cache(maxsize=4)
def _load_graph(path: str, stated: str, phones: tuple[str, ...]) -> Graph:
    try:
        return graph_of(read_arpa(path), phones)
    except DataError as error:
        raise DataError(str(error) if path in str(error) else f"{path}: {error}") from None
