"""Laws of CTC's search: full width is exhaustive, compiled is plain, batch mates change nothing."""

import itertools
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from asr.architecture import EncoderConfig, RecognizerConfig
from asr.batch import Batch, pad
from asr.criteria import CTC, CTCConfig
from asr.criteria import Path as Found
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.phones import Vocabulary, fold_to_arpabet, phone_set
from asr.recognizer import Recognizer
from asr.records import Hypothesis, read_jsonl, write_jsonl
from asr.search import SearchConfig
from asr.search.arpa import write_arpa
from asr.search.graph import graph_of
from asr.search.ngram import END, START, LanguageModel, estimate

PHONES = ("aa", "b", "iy", "m", "s", "t")
WIDE = {"beam": 200, "threshold": math.inf}


def log_probs_of(seed: int, frames: int, size: int, sharpness: float = 1.0) -> Tensor:
    """(1, T, V), from nearly uniform to nearly certain."""
    generator = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(1, frames, size, generator=generator)).log_softmax(dim=2)


def language_model(size: int, order: int = 2) -> LanguageModel:
    phones = PHONES[: size - 1]
    draw = np.random.default_rng(size)
    text = [tuple(draw.choice(phones, draw.integers(1, 7))) for _ in range(40)]
    return estimate(text, order, phones)


def search(log_probs: Tensor, config: SearchConfig, model: LanguageModel | None) -> list[Found]:
    size = log_probs.shape[2]
    criterion = CTC(CTCConfig(), 1, size)
    result = None if model is None else graph_of(model, PHONES[: size - 1])
    (paths,) = criterion.search(log_probs, torch.tensor([log_probs.shape[1]]), config, result)
    return paths


# ── exhaustive search ────────────────────────────────────────────────────────────────────────


def collapsed(alignment: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(label for label, _ in itertools.groupby(alignment) if label)


def extra(labels: tuple[int, ...], config: SearchConfig, model: LanguageModel | None) -> float:
    """What the bonus and the language model add to labels, in nats."""
    total = config.bonus * len(labels)
    if model is not None:
        total += config.lm_weight * model.log_prob_of([PHONES[label - 1] for label in labels])
    return total


def all_scores(
    log_probs: Tensor, config: SearchConfig, model: LanguageModel | None
) -> dict[tuple[int, ...], float]:
    """log Σ over all alignments of every label sequence that T frames can hold."""
    (frames,) = log_probs.double()
    masses: dict[tuple[int, ...], float] = defaultdict(float)
    for alignment in itertools.product(range(frames.shape[1]), repeat=len(frames)):
        score = sum(frames[t, v].item() for t, v in enumerate(alignment))
        masses[collapsed(alignment)] += math.exp(score - config.blank_penalty * alignment.count(0))
    return {labels: math.log(m) + extra(labels, config, model) for labels, m in masses.items()}


@pytest.mark.parametrize("values", [{}, {"bonus": 1.5}, {"blank_penalty": 2.0}])
@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize(("frames", "size"), [(1, 3), (3, 3), (5, 3), (5, 2), (4, 4)])
def test_a_full_beam_is_an_exhaustive_search(
    frames: int, size: int, order: int, values: dict[str, float]
) -> None:
    model = language_model(size, order) if order else None
    config = SearchConfig(**WIDE, n_best=200, lm_weight=0.7, **values)  # type: ignore[arg-type]
    for seed in range(3):
        log_probs = log_probs_of(seed, frames, size)
        expected = all_scores(log_probs, config, model)
        result = search(log_probs, config, model)
        assert {path.labels for path in result} == set(expected)  # complete
        assert len(result) == len(expected)  # and distinct
        assert [p.score for p in result] == sorted((p.score for p in result), reverse=True)
        for path in result:
            assert path.score == pytest.approx(expected[path.labels], abs=1e-5)
        assert result[0].labels == max(expected, key=expected.__getitem__)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_full_beam_is_exhaustive_with_a_model_of_the_phones_that_labels_fold_to(
    order: int,
) -> None:
    labels = ("t", "tcl", "ch", "q")
    arpabet = phone_set("arpabet39")
    draw = np.random.default_rng(order)
    text = [tuple(draw.choice(("t", "ch", "aa"), draw.integers(1, 7))) for _ in range(40)]
    model = estimate(text, order, arpabet)
    config = SearchConfig(beam=500, threshold=math.inf, n_best=500, lm_weight=0.7, bonus=0.5)
    log_probs = log_probs_of(order, 4, 5)
    masses = all_scores(log_probs, config, None)
    folded = {result: fold_to_arpabet()([labels[v - 1] for v in result]) for result in masses}
    paths = CTC(CTCConfig(), 1, 5).search(
        log_probs, torch.tensor([4]), config, graph_of(model, labels)
    )
    assert {path.labels for path in paths[0]} == set(masses)
    for path in paths[0]:
        expected = masses[path.labels] + 0.7 * model.log_prob_of(folded[path.labels])
        assert path.score == pytest.approx(expected, abs=1e-5)


def test_greedy_and_beam_differ_where_many_alignments_agree() -> None:
    """Graves et al. (2006), figure 2: the best alignment is all blank, the best labels are "1"."""
    log_probs = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]]).log()
    greedy, beam = (search(log_probs, SearchConfig(beam=beam), None)[0] for beam in (1, 10))
    assert (greedy.labels, beam.labels) == ((), (1,))
    assert greedy.score == pytest.approx(math.log(0.36))
    assert beam.score == pytest.approx(math.log(0.64))


