"""All that happens inside a network while it reads a sentence.

Steps are those of the recurrent stack, T' of a sentence; the time of a step is the centre of its
input.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from asr.batch import Batch
from asr.criteria import CTC
from asr.encoder import stack_frames
from asr.explanation.memory import half_lives
from asr.explanation.network import Network, Sentence
from asr.pictures.posteriors import runs
from asr.records import Segment
from asr.search import SearchConfig

Floats = npt.NDArray[np.float32]

GATES = ("forget", "update", "input", "reset", "output")  # from 0 to 1, in the order shown
KEEPS = ("forget", "update")  # the gate whose value is the part of the old state that stays
BATCH = 16  # sentences at once


@dataclass(frozen=True)
class Layer:
    """The course of one direction of one layer: all (T', H), but the output may be narrower."""

    depth: int  # counted from 1
    direction: str  # "forwards", "backwards", or "" where there is only one
    inputs: Floats  # (T', D) from the layer below
    hidden: Floats
    cell: Floats | None
    gates: dict[str, Floats]

    @property
    def state(self) -> Floats:
        """The memory that is handed from step to step: the cell state, or else the output."""
        return self.hidden if self.cell is None else self.cell

    @property
    def backward(self) -> bool:
        return self.direction == "backwards"

    @property
    def keep_gate(self) -> str | None:
        """The name of the gate that decides how much of the old state stays."""
        return next((name for name in KEEPS if name in self.gates), None)

    @property
    def keep(self) -> Floats | None:
        """The values of that gate."""
        return None if self.keep_gate is None else self.gates[self.keep_gate]

    @property
    def shown_gates(self) -> dict[str, Floats]:
        return {name: self.gates[name] for name in GATES if name in self.gates}

    @cached_property
    def half_lives(self) -> npt.NDArray[np.float64] | None:
        """Of each cell, in steps: (H,)."""
        return None if self.keep is None else half_lives(self.keep)

    @cached_property
    def ranking(self) -> npt.NDArray[np.int64]:
        """Cells from the most persistent to the least; without half-lives by their strength."""
        if self.half_lives is None:
            return np.argsort(-np.abs(self.state).mean(axis=0), kind="stable")
        return np.argsort(-self.half_lives, kind="stable")

    @property
    def name(self) -> str:
        return f"layer {self.depth} {self.direction}".rstrip()


@dataclass(frozen=True)
class Spike:
    """A phone in the output of CTC: one run of steps in which it is the most probable label."""

    phone: str
    label: int
    first: int
    last: int
    peak: int


@dataclass(frozen=True)
class Activations:
    """A network's course through a sentence; `log_probs` (T', V) and `spikes` where it is CTC."""

    network: Network
    sentence: Sentence
    frames: Tensor  # (T, F), normalised
    layers: tuple[Layer, ...]  # from below, forward before backward
    phones: tuple[str, ...]
    log_probs: Floats | None = None
    spikes: tuple[Spike, ...] = ()

    @property
    def steps(self) -> int:
        return len(self.layers[0].hidden)

    @property
    def times_s(self) -> npt.NDArray[np.float64]:
        """The centre of the input of each step, (T',)."""
        return np.array([self.network.recognizer.config.time_s(step) for step in range(self.steps)])

    @property
    def top(self) -> Layer:
        """The last layer, forwards."""
        return next(layer for layer in reversed(self.layers) if not layer.backward)

    def boundaries(self) -> list[int]:
        """The steps nearest to the boundaries between labelled phones, rising, without repeats."""
        starts = [segment.start_s for segment in (self.sentence.segments or ())[1:]]
        first = self.network.recognizer.config.time_s(0)
        steps = {round((start - first) / self.network.step_s) for start in starts}
        return sorted(step for step in steps if 0 <= step < self.steps)

    def span(self, segment: Segment) -> range:
        """The steps whose centre lies in a phone."""
        centres = self.times_s
        inside = np.flatnonzero((centres >= segment.start_s) & (centres < segment.end_s))
        return range(int(inside[0]), int(inside[-1]) + 1) if len(inside) else range(0)

    def transitions(self) -> Iterator[tuple[Segment, int, Segment, int]]:
        """A phone, its last step, the next phone, and its first step without input of the former.

        Left out are phones without such a step, and the first of a sentence, in which all states
        still start from zero.
        """
        for first, second in pairwise((self.sentence.segments or ())[1:]):
            one, two = self.span(first), self.span(second)
            out = [s for s in two if self.times_s[s] - self.network.view_s >= second.start_s]
            if one and out:
                yield first, one[-1], second, out[0]


@torch.no_grad()
def frames_of(network: Network, sentences: Sequence[Sentence]) -> tuple[Tensor, Tensor]:
    """The input of the network and its lengths: (N, T, F), (N,)."""
    features: tuple[Tensor, Tensor] = network.recognizer.features(
        batch_of(sentences), moments=network.moments
    )
    return features


def batch_of(sentences: Sequence[Sentence]) -> Batch:
    """The waveforms of sentences with their speakers."""
    waveforms = [torch.from_numpy(sentence.waveform) for sentence in sentences]
    return Batch.of(waveforms, [sentence.speaker for sentence in sentences])


@torch.no_grad()
def activations_of(network: Network, sentences: Sequence[Sentence]) -> Iterator[Activations]:
    """Run a network over sentences and record everything."""
    recognizer = network.recognizer
    for first in range(0, len(sentences), BATCH):
        chunk = sentences[first : first + BATCH]
        frames, counts = frames_of(network, chunk)
        traces, steps = recognizer.encoder.trace(frames, counts)
        below, _ = stack_frames(frames, counts, network.config.subsampling)
        inputs = [below, *(torch.cat([t.hidden for t in layer], dim=2) for layer in traces)]
        encoded, _ = recognizer.encoder(frames, counts)
        criterion = recognizer.criterion
        log_probs = criterion.emissions(encoded) if isinstance(criterion, CTC) else None
        ids = [sentence.name for sentence in chunk]
        paths = recognizer.search(encoded, steps, ids, SearchConfig())
        for n, sentence in enumerate(chunk):
            size = int(steps[n])
            layers = tuple(
                Layer(
                    depth,
                    direction if len(directions) > 1 else "",
                    inputs[depth - 1][n, :size].numpy(),
                    trace.hidden[n, :size].numpy(),
                    None if trace.cell is None else trace.cell[n, :size].numpy(),
                    {name: gate[n, :size].numpy() for name, gate in trace.gates.items()},
                )
                for depth, directions in enumerate(traces, start=1)
                for direction, trace in zip(("forwards", "backwards"), directions, strict=False)
            )
            probabilities = None if log_probs is None else log_probs[n, :size].numpy()
            spikes = tuple(
                Spike(recognizer.vocabulary.decode(run[:1])[0], *run)
                for run in ([] if probabilities is None else runs(probabilities))
            )
            yield Activations(
                network,
                sentence,
                frames[n, : int(counts[n])],
                layers,
                paths[n][0].phones if probabilities is None else tuple(s.phone for s in spikes),
                probabilities,
                spikes,
            )
