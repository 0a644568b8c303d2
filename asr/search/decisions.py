"""CTC's searches on a stream: labels become final one by one, with their frames and confidences.

What is decided, and when, depends on the frames alone, not on how they come. A greedy search
decides a label when its run ends. A beam search decides the first label on which the prefixes of
the beam nearly agree, and drops those without it; labels on which they do not agree for long are
decided by the best prefix. Nothing grows with the length of the stream.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from asr.search import SearchConfig, paths, prefix_beam
from asr.search.decoders import require_numbers
from asr.search.graph import Graph, no_language_model

MOST_PATIENCE_S = 10.0
ROOM = 64  # frames whose prefixes the trie has room for at first

Array = npt.NDArray[Any]


class Label(NamedTuple):
    """A label in the frame in which it is most probable, with its probability there."""

    label: int
    frame: int
    confidence: float


@dataclass(frozen=True)
class Streaming:
    """How the phones of a stream are decided and placed; times are in seconds.

    A label is decided as soon as it has the `share` of the beam's mass, and at the latest
    `patience_s` behind its frame; both are waits for what follows, which costs time and saves
    errors. A phone ends `end_s` behind the frame of its label, and after a pause begins `start_s`
    behind it, both usually negative or near 0, since a network that has heard nothing of what
    follows outputs a label late. `recipes/librispeech/speech.py` measures them.
    """

    start_s: float = -0.1
    end_s: float = 0.0
    share: float = 0.95
    patience_s: float = 0.5

    def __post_init__(self) -> None:
        if not -1 < self.start_s < self.end_s < 1:
            raise ValueError(
                f"streaming.start_s and end_s are {self.start_s} and {self.end_s}, expected "
                f"−1 < start_s < end_s < 1"
            )
        if not (0.5 < self.share <= 1 and 0 < self.patience_s <= MOST_PATIENCE_S):
            raise ValueError(
                f"streaming.share and patience_s are {self.share} and {self.patience_s}, expected "
                f"0.5 to 1, and at most {MOST_PATIENCE_S:g} s"
            )


class Decisions(ABC):
    """The search of one stream of log-probabilities (V,), of which each frame comes once."""

    frames = 0  # that have come

    @abstractmethod
    def feed(self, log_probs: Array) -> list[Label]:
        """One frame further, (V,) float32: the labels that it decides."""

    @abstractmethod
    def finish(self) -> list[Label]:
        """The other labels, when no frame is left."""

    @abstractmethod
    def open(self) -> list[Label]:
        """The best labels that are not decided yet, as of now."""


def decisions_of(
    search: SearchConfig,
    how: Streaming,
    vocabulary_size: int,
    frame_s: float,
    graph: Graph | None = None,
) -> Decisions:
    """The search of a configuration, for frames of `frame_s` seconds."""
    if search.beam == 1:
        return GreedyDecisions(search)
    patience = max(1, round(how.patience_s / frame_s))
    return BeamDecisions(search, graph or no_language_model(vocabulary_size), patience, how.share)


class GreedyDecisions(Decisions):
    """The best label of each frame; runs of one label are one."""

    def __init__(self, search: SearchConfig) -> None:
        self.penalty = search.blank_penalty
        self.run: Label | None = None

    def feed(self, log_probs: Array) -> list[Label]:
        require_numbers(log_probs)
        row = paths.penalised(log_probs[None], self.penalty)[0]
        best = int(row.argmax())
        now = Label(best, self.frames, float(np.exp(row[best])))
        self.frames += 1
        before, self.run = self.run, now
        if before is None or before.label != best:
            return [before] if before is not None and before.label != paths.BLANK else []
        if before.confidence >= now.confidence:
            self.run = before
        return []

    def finish(self) -> list[Label]:
        rest, self.run = self.open(), None
        return rest

    def open(self) -> list[Label]:
        return [self.run] if self.run is not None and self.run.label != paths.BLANK else []


class BeamDecisions(Decisions):
    """The prefix beam search of `prefix_beam`, with a phone n-gram.

    A decided label is placed by the best alignment of it and of the labels that the best prefix
    then has behind it, from the frame of the label before. `patience` counts frames.
    """

    def __init__(self, search: SearchConfig, graph: Graph, patience: int, share: float) -> None:
        self.search, self.graph = search, graph
        self.patience, self.share = patience, share
        self.beam: prefix_beam.Beam | None = None
        self.last: Label | None = None  # decided
        self.rows: Array | None = None  # the last frames, from that of `last`
        self.begin = 0  # number of the first one

    def feed(self, log_probs: Array) -> list[Label]:
        require_numbers(log_probs)
        row = paths.penalised(log_probs[None], self.search.blank_penalty)
        if self.rows is None:
            self.rows = np.empty((4 * self.patience + 4, row.shape[1]), np.float32)
        if self.beam is None:
            room = ROOM * self.search.beam
            self.beam = prefix_beam.begin(self.graph, row.shape[1], self.search.beam, room)
        if self.frames - self.begin == len(self.rows):
            self._forget(self.frames - len(self.rows) // 2)
        self.rows[self.frames - self.begin] = row[0]
        options = self.search.lm_weight, self.search.bonus, self.search.threshold
        self.beam = prefix_beam.advance(self.beam, row, self.graph, *options)
        self.frames += 1
        labels = prefix_beam.commit(self.beam, self.share, self.patience)
        if not len(labels):
            return []
        decided = self._placed([*labels.tolist(), *self._rest(0.0)])[: len(labels)]
        self.last = decided[-1]
        self._forget(self.last.frame)
        return decided

    def finish(self) -> list[Label]:
        rest = self._placed(self._rest(self.search.lm_weight))
        self.beam, self.last = None, None
        return rest

    def open(self) -> list[Label]:
        return self._placed(self._rest(0.0))

    def _rest(self, weight: float) -> list[int]:
        """The labels of the best prefix that are not decided."""
        if self.beam is None:
            return []
        rest: list[int] = prefix_beam.best(self.beam, self.graph, weight).tolist()
        return rest

    def _forget(self, frame: int) -> None:
        """Forget the frames before this one."""
        assert self.rows is not None
        left = self.frames - frame
        self.rows[:left] = self.rows[frame - self.begin : self.frames - self.begin].copy()
        self.begin = frame

    def _placed(self, labels: list[int]) -> list[Label]:
        """Labels behind the last decided one, each in the frame where it is most probable."""
        if not labels or self.rows is None:
            return []
        log_probs = self.rows[: self.frames - self.begin]
        before = []  # takes its own run of frames
        if self.last is not None and self.last.frame == self.begin:
            before = [self.last.label]
        whole = [*before, *labels]
        repeats = sum(a == b for a, b in pairwise(whole))
        if len(log_probs) < len(whole) + repeats:  # of a prefix that lay behind others until now
            now = self.frames - 1
            return [Label(one, now, float(np.exp(log_probs[-1, one]))) for one in labels]
        path = paths.path_of(*paths.align(log_probs, whole), 0.0)
        skipped = len(path.labels) - len(labels)
        return [
            Label(label, self.begin + frame, confidence)
            for label, frame, confidence in zip(
                path.labels[skipped:],
                path.frames[skipped:],
                path.confidences[skipped:],
                strict=True,
            )
        ]