def test_scores_are_at_most_and_nearly_the_log_probability_of_the_labels() -> None:
    for sharpness, lacking in ((3.0, 0.5), (12.0, 1e-3)):
        log_probs = log_probs_of(1, 30, 7, sharpness)
        for path in search(log_probs, SearchConfig(beam=100, n_best=5), None):
            loss = torch.nn.functional.ctc_loss(
                log_probs.transpose(0, 1),
                torch.tensor([path.labels]),
                torch.tensor([30]),
                torch.tensor([len(path.labels)]),
                reduction="sum",
            )
            assert -lacking < path.score + loss.item() < 1e-4


# ── the plain oracle ─────────────────────────────────────────────────────────────────────────


def plain_search(
    log_probs: Tensor, config: SearchConfig, model: LanguageModel | None
) -> list[tuple[tuple[int, ...], float]]:
    """Prefix beam search as Hannun et al. (2014) write it, in a dictionary, with logarithms."""
    (frames,) = log_probs.double().numpy()
    beam = {(): (0.0, -math.inf)}  # prefix: log mass of alignments that end in blank, in a label
    for frame in frames:
        grown: dict[tuple[int, ...], tuple[float, float]] = defaultdict(lambda: (-math.inf,) * 2)

        def add(prefix: tuple[int, ...], blank: float, label: float) -> None:
            before = grown[prefix]  # noqa: B023
            grown[prefix] = np.logaddexp(before[0], blank), np.logaddexp(before[1], label)  # noqa: B023

        for prefix, (blank, label) in beam.items():
            both = np.logaddexp(blank, label)
            add(prefix, both + frame[0] - config.blank_penalty, -math.inf)
            if prefix:
                add(prefix, -math.inf, label + frame[prefix[-1]])
            for v in range(1, len(frame)):
                longer = (*prefix, v)
                mass = blank if prefix and prefix[-1] == v else both
                add(longer, -math.inf, mass + frame[v] + gain(longer, config, model))
        totals = {prefix: np.logaddexp(*masses) for prefix, masses in grown.items()}
        kept = sorted(totals, key=lambda prefix: -totals[prefix])[: config.beam]
        beam = {p: grown[p] for p in kept if totals[p] >= totals[kept[0]] - config.threshold}
    scored = []
    for prefix, masses in beam.items():
        ending = 0.0
        if model is not None:
            history = (START, *(PHONES[label - 1] for label in prefix))
            ending = config.lm_weight * model.log_prob(history, END)
        scored.append((prefix, float(np.logaddexp(*masses)) + ending))
    return sorted(scored, key=lambda one: -one[1])[: config.n_best]


def gain(prefix: tuple[int, ...], config: SearchConfig, model: LanguageModel | None) -> float:
    if model is None:
        return config.bonus
    *history, phone = (PHONES[label - 1] for label in prefix)
    return config.bonus + config.lm_weight * model.log_prob((START, *history), phone)


@pytest.mark.parametrize("order", [0, 1, 2, 4])
@pytest.mark.parametrize(("beam", "threshold"), [(2, math.inf), (3, 2.0), (8, 5.0), (25, 15.0)])
@pytest.mark.parametrize("sharpness", [0.5, 2.0, 6.0])
def test_the_compiled_search_is_the_plain_one(
    beam: int, threshold: float, sharpness: float, order: int
) -> None:
    model = language_model(7, order) if order else None
    config = SearchConfig(
        beam=beam,
        n_best=beam,
        threshold=threshold,
        lm_weight=0.8,
        bonus=0.5,
        blank_penalty=0.3,
    )
    for seed in range(3):
        log_probs = log_probs_of(seed, 25, 7, sharpness)
        expected = plain_search(log_probs, config, model)
        result = search(log_probs, config, model)
        assert [path.labels for path in result] == [labels for labels, _ in expected]
        scores = [score for _, score in expected]
        assert [path.score for path in result] == pytest.approx(scores, abs=1e-4)


