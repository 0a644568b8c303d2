"""Laws of forced alignment: it is the best of all paths, in parts of any size, in little memory."""

import itertools
import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from asr.search import forced
from asr.search.forced import FILLER, SILENCE, Costs, Floats, Network, Route, Search, network

Words = tuple[tuple[tuple[int, ...], ...], ...]

GAPS = Costs(filler=0.7, entry=1.1, skip=2.0, word=0.5)
TEXTS: tuple[Words, ...] = (
    (),
    (((1,),),),
    (((1, 2), (2,)), ((2, 2),)),
    (((2,),), ((1,), (2, 1), (1, 1)), ((1,),)),
)


def best_of_all(
    scores: Floats, words: Words, states: int, floor: int, pause: int, silence: bool, costs: Costs
) -> float:
    """The score of the best path, over all ways to divide the frames among states."""
    frames = len(scores)

    def run(column: int, t: int, until: int) -> float:
        return float(scores[t:until, column].astype(float).sum())

    def sounds(columns: tuple[int, ...], t: int) -> Iterator[tuple[float, int]]:
        if not columns:
            yield 0.0, t
            return
        for until in range(t + floor, frames + 1):
            for rest, end in sounds(columns[1:], until):
                yield run(columns[0], t, until) + rest, end

    @cache
    def best(w: int, t: int, skipped: bool) -> float:
        ways = [0.0 if (w, t) == (len(words), frames) else -math.inf]
        for until in range(t + pause, frames + 1) if silence else ():
            ways.append(run(0, t, until) + best(w, until, False))
        for until in range(t + 1, frames + 1):
            loudest = float(scores[t:until].max(axis=1).astype(float).sum())
            spent = costs.entry + costs.filler * (until - t)
            ways.append(loudest - spent + best(w, until, False))
        for later in range(w + 1, len(words) + 1) if not skipped else ():
            ways.append(best(later, t, True) - costs.skip - costs.word * (later - w))
        for pronunciation in words[w] if w < len(words) else ():
            columns = tuple(1 + (p - 1) * states + s for p in pronunciation for s in range(states))
            ways += [score + best(w + 1, end, False) for score, end in sounds(columns, t)]
        return max(ways)

    return best(0, 0, False)


def score_along(route: Route, scores: Floats, net: Network, words: Words, costs: Costs) -> float:
    """The score of a route, which must go through pronunciations in the order of the words."""
    total = 0.0
    for column, phone, start, end in zip(
        route.columns, route.phones, route.starts, route.starts[1:], strict=False
    ):
        frames = scores[start:end].astype(float)
        if phone == FILLER:
            total -= costs.entry + costs.filler * (end - start)
        total += float((frames.max(axis=1) if phone == FILLER else frames[:, column]).sum())
    phones = [int(phone) for phone, _ in itertools.groupby(route.phones) if phone >= 0]
    said = [(w, list(of_word)) for w, of_word in itertools.groupby(phones, lambda p: net.word[p])]
    for w, of_word in said:
        assert tuple(net.label[of_word]) in words[w]
        assert of_word == list(range(of_word[0], of_word[0] + len(of_word)))
    for left, right in itertools.pairwise([-1, *(w for w, _ in said), len(words)]):
        assert left < right
        if right > left + 1:
            total -= costs.skip + costs.word * (right - left - 1)
    return total


def drawn(frames: int, states: int, seed: int) -> Floats:
    scores = 3 * np.random.default_rng(seed).standard_normal((frames, 1 + 2 * states))
    if seed == 2:
        scores = np.round(scores)  # with ties
    if seed == 3:
        scores[:, 0] = -math.inf
    return scores.astype(np.float32)


def aligned(scores: Floats, net: Network, costs: Costs, threshold: float = math.inf) -> Route:
    search = Search(net, costs, threshold)
    search.feed(scores)
    return search.route()


