"""What a criterion finds in the emissions of one utterance: its search and its alignment.

Nothing here needs torch. The criteria of `asr.criteria` use these decoders in training too.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.architecture import CTCConfig, FramewiseConfig, GMMConfig, HMMConfig, RecognizerConfig
from asr.errors import DataError
from asr.phones import Vocabulary
from asr.records import Hypothesis
from asr.search import SearchConfig, forced, paths, prefix_beam, viterbi
from asr.search.evidence import likelihood, words_of
from asr.search.graph import Graph, no_language_model
from asr.search.paths import Path, Span
from asr.search.word_model import WordGraph

ALIGNMENT_PENALTY = 4.0  # nats subtracted from CTC's blank in `align`; see docs/alignment.md
NO_PHONE = 0  # an HMM's label of frames outside all phones

Array = npt.NDArray[Any]


class Decoder(ABC):
    """Search and alignment of one utterance, from emissions (T', E)."""

    @abstractmethod
    def search(
        self, emissions: Array, search: SearchConfig, graph: Graph | None = None
    ) -> list[Path]:
        """The n best paths, best first. `graph` is that of the language model, or of the words."""

    @abstractmethod
    def align(self, emissions: Array, labels: Sequence[int]) -> list[Span]:
        """The frames of each label of a known transcript, in their order; spans do not overlap.

        Frames between two of them belong to neither. Raises `DataError` where there are fewer
        frames than `frames_needed`.
        """

    @abstractmethod
    def log_likelihood(self, emissions: Array, labels: Sequence[int]) -> float:
        """log P(labels) in nats, −∞ where there are too few frames."""

    def frames_needed(self, labels: Sequence[int]) -> int:
        """The fewest frames with which labels can be aligned."""
        return max(1, len(labels))

    def require_frames(self, frames: int, labels: Sequence[int], name: str = "") -> None:
        """Raise `DataError`, begun with `name`, where there are fewer frames than needed."""
        needed = self.frames_needed(labels)
        if frames < needed:
            raise DataError(
                f"too short for the labels: {name or 'the utterance'} (needs {needed} frames, has "
                f"{frames}); lower encoder.subsampling"
            )


def require_numbers(emissions: Any) -> None:
    """Raise `DataError` where emissions are NaN."""
    if np.isnan(emissions).any():
        raise DataError("the model's outputs are NaN, expected numbers; train it first")


class CTCDecoder(Decoder):
    """From log-probabilities of the labels, (T', V), the blank first."""

    def search(
        self, emissions: Array, search: SearchConfig, graph: Graph | None = None
    ) -> list[Path]:
        """Greedy, by prefix beam search, or through words."""
        require_numbers(emissions)
        log_probs = paths.penalised(emissions, search.blank_penalty)
        if search.beam == 1:
            return [paths.greedy(log_probs)]
        if isinstance(graph, WordGraph):
            return [
                replace(paths.path_of(*paths.align(log_probs, labels), score), words=words)
                for labels, words, score in graph.search(log_probs, search)
            ]
        graph = graph or no_language_model(log_probs.shape[1])
        options = search.lm_weight, search.bonus, search.beam, search.threshold, search.n_best
        return [
            paths.path_of(*paths.align(log_probs, row[:length]), float(score))
            for row, length, score in zip(
                *prefix_beam.search(log_probs, graph, *options), strict=True
            )
        ]

    def align(self, emissions: Array, labels: Sequence[int]) -> list[Span]:
        """By the best alignment; each blank costs `ALIGNMENT_PENALTY`, which lengthens labels."""
        self.require_frames(len(emissions), labels)
        log_probs = paths.penalised(emissions, ALIGNMENT_PENALTY)
        return paths.spans_of(*paths.align(log_probs, labels))

    def log_likelihood(self, emissions: Array, labels: Sequence[int]) -> float:
        if len(emissions) < self.frames_needed(labels):
            return -math.inf
        if not len(labels):
            return float(emissions[:, paths.BLANK].sum(dtype=np.float64))
        return likelihood(emissions, words_of([[[label]] for label in labels]))

    def frames_needed(self, labels: Sequence[int]) -> int:
        """U + repeats, which need a blank between them, and at least one."""
        repeats = sum(a == b for a, b in pairwise(labels))
        return max(1, len(labels) + repeats)

    def label_posteriors(self, emissions: Array) -> Array:
        """log P(label | frame): (T', V) → (T', V)."""
        return emissions


class HMMDecoder(Decoder):
    """Hidden Markov models of phones (Rabiner 1989), from what derived classes know of the states.

    Column 0 of K = 1 + (V − 1) · states is label 0, no phone; then come the states of label 1, of
    label 2, and so on. `occupancy` (K,) counts the training frames of each state; a search never
    enters a state that has none, `align` may.
    """

    def __init__(self, config: HMMConfig, occupancy: Array) -> None:
        self.config, self.occupancy = config, occupancy
        self.vocabulary_size = 1 + (len(occupancy) - 1) // config.states

    @abstractmethod
    def state_scores(self, emissions: Array, prior_scale: float) -> Array:
        """log p(frame | state), up to a constant of each frame: (T', E) → (T', K)."""

    @abstractmethod
    def posteriors(self, emissions: Array) -> Array:
        """log P(state | frame): (T', E) → (T', K)."""

    def log_priors(self) -> Array:
        """log P(state) in training, (K,); a state without frames counts as if it had one."""
        priors = np.log(self.occupancy.clip(min=1) / self.occupancy.sum())
        result: Array = priors.astype(np.float32)
        return result

    def label_posteriors(self, emissions: Array) -> Array:
        """log P(label | frame), summed over the states: (T', E) → (T', V)."""
        log_probs = self.posteriors(emissions)
        phones = log_probs[:, 1:].reshape(len(log_probs), -1, self.config.states)
        return np.concatenate([log_probs[:, :1], logsumexp(phones)], axis=1)

    def search(
        self, emissions: Array, search: SearchConfig, graph: Graph | None = None
    ) -> list[Path]:
        """One path: with a beam the best through states and language model, else greedy."""
        require_numbers(emissions)
        if search.n_best > 1:
            raise DataError(
                f"search.n_best is {search.n_best}, but a Viterbi search finds one path; "
                f"set search.n_best=1"
            )
        log_probs = self.label_posteriors(emissions)
        log_probs[:, NO_PHONE] -= np.float32(search.blank_penalty)
        if search.beam == 1:
            return [paths.greedy(log_probs)]
        scale = np.float32(self.config.acoustic_scale)
        scores = scale * self.state_scores(emissions, search.prior_scale)
        scores[:, NO_PHONE] -= np.float32(search.blank_penalty)
        scores[:, self.occupancy == 0] = -np.inf
        graph = graph or no_language_model(self.vocabulary_size)
        if not graph.states_tell_labels:
            raise DataError(
                "the language model has CMUdict's phones, to which several labels fold; a Viterbi "
                "search needs one of the recogniser's own labels"
            )
        states, floor = self.config.states, self.config.duration_floor
        options = search.lm_weight, search.bonus, search.beam, search.threshold
        labels, starts, score = viterbi.search(scores, graph, states, floor, *options)
        alignment = np.repeat(labels, np.diff(starts, append=len(scores)))
        along = log_probs[np.arange(len(alignment)), alignment]
        return [paths.path_of_runs(labels, starts, along, score)]

    def align(self, emissions: Array, labels: Sequence[int]) -> list[Span]:
        """By the best path through the labels' states, with label 0 wherever that is better."""
        probs = np.exp(self.label_posteriors(emissions))
        _, places, _ = self.align_states(self.state_scores(emissions, 1.0), labels, "the utterance")
        spans = []
        for u, label in enumerate(labels):
            (frames,) = (places == u).nonzero()
            mean = float(probs[frames, label].mean())
            spans.append(Span(int(frames[0]), int(frames[-1]) + 1, mean))
        return spans

    def log_likelihood(self, emissions: Array, labels: Sequence[int]) -> float:
        raise NotImplementedError("an HMM aligns words, of which it chooses the pronunciation")

    def frames_needed(self, labels: Sequence[int]) -> int:
        return max(1, len(labels) * self.config.states * self.config.duration_floor)

    def align_states(
        self, scores: Array, labels: Sequence[int], name: str
    ) -> tuple[Array, Array, float]:
        """Columns (T',), places in `labels` (T',) and score of one utterance: (T', K), (U,).

        Raises `DataError` that names the utterance where no path exists.
        """
        search = forced.Search(self.network([[[label]] for label in labels]))
        search.feed(scores)
        route = search.route()
        if route.score == -np.inf:
            needed = search.network.least
            if len(scores) >= needed:
                raise DataError(f"{name}: no path through its phones has a probability above 0")
            raise DataError(
                f"{name}: {len(labels)} phones need {needed} frames, there are {len(scores)}; "
                f"lower criterion.states, criterion.duration_floor or encoder.subsampling"
            )
        frames = np.diff(route.starts)
        columns = np.repeat(route.columns, frames).astype(np.int64)
        places = np.repeat(route.phones, frames)  # silence is −1
        return columns, places, route.score

    def network(
        self, words: Sequence[Sequence[Sequence[int]]], pause: int = 1, filler: bool = False
    ) -> forced.Network:
        """The network of words, each with its pronunciations, of this topology.

        It has no silence where training had no frames outside all phones.
        """
        states, floor = self.config.states, self.config.duration_floor
        silence = bool(self.occupancy[NO_PHONE])
        return forced.network(words, states, floor, pause, silence, filler)


class FramewiseDecoder(HMMDecoder):
    """From posteriors of the states; divided by their priors they are likelihoods."""

    def state_scores(self, emissions: Array, prior_scale: float) -> Array:
        scores: Array = emissions - np.float32(prior_scale) * self.log_priors()
        return scores

    def posteriors(self, emissions: Array) -> Array:
        return emissions


class GMMDecoder(HMMDecoder):
    """From log-densities, which hold no priors to subtract."""

    def state_scores(self, emissions: Array, prior_scale: float) -> Array:
        return emissions

    def posteriors(self, emissions: Array) -> Array:
        joint = emissions + self.log_priors()
        log_probs: Array = joint - logsumexp(joint)[:, None]
        return log_probs


def logsumexp(values: Array) -> Array:
    """log Σ exp over the last axis, which may be −∞ throughout."""
    highest = values.max(axis=-1, keepdims=True)
    finite = np.where(np.isfinite(highest), highest, 0)
    with np.errstate(divide="ignore"):
        total: Array = np.log(np.exp(values - finite).sum(axis=-1)) + finite[..., 0]
    return total


def decoder_of(config: RecognizerConfig, occupancy: Array | None = None) -> Decoder | None:
    """The decoder of a criterion; None for one whose search needs its own network."""
    match config.criterion:
        case CTCConfig():
            return CTCDecoder()
        case FramewiseConfig() if occupancy is not None:
            return FramewiseDecoder(config.criterion, occupancy)
        case GMMConfig() if occupancy is not None:
            return GMMDecoder(config.criterion, occupancy)
    return None


def hypothesis(id: str, path: Path, vocabulary: Vocabulary, config: RecognizerConfig) -> Hypothesis:
    """A path as phones with times in s."""
    return Hypothesis(
        id,
        vocabulary.decode(path.labels),
        path.score,
        tuple(round(config.time_s(frame), 4) for frame in path.frames),
        tuple(round(share, 4) for share in path.confidences),
        path.words,
    )