def test_a_prefix_that_was_dropped_and_found_again_is_one_prefix() -> None:
    """Its extensions stay in the beam, and must not be listed twice."""
    config = SearchConfig(beam=4, n_best=4, threshold=math.inf)
    for seed in range(200):
        log_probs = log_probs_of(seed, 12, 3, sharpness=1.5)
        result = search(log_probs, config, None)
        assert len({path.labels for path in result}) == len(result)
        expected = plain_search(log_probs, config, None)
        assert [path.labels for path in result] == [labels for labels, _ in expected]


# ── times and confidences ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("beam", [1, 10])
def test_phones_are_where_they_are_most_probable(beam: int) -> None:
    probs = torch.full((1, 8, 3), 0.01)
    alignment = [(0, 0.9), (1, 0.6), (1, 0.8), (0, 0.7), (1, 0.5), (2, 0.9), (2, 0.9), (0, 0.6)]
    for t, (label, prob) in enumerate(alignment):
        probs[0, t, label] = prob
    (path,) = search(probs.log(), SearchConfig(beam=beam), None)
    assert path.labels == (1, 1, 2)
    assert path.frames == (2, 4, 5)
    assert path.confidences == pytest.approx((0.8, 0.5, 0.9))


@pytest.mark.parametrize("beam", [1, 20])
def test_times_rise_and_confidences_are_probabilities_there(beam: int) -> None:
    for seed in range(20):
        log_probs = log_probs_of(seed, 20, 5, sharpness=3)
        config = SearchConfig(beam=beam, n_best=min(beam, 5), blank_penalty=0.5)
        for path in search(log_probs, config, None):
            assert path.frames is not None
            assert path.confidences is not None
            assert len(path.labels) == len(path.frames) == len(path.confidences)
            assert all(a < b for a, b in itertools.pairwise(path.frames))
            assert set(path.frames) <= set(range(20))
            there = [
                log_probs[0, t, v].exp().item()
                for t, v in zip(path.frames, path.labels, strict=True)
            ]
            assert path.confidences == pytest.approx(there)


@pytest.mark.parametrize("subsampling", [1, 2])
@pytest.mark.parametrize(
    "framing",
    [{}, {"snip_edges": False}, {"family": "librosa", "energy": False}],
    ids=["whole windows", "all of the signal", "librosa"],
)
def test_a_click_is_heard_when_it_is_made(framing: dict[str, object], subsampling: int) -> None:
    config = RecognizerConfig(
        FeaturesConfig(bins=20, deltas=0, **framing),  # type: ignore[arg-type]
        EncoderConfig(hidden=2, layers=1, subsampling=subsampling),
        CTCConfig(),
    )
    recognizer = Recognizer(config, Vocabulary(PHONES)).eval()
    for sample in range(3000, 6000, 237):
        waveform = 1e-4 * torch.randn(1, 9000, generator=torch.Generator().manual_seed(sample))
        waveform[0, sample] = 0.9
        frames, lengths = recognizer.features(Batch.of([waveform[0]]))
        loud = frames[0, : int(lengths)].mean(dim=1).unfold(0, subsampling, subsampling).sum(dim=1)
        half_a_step_s = 0.01 * subsampling / 2
        heard_s = recognizer.config.time_s(int(loud.argmax()))
        assert abs(heard_s - sample / 16_000) <= half_a_step_s + 1e-4


# ── batches ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("beam", [1, 12])
def test_batch_mates_and_padding_change_nothing(beam: int, threads: int) -> None:
    model = language_model(7)
    config = SearchConfig(beam=beam, n_best=min(beam, 3), **({"bonus": 0.4} if beam > 1 else {}))
    criterion, compiled = CTC(CTCConfig(), 1, 7), graph_of(model, PHONES)
    alone = [log_probs_of(seed, 3 * seed, 7, sharpness=2)[0] for seed in range(6)]
    batch, lengths = pad(alone)
    batch = torch.nn.functional.pad(batch, (0, 0, 0, 9), value=-1.0)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        together = criterion.search(batch, lengths, config, compiled)
    finally:
        torch.set_num_threads(before)
    for one, paths in zip(alone, together, strict=True):
        (expected,) = criterion.search(one.unsqueeze(0), torch.tensor([len(one)]), config, compiled)
        assert paths == expected
    assert together[0][0].labels == ()  # no frames at all


def test_decode_is_search_of_its_own_emissions() -> None:
    torch.manual_seed(0)
    criterion = CTC(CTCConfig(), 6, 5)
    encoded, lengths = torch.randn(2, 9, 6), torch.tensor([9, 4])
    config = SearchConfig(beam=10, n_best=3)
    emissions = criterion.emissions(encoded)
    torch.testing.assert_close(emissions.exp().sum(dim=2), torch.ones(2, 9))
    assert criterion.decode(encoded, lengths, config) == criterion.search(
        emissions, lengths, config
    )


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(DataError, match="NaN"):
        search(torch.full((1, 3, 4), math.nan), SearchConfig(), None)


