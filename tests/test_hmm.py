"""Laws of the HMM criteria: Viterbi is enumeration, frames have their labels, EM never falls back."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from asr import checkpoint, decode, train, tune, viterbi
from asr.batch import Batch, pad
from asr.checkpoint import Checkpoint
from asr.config import AdamConfig, RunConfig, TrainingConfig, TuneConfig
from asr.corpora import TimitConfig
from asr.criteria import (
    GMM,
    Framewise,
    FramewiseConfig,
    FrameTimes,
    GMMConfig,
    SearchConfig,
    Split,
)
from asr.dataset import Collate, Example
from asr.encoder import EncoderConfig
from asr.features import FeaturesConfig
from asr.language_model import LanguageModel, estimate, graph, write_arpa
from asr.phones import Vocabulary
from asr.recognizer import Recognizer, RecognizerConfig
from asr.records import DataError, Segment, Utterance, write_jsonl

PHONES = ("aa", "iy", "m", "s")
TIMES = FrameTimes(5.0, 10.0)  # frame t is that of samples 10 t … 10 (t + 1)
WIDE = {"beam": 10_000, "threshold": math.inf}


def language_model(size: int, order: int) -> LanguageModel:
    phones = PHONES[: size - 1]
    draw = np.random.default_rng(size)
    text = [tuple(draw.choice(phones, draw.integers(1, 7))) for _ in range(40)]
    return estimate(text, order, phones)


# ── enumeration ──────────────────────────────────────────────────────────────────────────────


def chain(label: int, states: int, floor: int) -> list[tuple[int, bool]]:
    """Column and whether it may be stayed in, of each position of a label."""
    if label == 0:
        return [(0, True)]
    return [
        (1 + (label - 1) * states + position // floor, position % floor == floor - 1)
        for position in range(states * floor)
    ]


def ways(frames: int, size: int, states: int, floor: int) -> Iterator[list[tuple[int, int, int]]]:
    """Every path of T frames as (label, position, whether it begins there): all state paths."""
    nodes = [(v, p) for v in range(size) for p in range(len(chain(v, states, floor)))]
    for path in itertools.product(nodes, repeat=frames):
        for begins in itertools.product((False, True), repeat=frames - 1):
            if legal(path, (True, *begins), states, floor):
                yield [(v, p, b) for (v, p), b in zip(path, (True, *begins), strict=True)]


def legal(path, begins, states: int, floor: int) -> bool:  # type: ignore[no-untyped-def]
    for t, ((label, position), begin) in enumerate(zip(path, begins, strict=True)):
        if t == 0:
            if position:
                return False
            continue
        before, last = path[t - 1]
        if begin:
            done = last == len(chain(before, states, floor)) - 1
            if position or not done or (label == before == 0):
                return False
        elif label != before:
            return False
        elif position == last:
            if not chain(label, states, floor)[position][1]:
                return False
        elif position != last + 1:
            return False
    label, position = path[-1]
    return position == len(chain(label, states, floor)) - 1


def enumerated(
    scores: Tensor, states: int, floor: int, search: SearchConfig, model: LanguageModel | None
) -> dict[tuple[int, ...], float]:
    """The score of the best path of every label sequence."""
    best: dict[tuple[int, ...], float] = {}
    size = 1 + (scores.shape[1] - 1) // states
    for way in ways(len(scores), size, states, floor):
        labels = tuple(v for v, _, begins in way if begins and v)
        total = sum(
            float(scores[t, chain(v, states, floor)[p][0]]) for t, (v, p, _) in enumerate(way)
        )
        best[labels] = max(best.get(labels, -math.inf), total)
    for labels in best:
        best[labels] += search.bonus * len(labels)
        if model is not None:
            phones = [PHONES[label - 1] for label in labels]
            best[labels] += search.lm_weight * model.log_prob_of(phones)
    return best


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("frames", "size", "states", "floor"), [(1, 3, 1, 1), (4, 3, 1, 1), (5, 2, 2, 1), (5, 2, 1, 2)]
)
def test_viterbi_is_enumeration(
    frames: int, size: int, states: int, floor: int, order: int
) -> None:
    model = language_model(size, order) if order else None
    for seed, bonus in itertools.product(range(3), (0.0, 1.5)):
        generator = torch.Generator().manual_seed(seed)
        scores = 3 * torch.randn(frames, 1 + (size - 1) * states, generator=generator)
        if seed == 2:
            scores[:, 0] = -math.inf  # as of a corpus without frames outside all phones
        config = SearchConfig(**WIDE, lm_weight=0.7, bonus=bonus)  # type: ignore[arg-type]
        expected = enumerated(scores, states, floor, config, model)
        best = max(expected, key=lambda labels: expected[labels])
        labels, starts, score = found(scores, size, states, floor, config, model)
        if expected[best] > -math.inf:
            assert tuple(label for label in labels if label) == best
            assert score == pytest.approx(expected[best], abs=1e-4)
            assert starts == sorted(set(starts))
            assert starts[0] == 0


def found(
    scores: Tensor,
    size: int,
    states: int,
    floor: int,
    config: SearchConfig,
    model: LanguageModel | None,
) -> tuple[list[int], list[int], float]:
    criterion = Framewise(FramewiseConfig(states=states), 1, size, TIMES)
    del criterion
    from asr.language_model import no_language_model

    arcs = no_language_model(size) if model is None else graph(model, PHONES[: size - 1])
    labels, starts, score = viterbi.search(
        scores.numpy(),
        arcs,
        states,
        floor,
        config.lm_weight,
        config.bonus,
        config.beam,
        config.threshold,
    )
    return labels.tolist(), starts.tolist(), score


@pytest.mark.parametrize(("states", "floor"), [(1, 1), (2, 1), (1, 2), (3, 1)])
def test_alignment_is_enumeration(states: int, floor: int) -> None:
    frames, size = (6, 2) if states * floor > 1 else (5, 3)
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        scores = 3 * torch.randn(frames, 1 + (size - 1) * states, generator=generator)
        expected = enumerated(scores, states, floor, SearchConfig(), None)
        for labels, best in expected.items():
            columns, places, score = viterbi.align(
                scores.numpy(), np.array(labels, dtype=np.int64), states, floor
            )
            assert score == pytest.approx(best, abs=1e-4)
            along = sum(float(scores[t, column]) for t, column in enumerate(columns))
            assert along == pytest.approx(best, abs=1e-4)
            order = [place for place, _ in itertools.groupby(places) if place >= 0]
            assert order == list(range(len(labels)))
        columns, _, score = viterbi.align(
            scores[:1].numpy(), np.ones(2, dtype=np.int64), states, floor
        )
        assert score == -math.inf