@pytest.mark.parametrize("costs", [Costs(), GAPS])
@pytest.mark.parametrize(("states", "floor", "pause"), [(1, 1, 1), (2, 1, 2), (1, 2, 1), (3, 1, 3)])
@pytest.mark.parametrize("words", TEXTS)
def test_the_route_is_the_best_of_all_paths(
    words: Words, states: int, floor: int, pause: int, costs: Costs
) -> None:
    for seed, frames, silence in itertools.product(range(4), (0, 1, 5, 8), (True, False)):
        scores = drawn(frames, states, seed)
        filler = costs.filler < math.inf
        net = network(words, states, floor, pause, silence, filler)
        best = best_of_all(scores, words, states, floor, pause, silence, costs)
        route = aligned(scores, net, costs)
        assert route.score == pytest.approx(best, abs=1e-4)
        assert route.starts[-1] == frames
        if best > -math.inf:
            assert list(route.starts) == sorted(set(route.starts) | {0})
            assert score_along(route, scores, net, words, costs) == pytest.approx(best, abs=1e-4)
            for phone, states_of in itertools.groupby(route.phones):
                if phone >= 0:
                    assert len(list(states_of)) == states
                    first = 1 + (int(net.label[phone]) - 1) * states
                    columns = route.columns[route.phones == phone]
                    assert columns.tolist() == list(range(first, first + states))


def long_text() -> tuple[Words, Floats]:
    """40 words of 2 to 4 phones in two pronunciations, and scores that follow them loosely."""
    draw = np.random.default_rng(7)
    words = tuple(
        tuple(tuple(draw.integers(1, 6, draw.integers(2, 5)).tolist()) for _ in range(2))
        for _ in range(40)
    )
    columns = [0] * 5
    for pronunciations in words:
        for label in pronunciations[draw.integers(2)]:
            for state in range(2):
                columns += [1 + (label - 1) * 2 + state] * int(draw.integers(1, 4))
        columns += [0] * int(draw.integers(0, 6))
    scores = -2 + draw.standard_normal((len(columns), 11))
    scores[np.arange(len(columns)), columns] += 3
    return words, scores.astype(np.float32)


def same(one: Route, other: Route) -> bool:
    return one.score == other.score and all(
        np.array_equal(a, b) for a, b in zip(one[:3], other[:3], strict=True)
    )


def test_scores_may_come_in_parts_and_memory_does_not_grow_with_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words, scores = long_text()
    for costs in (Costs(), GAPS):
        net = network(words, 2, 1, filler=costs.filler < math.inf)
        whole = aligned(scores, net, costs)
        monkeypatch.setattr(forced, "ROOM", 1)
        search = Search(net, costs, 60.0)
        for n in range(0, len(scores), 7):
            search.feed(scores[n : n + 7])
        assert same(search.route(), whole)
        assert search.records.shape[1] <= 8 * len(net.column)


def test_a_narrow_search_finds_at_most_what_a_wide_one_does() -> None:
    words, scores = long_text()
    scores = scores[::-1]  # another text's
    net = network(words, 2, 1)
    whole = aligned(scores, net, Costs())
    routes = [aligned(scores, net, Costs(), threshold) for threshold in (4.0, 15.0, 400.0)]
    assert routes[0].score <= routes[1].score <= routes[2].score == whole.score
    assert not same(routes[0], whole)
    assert same(routes[2], whole)


def test_text_that_nobody_says_is_skipped_and_sound_without_text_is_filled() -> None:
    words, scores = long_text()
    costs = Costs(filler=1.0, entry=5.0, skip=15.0, word=0.1)
    net = network(words, 2, 1, filler=True)
    route = aligned(scores, net, costs)
    assert len({int(net.word[p]) for p in route.phones if p >= 0}) == len(words)
    middle = int(route.starts[(net.word[route.phones] == 20).argmax()])
    noise = np.random.default_rng(1).standard_normal((100, 11)).astype(np.float32)
    spoken = np.concatenate([scores[:middle], noise, scores[middle:]])
    extra = (((1, 2, 3, 4),),) * 8
    net = network((*words[:10], *extra, *words[10:]), 2, 1, filler=True)
    route = aligned(spoken, net, costs, 60.0)
    assert {int(net.word[p]) for p in route.phones if p >= 0} == {*range(10), *range(18, 48)}
    (at,) = (route.phones == FILLER).nonzero()
    assert route.starts[at[0]] == pytest.approx(middle, abs=6)
    assert route.starts[at[-1] + 1] == pytest.approx(middle + 100, abs=6)
    assert SILENCE in route.phones