# ── guards ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("target", "frames", "says"),
    [
        ((1, 0), 9, "bad: label 0 in the targets, expected 1…3"),
        ((1, 4), 9, "bad: label 4 in the targets, expected 1…3"),
        ((-1, 2), 9, "bad: label -1 in the targets, expected 1…3"),
        ((1, 1), 2, r"bad \(needs 3 frames, has 2\)"),
        ((), 0, r"bad \(needs 1 frames, has 0\)"),
    ],
)
def test_a_loss_that_would_mean_nothing_is_refused(
    target: tuple[int, ...], frames: int, says: str
) -> None:
    targets, target_lengths = pad([torch.tensor([1, 2, 3]), torch.tensor(target).long()])
    batch = Batch(torch.zeros(2, 1), torch.ones(2), targets, target_lengths, None, ("good", "bad"))
    criterion = CTC(CTCConfig(), 2, 4)
    with pytest.raises(DataError, match=says) as error:
        criterion.loss(torch.zeros(2, 9, 2), torch.tensor([9, frames]), batch)
    assert "good" not in str(error.value)


@pytest.mark.parametrize("target", [(1,), (1, 1), (1, 2, 1), ()])
def test_a_loss_is_finite_from_the_fewest_frames_on(target: tuple[int, ...]) -> None:
    fewest = max(1, len(target) + sum(a == b for a, b in itertools.pairwise(target)))
    targets, target_lengths = pad([torch.tensor(target).long()])
    batch = Batch(torch.zeros(1, 1), torch.ones(1), targets, target_lengths, None, ("a",))
    criterion = CTC(CTCConfig(), 2, 4)
    loss = criterion.loss(torch.zeros(1, fewest, 2), torch.tensor([fewest]), batch)
    assert loss.isfinite().all()
    assert float(loss.detach()) > 0


# ── configuration and files ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"beam": 0}, "search.beam is 0, expected at least 1"),
        ({"n_best": 2}, r"search.n_best is 2, expected at most 1 \(search.beam\)"),
        ({"threshold": 0.0}, "search.threshold is 0.0, expected more than 0"),
        ({"beam": 9, "lm_weight": -1.0}, "search.lm_weight is -1.0, expected at least 0"),
        ({"bonus": 1.0}, "search.bonus is 1.0, .* search=beam"),
        ({"language_model": "lm.arpa"}, "search.language_model is 'lm.arpa', .* search=beam"),
    ],
)
def test_contradictions_are_refused(values: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SearchConfig(**values)  # type: ignore[arg-type]


def tiny_recognizer() -> Recognizer:
    torch.manual_seed(0)
    config = RecognizerConfig(
        FeaturesConfig(bins=20, deltas=0),
        EncoderConfig(hidden=8, layers=1),
        CTCConfig(),
    )
    return Recognizer(config, Vocabulary(PHONES)).eval()


def test_a_language_model_reaches_the_search(tmp_path: Path) -> None:
    recognizer = tiny_recognizer()
    encoded = recognizer.encode_batch(Batch.of([torch.randn(8000)]))
    text = [("m", "aa", "m", "aa"), ("m", "aa"), ("s",)]
    write_arpa(tmp_path / "lm.arpa", estimate(text, 2, PHONES))
    config = SearchConfig(beam=20, language_model=str(tmp_path / "lm.arpa"), lm_weight=30.0)
    ((heavy,),) = recognizer.search(*encoded, ["a"], config)
    ((light,),) = recognizer.search(*encoded, ["a"], SearchConfig(beam=20))
    assert heavy.phones != light.phones
    write_arpa(tmp_path / "lm.arpa", estimate([("zz",)], 2, PHONES[1:]))
    with pytest.raises(DataError, match=r"missing aa; not in the recogniser zz"):
        recognizer.search(*encoded, ["a"], config)


def test_times_and_confidences_survive_their_file(tmp_path: Path) -> None:
    recognizer = tiny_recognizer()
    config = SearchConfig(beam=5, n_best=5, blank_penalty=2.0)
    encoded = recognizer.encode_batch(Batch.of([torch.randn(8000)]))
    (result,) = recognizer.search(*encoded, ["a"], config)
    assert result[0].times_s is not None
    assert len(result[0].times_s) == len(result[0].phones) > 0
    assert all(0 <= time_s <= 0.5 for time_s in result[0].times_s)
    write_jsonl(tmp_path / "hyp.jsonl", result[:1])
    assert read_jsonl(tmp_path / "hyp.jsonl", Hypothesis) == result[:1]
