"""N-grams left out of a model, so that it gets a stated size and loses little."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from asr.errors import DataError
from asr.search.ngram import LN10, LanguageModel
from asr.search.packing import pack

TRIES = 4  # of a size in bytes
CLOSE = 0.97  # of the size that was asked for


def prune(model: LanguageModel, most: int) -> LanguageModel:
    """The model of at most `most` n-grams that differs least from `model`.

    Entropy pruning (Stolcke 1998): an n-gram is left out whose absence changes the relative entropy
    least, with those that it begins. Histories are weighed by their counts where the model has
    them, because the lower orders of a Kneser–Ney model give no marginals (Chelba et al. 2010).
    Unigrams stay. Back-offs are computed anew, so that probabilities sum to one.
    """
    if most < len(model.symbols):
        raise DataError(f"{most} n-grams, expected at least the {len(model.symbols)} unigrams")
    if most >= len(model.symbol) - 1:
        return model
    loss = _losses(model)
    for order in range(model.order, 1, -1):  # an n-gram stays with any that it begins
        nodes = model.nodes(order)
        np.maximum.at(loss, model.parent[nodes], loss[nodes])
    loss[: len(model.symbols) + 1] = math.inf
    at = len(loss) - 1 - most
    pruned = _kept(model, loss > np.partition(loss, at - 1)[at - 1])
    return replace(pruned, about=f"{model.about}; {len(pruned.symbol) - 1} n-grams kept by entropy")


def prune_to_size(model: LanguageModel, size: int) -> LanguageModel:
    """`prune` to at most `size` bytes of a packed model."""
    result, most = model, len(model.symbol) - 1
    for _ in range(TRIES):
        packed = sum(len(data) for data in pack(result)[1].values())
        if packed <= size and (result is model or packed >= CLOSE * size):
            return result
        most = int(most * size / packed * (1 + CLOSE) / 2)
        result = prune(model, most)
    raise DataError(f"no model of {size} bytes: its unigrams alone may need them")


def _losses(model: LanguageModel) -> Any:
    """The relative entropy that the model loses without each n-gram, in nats."""
    backoff = np.nan_to_num(model.log10_backoff)
    parent, suffix = model.parent, model.suffix
    log10_prob = model.log10_prob.copy()
    for node in np.flatnonzero(np.isnan(log10_prob)):  # the empty one, lacking prefixes
        log10_prob[node] = (backoff[parent[node]] + log10_prob[suffix[node]]) if node else 0.0
    prob, lower = 10**log10_prob, 10 ** log10_prob[suffix]
    histories = len(backoff)
    seen = np.bincount(parent, lower, minlength=histories)
    left = np.maximum(1 - seen, 1e-9)  # of the lower order
    if model.counts is not None:
        weight = model.counts[:histories] / model.counts[0]
    else:
        weight = np.ones(histories)
        for order in range(1, model.order):
            nodes = model.nodes(order)
            weight[nodes] = weight[parent[nodes]] * prob[nodes]
    alpha = 10**backoff
    unseen = left * alpha  # the mass that backs off
    changed = np.log((unseen[parent] + prob) / (left[parent] + lower))
    gain = prob * (LN10 * (log10_prob[suffix] - log10_prob) + changed)
    gain += unseen[parent] * (changed - np.log(alpha)[parent])
    return np.where(np.isnan(model.log10_prob), 0.0, -weight[parent] * gain)


def _kept(model: LanguageModel, kept: Any) -> LanguageModel:
    """The model of some of the n-grams, and all that these begin with, with its back-offs."""
    kept[0] = True
    histories = len(model.log10_backoff)
    parent, suffix = model.parent, model.suffix
    backoff = np.zeros(histories)
    prob = np.zeros(len(kept))
    has_prob = kept & ~np.isnan(model.log10_prob)
    numbers = np.bincount(parent[1:][kept[1:]], minlength=histories)
    for order in range(1, model.order + 1):
        nodes, above = model.nodes(order), model.nodes(order - 1)
        if order > 1:
            own = nodes.start + np.flatnonzero(has_prob[nodes])
            sums = [
                np.bincount(parent[own] - above.start, values, minlength=above.stop - above.start)
                for values in (10 ** model.log10_prob[own], 10 ** prob[suffix[own]])
            ]
            unseen = [np.maximum(1 - one, 1e-12) for one in sums]
            backoff[above] = np.where(numbers[above] > 0, np.log10(unseen[0] / unseen[1]), 0.0)
        lower = prob[suffix[nodes]] + backoff[parent[nodes]]
        prob[nodes] = np.where(has_prob[nodes], model.log10_prob[nodes], lower)
    return replace(
        model,
        children=1 + np.cumsum(np.concatenate(([0], numbers[kept[:histories]]))),
        symbol=model.symbol[kept],
        log10_prob=model.log10_prob[kept],
        log10_backoff=np.where(numbers > 0, backoff, math.nan)[kept[:histories]],
        counts=None if model.counts is None else model.counts[kept],
    )
