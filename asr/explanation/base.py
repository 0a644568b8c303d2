"""A sentence, a network, and all that happens inside the network while it hears the sentence.

Steps are those of the recurrent stack, T' of a sentence; their times are the centres of what they
see. Nothing here is drawn or said.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from asr.audio import Waveform
from asr.batch import Batch
from asr.criteria import CTC
from asr.encoder import EncoderConfig, stack_frames
from asr.explanation.memory import half_lives
from asr.features import SpeakerMoments
from asr.recognizer import Recognizer
from asr.records import Segment
from asr.search import SearchConfig

Floats = npt.NDArray[np.float32]

CELL_NAMES = {
    "tanh": "tanh RNN",
    "gru": "GRU",
    "lstm": "LSTM",
    "peephole": "LSTM with peepholes",
    "lstm1997": "LSTM of 1997",
    "projected": "LSTM with projection",
    "layernorm": "layer-normalised LSTM",
    "ligru": "light GRU",
}
GATES = ("forget", "update", "input", "reset", "output")  # those that open from 0 to 1, as shown
KEEPS = ("forget", "update")  # the gate whose value is the part of the old state that stays
BATCH = 16  # sentences heard at once


@dataclass(frozen=True)
class Sentence:
    """A recording, and what is known of it.

    `labels_from` says where phones and segments are from, `warnings` what is odd about the sound.
    """

    name: str
    waveform: Waveform
    sample_rate: int
    phones: tuple[str, ...] | None = None
    segments: tuple[Segment, ...] | None = None
    labels_from: str = ""
    speaker: str = ""
    corpus: str = ""
    words: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        return len(self.waveform) / self.sample_rate

    @property
    def is_synthetic(self) -> bool:
        return self.corpus.startswith("synthetic")


@dataclass(frozen=True)
class Network:
    """A trained recogniser, under the name that pictures and tables give it."""

    name: str
    recognizer: Recognizer
    about: dict[str, Any] = field(default_factory=dict)
    moments: SpeakerMoments | None = None  # of the speakers of the sentences, where it needs them

    @property
    def config(self) -> EncoderConfig:
        return self.recognizer.config.encoder

    @property
    def step_s(self) -> float:
        features = self.recognizer.features.config
        return self.config.subsampling * features.hop_samples / features.sample_rate

    @property
    def view_s(self) -> float:
        """How far on either side of its centre a step's input reaches."""
        features = self.recognizer.features.config
        frames = features.deltas * features.delta_window + features.context
        hops = frames + (self.config.subsampling - 1) / 2
        samples = hops * features.hop_samples + features.window_samples / 2
        return samples / features.sample_rate

    def steps_of(self, samples: int) -> int:
        """T' for S."""
        frames = self.recognizer.features.config.frame_count(samples)
        return -(-frames // self.config.subsampling)


@dataclass(frozen=True)
class Layer:
    """What one direction of one layer did: all (T', H), but the output may be narrower."""

    depth: int  # counted from 1
    direction: str  # "forwards", "backwards", or "" where there is only one
    inputs: Floats  # (T', D) what came from below
    hidden: Floats
    cell: Floats | None
    gates: dict[str, Floats]

    @property
    def state(self) -> Floats:
        """What is handed from step to step and remembers: the cell state, or else the output."""
        return self.hidden if self.cell is None else self.cell

    @property
    def backward(self) -> bool:
        return self.direction == "backwards"

    @property
    def keep(self) -> Floats | None:
        """The gate that says how much of the old state stays."""
        return next((self.gates[name] for name in KEEPS if name in self.gates), None)

    @property
    def shown_gates(self) -> dict[str, Floats]:
        return {name: self.gates[name] for name in GATES if name in self.gates}

    @cached_property
    def half_lives(self) -> npt.NDArray[np.float64] | None:
        """In steps, (H,)."""
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
    """A phone that a CTC network says: one run of steps in which it is the most probable label."""

    phone: str
    first: int
    last: int
    peak: int


@dataclass(frozen=True)
class Heard:
    """What a network made of a sentence; `log_probs` (T', V) and `spikes` where it is CTC."""

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
        """The centre of what each step sees."""
        return np.array([self.network.recognizer.time_s(step) for step in range(self.steps)])

    @property
    def top(self) -> Layer:
        """The last layer, forwards."""
        return next(layer for layer in reversed(self.layers) if not layer.backward)

    def boundaries(self) -> list[int]:
        """The steps nearest to the boundaries between labelled phones, rising, none twice."""
        starts = [segment.start_s for segment in (self.sentence.segments or ())[1:]]
        first = self.network.recognizer.time_s(0)
        steps = {round((start - first) / self.network.step_s) for start in starts}
        return sorted(step for step in steps if 0 <= step < self.steps)

    def span(self, segment: Segment) -> range:
        """The steps whose centre lies in a phone."""
        centres = self.times_s
        inside = np.flatnonzero((centres >= segment.start_s) & (centres < segment.end_s))
        return range(int(inside[0]), int(inside[-1]) + 1) if len(inside) else range(0)

    def transitions(self) -> Iterator[tuple[Segment, int, Segment, int]]:
        """A phone, its last step; the phone behind it, the first step that no longer sees the one.

        Without those phones of which no step is left, and without the first of a sentence, in which
        all states are still on their way from zero.
        """
        for first, second in pairwise((self.sentence.segments or ())[1:]):
            one, two = self.span(first), self.span(second)
            out = [s for s in two if self.times_s[s] - self.network.view_s >= second.start_s]
            if one and out:
                yield first, one[-1], second, out[0]


@torch.no_grad()
def frames_of(network: Network, sentences: Sequence[Sentence]) -> tuple[Tensor, Tensor]:
    """What the network is given: (N, T, F), (N,)."""
    return network.recognizer.features.of_batch(batch_of(sentences), moments=network.moments)


def batch_of(sentences: Sequence[Sentence]) -> Batch:
    """The waveforms of sentences with their speakers."""
    waveforms = [torch.from_numpy(sentence.waveform) for sentence in sentences]
    return Batch.of(waveforms, [sentence.speaker for sentence in sentences])


@torch.no_grad()
def listen(network: Network, sentences: Sequence[Sentence]) -> Iterator[Heard]:
    """Let a network hear sentences, and write down everything."""
    recognizer = network.recognizer
    for first in range(0, len(sentences), BATCH):
        chunk = sentences[first : first + BATCH]
        frames, counts = frames_of(network, chunk)
        traces, steps = recognizer.encoder.trace(frames, counts)
        below, _ = stack_frames(frames, counts, network.config.subsampling)
        inputs = [below, *(torch.cat([t.hidden for t in layer], dim=2) for layer in traces)]
        encoded, _ = recognizer.encoder(frames, counts)
        criterion = recognizer.criterion
        log_probs = criterion.log_probs(encoded) if isinstance(criterion, CTC) else None
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
            said = None if log_probs is None else log_probs[n, :size].numpy()
            spikes = () if said is None else tuple(_spikes(said, recognizer))
            yield Heard(
                network,
                sentence,
                frames[n, : int(counts[n])],
                layers,
                tuple(s.phone for s in spikes) if said is not None else paths[n][0].phones,
                said,
                spikes,
            )


def _spikes(log_probs: Floats, recognizer: Recognizer) -> Iterator[Spike]:
    best = log_probs.argmax(axis=1)
    edges = np.flatnonzero(np.diff(best, prepend=-1, append=-1))
    for first, stop in pairwise(edges):
        label = int(best[first])
        if label:
            peak = int(first) + int(log_probs[first:stop, label].argmax())
            (phone,) = recognizer.vocabulary.decode([label])
            yield Spike(phone, int(first), int(stop) - 1, peak)


# ── numbers as text ──────────────────────────────────────────────────────────────────────────


def duration(seconds: float) -> str:
    """For people: 42 ms, 1.3 s."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 99.95 else "more than 100 s"


def signed(value: float, places: int = 3) -> str:
    """With a true minus sign."""
    text = f"{value:.{places}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "−")


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
