"""Laws of n-grams: they sum to one, follow their papers' formulas, and survive their files."""

import itertools
import math
import os
import random
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr import checkpoint
from asr.commands import ngram
from asr.errors import DataError
from asr.phones import Vocabulary, phone_set
from asr.records import Utterance, write_jsonl
from asr.scoring import protocol
from asr.search.arpa import read_arpa, write_arpa
from asr.search.graph import Graph, graph_of, load_graph, no_language_model
from asr.search.ngram import END, START, LanguageModel, Sentences, estimate
from asr.search.packing import STEP, pack, unpack
from asr.search.pruning import _kept, prune, prune_to_size
from asr.transcriber import STREAMING

PHONES = ("aa", "b", "d", "iy", "m", "ow", "r", "s", "sh", "t")
Text = list[tuple[str, ...]]


def sentences(seed: int, number: int, phones: tuple[str, ...] = PHONES) -> Text:
    """A Markov chain with a few frequent and many rare successors."""
    draw = random.Random(seed)
    weights = {phone: [draw.random() ** 4 for _ in phones] for phone in (START, *phones)}
    result = []
    for _ in range(number):
        said = [START]
        for _ in range(draw.randint(1, 9)):
            said += draw.choices(phones, weights[said[-1]])
        result.append(tuple(said[1:]))
    return result


