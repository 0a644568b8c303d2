"""Measures of a network on labelled sentences, the cell they single out, and the memory's reach."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from asr.explanation import memory
from asr.explanation.activations import Activations, Floats, Layer, activations_of, frames_of
from asr.explanation.memory import AtBoundaries, Reach, Recall
from asr.explanation.network import Network, Sentence
from asr.records import Segment
from asr.scoring.analysis import phone_classes

AROUND_S = 0.12  # on each side of a boundary
REACH_S = 1.5  # the longest lag measured, where the sentence has room
MOMENTS, DIRECTIONS = 12, 8  # steps t, and random directions of y_t, that its mean is taken over
FEWEST_PHONES = 100  # for a statement on recall


@dataclass(frozen=True)
class Study:
    """Gates at boundaries by layer and gate, and recall by cell, on labelled sentences.

    `owners` are the layer and the cell behind each column of `recall` and of `states` (B, H), all
    of the forward directions; `previous` B are the classes of the phones before.
    """

    sentences: int
    boundaries: dict[str, dict[str, AtBoundaries]]
    recall: Recall | None
    owners: tuple[tuple[int, int], ...]
    states: Floats
    previous: tuple[str, ...]
    since_s: float  # from the end of the phone before, the median


@dataclass(frozen=True)
class Choice:
    """The cell that the page looks at, and whether it was chosen for its recall."""

    layer: Layer
    cell: int
    by_recall: bool

    def __str__(self) -> str:
        return f"cell {self.cell + 1} of {self.layer.name}"


def measure(network: Network, sentences: Sequence[Sentence]) -> Study | None:
    """Measure a network on labelled sentences; None where there are none."""
    series: dict[str, dict[str, list[Floats]]] = {}
    boundaries, since = list[list[int]](), list[float]()
    before, after, kept = list[Floats](), list[Floats](), list[Floats]()
    previous, current = list[str](), list[str]()
    owners: tuple[tuple[int, int], ...] = ()
    for activations in activations_of(network, sentences):
        boundaries.append(activations.boundaries())
        for layer in activations.layers:
            for name, gate in layer.shown_gates.items():
                series.setdefault(layer.name, {}).setdefault(name, []).append(gate.mean(axis=1))
        forward = [layer for layer in activations.layers if not layer.backward]
        states = np.concatenate([layer.state for layer in forward], axis=1)
        keep = [layer.keep for layer in forward if layer.keep is not None]
        owners = tuple((one.depth, cell) for one in forward for cell in range(one.state.shape[1]))
        for first, last, second, step in activations.transitions():
            before.append(states[last])
            after.append(states[step])
            if keep:
                passed = np.concatenate([gate[last + 1 : step + 1] for gate in keep], axis=1)
                kept.append(passed.prod(axis=0))
            since.append(float(activations.times_s[step]) - first.end_s)
            previous.append(_class(first))
            current.append(_class(second))
    if not boundaries:
        return None
    window = max(2, round(AROUND_S / network.step_s))
    at_boundaries = {
        layer: {
            name: measured
            for name, courses in gates.items()
            if (measured := memory.at_boundaries(courses, boundaries, window))
        }
        for layer, gates in series.items()
    }
    recall = None
    if len(previous) >= FEWEST_PHONES and len(set(previous)) > 1:
        alike = np.maximum(memory.rank_correlation(np.stack(before), np.stack(after)), 0)
        held = np.stack(kept).mean(axis=0) if kept else alike
        recall = memory.recall(np.stack(after), held, previous, current)
    return Study(
        len(boundaries),
        {layer: gates for layer, gates in at_boundaries.items() if gates},
        recall,
        owners,
        np.stack(after) if after else np.zeros((0, len(owners)), np.float32),
        tuple(previous),
        float(np.median(since)) if since else 0.0,
    )


def _class(segment: Segment) -> str:
    """The manner of articulation, or the phone itself where the tables do not have it."""
    return phone_classes().get(segment.phone, (segment.phone, ""))[0]


def choose(activations: Activations, study: Study | None) -> Choice:
    """The cell with the highest recall if above chance, else the strongest of the top layer."""
    if study is not None and study.recall is not None:
        best = study.recall.best
        if study.recall.score[best] > study.recall.chance:
            depth, cell = study.owners[best]
            forwards = (one for one in activations.layers if not one.backward)
            return Choice(next(one for one in forwards if one.depth == depth), cell, True)
    return Choice(activations.top, int(activations.top.ranking[0]), False)


def clearest_transition(
    activations: Activations, layer: Layer, cell: int
) -> tuple[Segment, int, Segment, int] | None:
    """The transition of this sentence across which the state stays farthest from its mean."""
    distance = layer.state[:, cell] - layer.state[:, cell].mean()
    candidates = [
        (float(distance[last] * distance[step]), (first, last, second, step))
        for first, last, second, step in activations.transitions()
        if second.end_s - first.start_s < 0.5
    ]
    held, transition = max(candidates, key=lambda one: one[0], default=(0.0, None))
    return transition if held > 0 else None


def measure_reach(network: Network, sentence: Sentence, most_s: float) -> Reach:
    """The reach of a network's memory in the first `most_s` seconds of a sentence."""
    most = round(most_s / network.step_s) * network.config.subsampling
    frames = frames_of(network, [sentence])[0][0, :most]
    steps = -(-len(frames) // network.config.subsampling)
    both = network.config.bidirectional
    longest = min(round(REACH_S / network.step_s), (steps - 1) // (3 if both else 2))
    times = np.linspace(longest, steps - 1 - (longest if both else 0), MOMENTS)
    seed = torch.Generator().manual_seed(0)
    directions = torch.randn(DIRECTIONS, network.recognizer.encoder.output_size, generator=seed)
    moments = sorted({round(float(time)) for time in times})
    lags = range(-longest if both else 0, longest + 1)
    unit = directions / directions.norm(dim=1, keepdim=True)
    stack = network.config.subsampling, network.step_s
    return memory.reach(network.recognizer.encoder, frames, moments, lags, unit, *stack)