class Oracle:
    """Chen & Goodman (1998), equations 2 to 4 of section 3, word for word, by scanning the text."""

    def __init__(self, text: Text, order: int, phones: tuple[str, ...], smoothing: str):
        self.text = [(START, *said, END) for said in text]
        self.order = order
        self.symbols = (*phones, END)
        self.discounts: dict[int, tuple[float, ...] | None] = {}
        for n in range(order, 0, -1):
            counts = [self.count(ngram) for ngram in self.seen(n)]
            self.discounts[n] = self.discounts_from(counts) if smoothing == "kneser-ney" else None

    def seen(self, n: int) -> set[tuple[str, ...]]:
        ngrams = {said[k : k + n] for said in self.text for k in range(len(said) - n + 1)}
        return ngrams - {(START,)}

    def count(self, ngram: tuple[str, ...]) -> int:
        """c, or N1+(• ngram) where the next higher order is smoothed by Kneser and Ney's way."""
        n = len(ngram)
        places = [(s, k) for s in self.text for k in range(len(s)) if s[k : k + n] == ngram]
        if n < self.order and self.discounts[n + 1] is not None and ngram[0] != START:
            return len({said[k - 1] for said, k in places})
        return len(places)

    @staticmethod
    def discounts_from(counts: list[int]) -> tuple[float, ...] | None:
        n1, n2, n3, n4 = (counts.count(k) for k in (1, 2, 3, 4))
        if 0 in (n1, n2, n3):
            return None
        y = n1 / (n1 + 2 * n2)
        d = (0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        return d if all(0 < d[k] <= k for k in (1, 2, 3)) else None

    def prob(self, history: tuple[str, ...], symbol: str) -> float:
        return self._prob(history[max(0, len(history) - self.order + 1) :], symbol)

    def _prob(self, history: tuple[str, ...], symbol: str) -> float:
        lower = self._prob(history[1:], symbol) if history else 1 / len(self.symbols)
        counts = {w: self.count((*history, w)) for w in self.symbols}
        total, types = sum(counts.values()), sum(count > 0 for count in counts.values())
        if total == 0:
            return lower
        d = self.discounts[len(history) + 1]
        if d is None:  # Witten & Bell (1991), method C
            return (counts[symbol] + types * lower) / (total + types)
        left = sum(d[min(count, 3)] for count in counts.values()) / total
        return max(counts[symbol] - d[min(counts[symbol], 3)], 0) / total + left * lower


def histories(order: int) -> list[tuple[str, ...]]:
    """Every history of fewer than `order` symbols, at the beginning of a sentence and within."""
    return [
        (*begin, *phones)
        for begin in ((), (START,))
        for n in range(min(order, 3) - len(begin))
        for phones in itertools.product((*PHONES, "never"), repeat=n)
    ]


@pytest.mark.parametrize("smoothing", ["kneser-ney", "witten-bell"])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_sum_to_one_after_every_history(order: int, smoothing: str) -> None:
    model = estimate(sentences(order, 60), order, (*PHONES, "never"), smoothing)
    for history in histories(order):
        total = sum(math.exp(model.log_prob(history, w)) for w in (*model.phones, END))
        assert total == pytest.approx(1, abs=1e-12), history


@pytest.mark.parametrize("number", [2, 40, 80])
@pytest.mark.parametrize("smoothing", ["kneser-ney", "witten-bell"])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_are_those_of_the_papers(order: int, smoothing: str, number: int) -> None:
    text = sentences(1, number)
    model = estimate(text, order, PHONES, smoothing)
    oracle = Oracle(text, order, PHONES, smoothing)
    draw = random.Random(order)
    for history in draw.sample(known := histories(order), min(12, len(known))):
        for symbol in (*PHONES, END):
            if "never" not in history:
                expected = math.log(oracle.prob(history, symbol))
                assert model.log_prob(history, symbol) == pytest.approx(expected, abs=1e-9)
    used = {n for n, discounts in oracle.discounts.items() if discounts}
    for n in range(1, order + 1):
        assert f"{n} {'modified Kneser-Ney' if n in used else 'Witten-Bell'}" in model.about


@pytest.mark.parametrize("smoothing", ["kneser-ney", "witten-bell"])
@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("least", [(), (1, 1, 2, 3)])
def test_a_model_with_fewer_n_grams_sums_to_one(
    order: int, smoothing: str, least: tuple[int, ...]
) -> None:
    text = sentences(order, 60)
    full = estimate(text, order, (*PHONES, "never"), smoothing, least[:order])
    for most in (len(full.symbol) - 1, len(full.symbol) // 2, 30, 13):
        model = prune(full, most)
        assert 0.8 * most <= sum(map(model.count, range(1, order + 1))) <= most
        for history in histories(order):
            total = sum(math.exp(model.log_prob(history, w)) for w in (*model.phones, END))
            assert total == pytest.approx(1, abs=1e-9), history
    with pytest.raises(DataError, match="12 n-grams, expected at least the 13 unigrams"):
        prune(full, 12)


def test_n_grams_seen_less_often_than_asked_are_left_out() -> None:
    text = sentences(2, 60)
    full, cut = (estimate(text, 3, PHONES, min_counts=least) for least in ((), (1, 1, 2)))
    padded = [(START, *said, END) for said in text]
    seen = Counter(
        ngram for said in padded for ngram in zip(said, said[1:], said[2:], strict=False)
    )
    assert [cut.count(n) for n in (1, 2)] == [full.count(n) for n in (1, 2)]
    assert cut.count(3) == sum(count > 1 for count in seen.values())
    assert cut.log_prob(("aa",), "b") == full.log_prob(("aa",), "b")
    with pytest.raises(DataError, match=r"min_counts is .* do not fall"):
        estimate(text, 3, min_counts=(1, 2, 1))


def test_entropy_pruning_leaves_out_what_costs_least() -> None:
    """By brute force: the one n-gram of the highest order whose absence changes the text least."""
    text = sentences(3, 200, PHONES[:4])
    model = estimate(text, 2, PHONES[:4], "witten-bell")
    assert model.counts.tolist()[0] == sum(len(said) + 2 for said in text)
    node_of = {(int(model.parent[n]), int(model.symbol[n])): n for n in range(1, len(model.symbol))}
    losses = {}
    for (history, _), node in node_of.items():
        if history == 0:
            continue
        keep = np.ones(len(model.symbol), bool)
        keep[node] = False
        without = _kept(model, keep)
        name = model.symbols[history - 1]
        losses[node] = model.counts[history] * sum(
            math.exp(was := model.log_prob((name,), w)) * (was - without.log_prob((name,), w))
            for w in (*model.phones, END)
        )
    left_out = set(losses) - {
        node_of[int(one.parent[n]), int(one.symbol[n])]
        for one in [prune(model, len(model.symbol) - 4)]
        for n in range(len(model.symbols) + 1, len(one.symbol))
    }
    assert len(left_out) == 3
    assert max(losses[node] for node in left_out) <= sorted(losses.values())[2] + 1e-6


def test_perplexity_of_numbers_is_that_of_names() -> None:
    text = sentences(1, 40)
    numbers = Sentences.of(text)
    model = estimate(numbers, 3, PHONES)
    assert model == estimate(text, 3, PHONES)
    each = [model.log_prob_of(said) for said in text]
    assert model.perplexity(numbers) == model.perplexity(text)
    assert math.log(model.perplexity(text)) == pytest.approx(
        -sum(each) / sum(len(said) + 1 for said in text)
    )
    for said, total in zip(text, each, strict=True):
        steps = [model.log_prob((START, *said[:n]), w) for n, w in enumerate((*said, END))]
        assert sum(steps) == pytest.approx(total)


def test_little_text_falls_back_to_witten_bell_and_more_does_not() -> None:
    assert "2 Witten-Bell, 3 Witten-Bell; from 15" in estimate(sentences(1, 2), 3).about
    about = estimate(sentences(1, 80), 3).about
    assert "2 modified Kneser-Ney, 3 modified Kneser-Ney; from" in about


def test_a_bigram_by_hand() -> None:
    """Witten–Bell on "a b" and "a": c(a b) = 1, c(a </s>) = 1, two types after a."""
    model = estimate([("a", "b"), ("a",)], 2, smoothing="witten-bell")
    uniform = 1 / 3
    unigram_b = (1 + 3 * uniform) / (5 + 3)  # 5 symbols, 3 types
    assert math.exp(model.log_prob((START, "a"), "b")) == pytest.approx((1 + 2 * unigram_b) / 4)
    assert math.exp(model.log_prob((), "b")) == pytest.approx(unigram_b)


def test_perplexity_is_the_inverse_geometric_mean() -> None:
    uniform = estimate([()], 1, [f"p{n}" for n in range(9)], "witten-bell")
    total = math.exp(uniform.log_prob((), END)) * math.exp(uniform.log_prob((), "p1"))
    assert uniform.perplexity([("p1",)]) == pytest.approx(total ** (-1 / 2))
    text = sentences(1, 80)
    better, worse = estimate(text[:60], 2, PHONES), estimate(text[:60], 1, PHONES)
    assert better.perplexity(text[60:]) < worse.perplexity(text[60:]) < len(PHONES) + 1


@pytest.mark.parametrize("order", [0, 9])
def test_orders_are_one_to_eight(order: int) -> None:
    with pytest.raises(DataError, match=f"order is {order}, expected 1…8"):
        estimate([("aa",)], order)
    assert estimate(sentences(1, 9), 8).order == 8


# ── ARPA ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("order", [1, 2, 5])
def test_a_model_survives_its_file_to_the_last_digit(order: int, tmp_path: Path) -> None:
    model = estimate(sentences(2, 40), order, (*PHONES, "never"))
    write_arpa(tmp_path / "lm.arpa", model)
    assert read_arpa(tmp_path / "lm.arpa") == model
    lines = (tmp_path / "lm.arpa").read_text().splitlines()
    assert lines[0] == f"# {model.about}"
    assert lines[2:5] == ["\\data\\", f"ngram 1={len(PHONES) + 3}", lines[4]]
    assert lines[-1] == "\\end\\"


FOREIGN = """\
\\data\\
ngram 1=5
ngram 2=2

\\1-grams:
-99 <s> -0.5
-1.5\t<unk>
-0.4 </s>
-0.5\ta\t-0.25
-0.6 b

\\2-grams:
-0.1 <s> a
-0.2 a b

\\end\\
"""


def test_a_file_of_others_is_read(tmp_path: Path) -> None:
    (tmp_path / "lm.arpa").write_text(FOREIGN)
    model = read_arpa(tmp_path / "lm.arpa")
    assert (model.order, model.phones, model.about) == (2, ("a", "b"), "")
    assert model.log_prob_of(("a", "b")) / math.log(10) == pytest.approx(-0.1 - 0.2 - 0.4)
    assert model.log_prob_of(("b", "a")) / math.log(10) == pytest.approx(
        (-0.5 - 0.6) + -0.5 + (-0.25 - 0.4)
    )


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        ("-0.2 a b", "-0.2 a", "lm.arpa:14: expected a probability, 2 symbols"),
        ("-0.6 b", "nan b", "lm.arpa:10: probability is nan"),
        ("-0.6 b", "0.6 b", "lm.arpa:10: probability is 0.6"),
        ("-0.6 b", "-inf b", "lm.arpa:10: probability is -inf"),
        ("-0.6 b", "-0.6 a", "lm.arpa:10: a is a duplicate of line 9"),
        ("-0.2 a b", "-0.2 a zz", "lm.arpa:14: 'zz' is not one of the unigrams"),
        ("-0.6 b", "-0.6 b 1e30", "lm.arpa:10: back-off is 1e"),
        ("-0.6 b", "-0,6 b", "lm.arpa:10: expected a number, found '-0,6'"),
        (
            "ngram 2=2",
            "ngram 2=3",
            r"lm.arpa:3: .* states 3 n-grams of order 2, .* has 2",
        ),
        ("\\end\\", "", r"the file ends without \\end\\"),
        ("\\data\\", "hello", "lm.arpa:1: expected an ARPA file, found 'hello'"),
        ("</s>", "c", "no probability of </s>"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, was: str, becomes: str, says: str) -> None:
    (tmp_path / "lm.arpa").write_text(FOREIGN.replace(was, becomes))
    with pytest.raises(DataError, match=says):
        read_arpa(tmp_path / "lm.arpa")


# ── packed ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [40, 400])  # symbols of one byte and of two
def test_a_packed_model_is_the_same_but_for_rounding(size: int) -> None:
    draw = random.Random(size)
    names = [f"w{n}" for n in range(size)]
    weights = [1 / n for n in range(1, size + 1)]
    model = estimate([draw.choices(names, weights, k=8) for _ in range(400)], 3, names)
    packed, streams = pack(model)
    result = unpack(packed, streams, "a model")
    for key in ("order", "symbols", "about"):
        assert getattr(result, key) == getattr(model, key)
    assert np.array_equal(result.children, model.children)
    assert np.array_equal(result.symbol, model.symbol)
    for key in ("log10_prob", "log10_backoff"):
        ours, theirs = getattr(result, key), getattr(model, key)
        assert ours == pytest.approx(theirs, abs=STEP / 2 + 1e-6, nan_ok=True)
    smaller = prune_to_size(model, 3000)
    assert 2700 < sum(len(data) for data in pack(smaller)[1].values()) <= 3000


def test_the_packed_n_grams_of_others_keep_their_values(tmp_path: Path) -> None:
    lacking = FOREIGN.replace("ngram 2=2", "ngram 2=2\nngram 3=1").replace(
        "\\end", "\\3-grams:\n-0.3 b b a\n\n\\end"
    )
    (tmp_path / "lm.arpa").write_text(lacking.replace("-0.2 a b", "-0.2 a b -0.125"))
    model = read_arpa(tmp_path / "lm.arpa")
    result = unpack(*pack(model), "a model")
    assert [result.count(n) for n in (1, 2, 3)] == [5, 2, 1]
    for history, log10 in ((("b", "b"), -0.3), (("a", "b"), -0.125 - 0.5), (("b", "a"), -0.75)):
        for one in (model, result):
            assert one.log_prob(history, "a") == pytest.approx(log10 * math.log(10))


# ── graph ────────────────────────────────────────────────────────────────────────────────────


def walk(found: Graph, labels: list[int]) -> float:
    """Log-probability of a sentence along the arcs."""
    state, total = found.start, 0.0
    for label in labels:
        while True:
            arcs = found.arcs[slice(*found.states["first_arc"][state : state + 2])]
            (arc,) = arcs[arcs["label"] == label].tolist() or [None]
            if arc is not None:
                break
            total += found.states["backoff"][state]
            state = found.states["lower"][state]
        _, log_prob, state = arc
        total += log_prob
    return float(total + found.states["end"][state])


@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_the_graph_gives_every_sentence_its_probability(order: int) -> None:
    text = sentences(order, 50)
    model = estimate(text[:40], order, PHONES)
    result = graph_of(model, PHONES)
    for said in [*text, (), ("sh",) * 7]:
        labels = [PHONES.index(phone) + 1 for phone in said]
        assert walk(result, labels) == pytest.approx(model.log_prob_of(said), rel=1e-6)
    for low, high in itertools.pairwise(result.states["first_arc"]):
        assert np.all(np.diff(result.arcs["label"][low:high]) > 0)


def test_the_graph_of_a_pruned_model_backs_off_as_the_model_does(tmp_path: Path) -> None:
    (tmp_path / "lm.arpa").write_text(FOREIGN)
    result = load_graph(tmp_path / "lm.arpa", ("b", "a"))
    model = read_arpa(tmp_path / "lm.arpa")
    for said in itertools.product("ab", repeat=4):
        labels = [{"b": 1, "a": 2}[phone] for phone in said]
        assert walk(result, labels) == pytest.approx(model.log_prob_of(said), rel=1e-6)


def test_without_a_language_model_everything_is_free() -> None:
    assert walk(no_language_model(5), [1, 4, 2]) == 0


def test_other_phones_than_the_recognisers_are_named(tmp_path: Path) -> None:
    write_arpa(tmp_path / "lm.arpa", estimate([("aa", "zz")], 2))
    with pytest.raises(DataError, match=r"lm\.arpa: .*missing b, iy; not in the recogniser zz"):
        load_graph(tmp_path / "lm.arpa", ("aa", "b", "iy"))
    with pytest.raises(DataError, match=r"absent\.arpa: no phone n-gram"):
        load_graph(tmp_path / "absent.arpa", ("aa",))


# ── graph of a model of CMUdict's phones for TIMIT's labels ──────────────────────────────────

TIMIT = phone_set("timit61")
ARPABET = phone_set("arpabet39")
STOPS = ("tcl", "t", "ch", "dcl", "d", "jh", "dx", "bcl", "b", "q", "pau", "h#", "ix", "ih")


@cache
def of_arpabet(order: int) -> tuple[LanguageModel, Graph]:
    """An n-gram of CMUdict's phones, with histories of affricates and stops, and its graph."""
    text = sentences(order, 60, ("t", "ch", "d", "jh", "b", "ih", "s"))
    model = estimate([*text, *sentences(order, 60, ARPABET)], order, ARPABET)
    return model, graph_of(model, TIMIT)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@given(said=st.one_of(*(st.lists(st.sampled_from(labels)) for labels in (TIMIT, STOPS))))
def test_labels_cost_what_the_phones_cost_that_they_are_scored_as(
    order: int, said: list[str]
) -> None:
    model, result = of_arpabet(order)
    phones, _ = protocol("arpabet").apply(said, "hypothesis")
    labels = [TIMIT.index(label) + 1 for label in said]
    assert walk(result, labels) == pytest.approx(model.log_prob_of(phones), rel=1e-6)


@pytest.mark.parametrize(
    ("said", "phones"),
    [
        ("h# tcl t iy h#", "t iy"),
        ("tcl iy", "t iy"),
        ("tcl", "t"),
        ("tcl ch iy", "ch iy"),
        ("dcl jh iy", "jh iy"),
        ("dcl ch iy", "d ch iy"),
        ("tcl tcl t", "t t"),
        ("tcl t t", "t t"),
        ("tcl q t", "t t"),
        ("tcl d", "t d"),
        ("kcl epi k", "k k"),
        ("q pau epi", ""),
        ("bcl b dx", "b t"),
    ],
)
def test_closures_wait_for_their_release(said: str, phones: str) -> None:
    model, result = of_arpabet(3)
    labels = [TIMIT.index(label) + 1 for label in said.split()]
    assert walk(result, labels) == pytest.approx(model.log_prob_of(phones.split()), rel=1e-6)


def test_a_composed_graph_is_one_for_search() -> None:
    model, result = of_arpabet(3)
    arcs, label = list(itertools.pairwise(result.states["first_arc"])), result.arcs["label"]
    assert label[slice(*arcs[0])].tolist() == list(range(1, len(TIMIT) + 1))
    assert all(np.all(np.diff(label[low:high]) > 0) for low, high in arcs)
    assert np.isfinite(result.arcs["log_prob"]).all()
    assert all(np.isfinite(result.states[name]).all() for name in ("backoff", "end"))
    assert not result.states_tell_labels
    assert graph_of(model, ARPABET).states_tell_labels
    assert no_language_model(62).states_tell_labels


def test_a_recogniser_may_know_fewer_labels_than_fold() -> None:
    model, _ = of_arpabet(2)
    labels = ("t", "tcl", "AH0", "sil")
    result = graph_of(model, labels)
    assert walk(result, [2, 3, 4, 2, 1]) == pytest.approx(model.log_prob_of(("t", "ah", "t")))


def test_labels_that_fold_to_no_phone_of_the_model_are_named() -> None:
    model, _ = of_arpabet(2)
    with pytest.raises(DataError, match="missing h#, æ; not in the recogniser aa, ae"):
        graph_of(model, ("h#", "æ"))
    with pytest.raises(DataError, match="missing bcl; not in the recogniser aa"):
        graph_of(estimate([("aa", "b")], 2), ("b", "bcl"))


def test_a_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    write_arpa(path, estimate([("aa",)], 1))
    first = load_graph(path, ("aa",))
    assert load_graph(path, ("aa",)) is first
    write_arpa(path, estimate([("aa", "aa")], 1))
    second = load_graph(path, ("aa",))
    assert second.arcs.tobytes() != first.arcs.tobytes()
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    write_arpa(path, estimate([("aa", "aa", "aa")], 1))
    os.utime(path, ns=times)  # as a copy that keeps times, of another file
    third = load_graph(path, ("aa",))
    assert third.arcs.tobytes() != second.arcs.tobytes()


# ── command ──────────────────────────────────────────────────────────────────────────────────


def write_manifest(path: Path, text: Text) -> None:
    write_jsonl(path, (Utterance(f"u{n}", "", 1.0, "s", p) for n, p in enumerate(text)))


def test_the_command_estimates_and_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = sentences(5, 60)
    write_manifest(tmp_path / "train.jsonl", text[:50])
    write_manifest(tmp_path / "dev.jsonl", text[50:])
    Vocabulary([*PHONES, "zh"]).save(tmp_path / "vocabulary.txt")
    train, dev, output = (str(tmp_path / name) for name in ("train.jsonl", "dev.jsonl", "a.arpa"))
    vocabulary = str(tmp_path / "vocabulary.txt")
    told = [train, "--order", "2", "--vocabulary", vocabulary, "--output", output]
    assert ngram.main([*told, "--perplexity", train, dev]) == 0
    expected = estimate(text[:50], 2, (*PHONES, "zh"))
    assert read_arpa(output) == expected
    first, *perplexities = capsys.readouterr().out.splitlines()
    assert f"{len(PHONES) + 3} 1-grams" in first
    assert expected.about in first
    assert perplexities == [
        f"perplexity {expected.perplexity(part):7.2f}  {path}"
        for path, part in ((train, text[:50]), (dev, text[50:]))
    ]


@pytest.mark.skipif(not STREAMING.exists(), reason="this installation comes without a model")
def test_the_command_extracts_the_n_gram_of_a_model_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Vocabulary(TIMIT).save(tmp_path / "timit.txt")
    Vocabulary(["æ"]).save(tmp_path / "other.txt")
    told = ["--checkpoint", str(STREAMING), "--output", str(tmp_path / "lm.arpa"), "--vocabulary"]
    assert ngram.main([*told, str(tmp_path / "other.txt")]) == 1
    refused = capsys.readouterr().err
    assert f"error: {STREAMING}: the language model has other phones" in refused
    assert not (tmp_path / "lm.arpa").exists()
    assert ngram.main([*told, str(tmp_path / "timit.txt")]) == 0
    assert read_arpa(tmp_path / "lm.arpa") == checkpoint.load(STREAMING).language_model
    load_graph(tmp_path / "lm.arpa", TIMIT)


def test_the_command_needs_manifests_or_a_model_file(capsys: pytest.CaptureFixture[str]) -> None:
    for sources in ([], ["train.jsonl", "--checkpoint", "a.safetensors"]):
        with pytest.raises(SystemExit, match="2"):
            ngram.main([*sources, "--output", "lm.arpa"])
        assert "manifests or --checkpoint FILE" in capsys.readouterr().err


def test_the_command_refuses_phones_that_the_vocabulary_misses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_manifest(tmp_path / "train.jsonl", [("aa", "zh")])
    Vocabulary(["aa"]).save(tmp_path / "vocabulary.txt")
    told = [str(tmp_path / "train.jsonl"), "--vocabulary", str(tmp_path / "vocabulary.txt")]
    assert ngram.main([*told, "--output", str(tmp_path / "lm.arpa")]) == 1
    assert "vocabulary.txt: misses phones of the manifests: zh" in capsys.readouterr().err
    assert not (tmp_path / "lm.arpa").exists()


def test_an_unknown_phone_has_no_probability() -> None:
    model: LanguageModel = estimate([("aa", "iy")], 2)
    with pytest.raises(DataError, match="phone 'iyy' is not in the language model; did you mean"):
        model.log_prob(("aa",), "iyy")
