"""Hidden Markov models of phones, without the densities of their states (Rabiner 1989)."""

from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from asr.batch import Batch, length_mask
from asr.criteria.base import Criterion, CriterionConfig, FrameTimes, Path, Span
from asr.criteria.ctc import greedy, path_of_runs
from asr.errors import DataError
from asr.knobs import knob
from asr.search import SearchConfig, forced, viterbi
from asr.search.graph import Graph, no_language_model

Array = npt.NDArray[np.int32]

NO_PHONE = 0  # the label of frames outside all phones


@dataclass(frozen=True)
class HMMConfig(CriterionConfig):
    """The model of a phone: states from left to right, and how long it stays in each."""

    states: int = knob(3, "of a phone", at_least=1)
    duration_floor: int = knob(1, "fewest frames that a phone stays in each state", at_least=1)
    acoustic_scale: float = knob(
        1.0, "factor of a frame's log-likelihood in a Viterbi search", more_than=0
    )


class HMM(Criterion):
    """Topology, search and alignment; derived classes give the scores of the K states.

    Column 0 of K = 1 + (V − 1) · states is label 0, no phone; then come the states of label 1, of
    label 2, and so on. Buffer `occupancy` (K,) counts the training frames of each state; a search
    never enters a state that has none, `align` may.
    """

    occupancy: Tensor

    def __init__(self, config: HMMConfig, vocabulary_size: int, times: FrameTimes) -> None:
        super().__init__()
        self.config = config
        self.vocabulary_size = vocabulary_size
        self.columns = 1 + (vocabulary_size - 1) * config.states
        self.times = times
        ones = torch.ones(self.columns, dtype=torch.float64)  # until frames are counted
        self.register_buffer("occupancy", ones)

    @abstractmethod
    def state_scores(self, emissions: Tensor, prior_scale: float) -> Tensor:
        """log p(frame | state), up to a constant of each frame: (N, T', E) → (N, T', K)."""

    @abstractmethod
    def posteriors(self, emissions: Tensor) -> Tensor:
        """log P(state | frame): (N, T', E) → (N, T', K)."""

    def log_priors(self) -> Tensor:
        """log P(state) in training, (K,); a state without frames counts as if it had one."""
        return (self.occupancy.clamp(min=1) / self.occupancy.sum()).log().float()

    def label_posteriors(self, emissions: Tensor) -> Tensor:
        """log P(label | frame), summed over the states: (N, T', E) → (N, T', V)."""
        log_probs = self.posteriors(emissions)
        phones = log_probs[..., 1:].reshape(*log_probs.shape[:-1], -1, self.config.states)
        return torch.cat([log_probs[..., :1], phones.logsumexp(dim=-1)], dim=-1)

    def tunable(self, search: SearchConfig) -> tuple[str, ...]:
        """Greedy: the penalty of label 0, if training had frames outside all phones."""
        if search.beam == 1:
            return ("blank_penalty",) if self.occupancy[NO_PHONE] else ()
        return (*super().tunable(search), "prior_scale")

    def frame_states(self, lengths: Tensor, batch: Batch) -> Tensor:
        """The state's column of each frame by the phones' times, (N, T'); undefined in padding.

        A frame belongs to the phone in which its middle lies; each state has an equal part of the
        phone. Raises `DataError` for utterances without times.
        """
        require_times(without_times(batch))
        assert batch.target_starts is not None
        assert batch.target_ends is not None
        frames = torch.arange(int(lengths.max()), device=lengths.device)
        middles = (self.times.first + frames * self.times.step).expand(len(lengths), -1)
        real = length_mask(batch.target_lengths, batch.targets.shape[1])
        ends = batch.target_ends.double().masked_fill(~real, torch.inf)
        ends = nn.functional.pad(ends, (0, 1), value=torch.inf)
        place = torch.searchsorted(ends, middles.double().contiguous(), right=True)
        labels, starts = (
            nn.functional.pad(each, (0, 1)).gather(1, place)
            for each in (batch.targets, batch.target_starts)
        )
        ends = ends.gather(1, place)
        states = ((middles - starts) / (ends - starts) * self.config.states).long()
        columns = 1 + (labels - 1) * self.config.states + states
        inside = (starts <= middles) & (middles < ends) & ends.isfinite()
        return columns.where(inside, NO_PHONE)

    def search(
        self, emissions: Tensor, lengths: Tensor, search: SearchConfig, graph: Graph | None = None
    ) -> list[list[Path]]:
        """One path: with a beam the best through states and language model, else CTC's `greedy`.

        Torch's threads share the utterances.
        """
        self.require_numbers(emissions)
        if search.n_best > 1:
            raise DataError(
                f"search.n_best is {search.n_best}, but a Viterbi search finds one path; "
                f"set search.n_best=1"
            )
        emissions = emissions.detach().float().cpu()
        label_log_probs = self.label_posteriors(emissions)
        label_log_probs[..., NO_PHONE] -= search.blank_penalty
        utterances = list(zip(label_log_probs, lengths.tolist(), strict=True))
        if search.beam == 1:
            return [[greedy(log_probs[:length])] for log_probs, length in utterances]
        scores = self.config.acoustic_scale * self.state_scores(emissions, search.prior_scale)
        scores[..., NO_PHONE] -= search.blank_penalty
        scores = scores.masked_fill(self.occupancy.cpu() == 0, -torch.inf)
        graph = graph or no_language_model(self.vocabulary_size)
        if not graph.states_tell_labels:
            raise DataError(
                "the language model has CMUdict's phones, to which several labels fold; a Viterbi "
                "search needs one of the recogniser's own labels"
            )

        def search_one(n: int) -> list[Path]:
            log_probs, length = utterances[n]
            states, floor = self.config.states, self.config.duration_floor
            options = search.lm_weight, search.bonus, search.beam, search.threshold
            now = scores[n, :length].numpy()
            labels, starts, score = viterbi.search(now, graph, states, floor, *options)
            alignment = np.repeat(labels, np.diff(starts, append=length))
            along = log_probs[torch.arange(len(alignment)), alignment]
            runs = torch.from_numpy(labels), torch.from_numpy(starts)
            return [path_of_runs(*runs, along, score)]

        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            return list(threads.map(search_one, range(len(utterances))))

    @torch.no_grad()
    def align(
        self, encoded: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> list[list[Span]]:
        """By the best path through the labels' states, with label 0 wherever that is better."""
        emissions = self.emissions(encoded).float().cpu()
        scores = self.state_scores(emissions, prior_scale=1.0)
        probs = self.label_posteriors(emissions).exp()
        aligned: list[list[Span]] = [[] for _ in targets]
        counts = zip(lengths.tolist(), target_lengths.tolist(), strict=True)
        for n, (length, count) in enumerate(counts):
            labels = targets[n, :count].cpu()
            _, places, _ = self.align_one(scores[n, :length], labels, f"utterance {n} of the batch")
            for u, label in enumerate(labels.tolist()):
                (frames,) = (places == u).nonzero()
                mean = float(probs[n, frames, label].mean())
                aligned[n].append(Span(int(frames[0]), int(frames[-1]) + 1, mean))
        return aligned

    def frames_needed(self, targets: Tensor, target_lengths: Tensor) -> Tensor:
        return (target_lengths * self.config.states * self.config.duration_floor).clamp(min=1)

    def align_one(self, scores: Tensor, labels: Tensor, name: str) -> tuple[Tensor, Array, float]:
        """Columns (T,), places in `labels` (T,) and score of one utterance: (T, K), (U,).

        Raises `DataError` that names the utterance where no path exists.
        """
        search = forced.Search(self.network([[[label]] for label in labels.tolist()]))
        search.feed(scores.numpy())
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
        return torch.from_numpy(columns), places, route.score

    def network(
        self, words: Sequence[Sequence[Sequence[int]]], pause: int = 1, filler: bool = False
    ) -> forced.Network:
        """The network of words, each with its pronunciations, of this topology.

        It has no silence where training had no frames outside all phones.
        """
        states, floor = self.config.states, self.config.duration_floor
        silence = bool(self.occupancy[NO_PHONE])
        return forced.network(words, states, floor, pause, silence, filler)


def without_times(batch: Batch) -> list[str]:
    """The ids of the utterances whose phones have no times."""
    if batch.target_starts is None or batch.target_ends is None:
        return list(batch.ids)
    unknown = (batch.target_starts < 0).any(dim=1).tolist()
    return [id for id, missing in zip(batch.ids, unknown, strict=True) if missing]


def require_times(without: Sequence[str]) -> None:
    """Raise `DataError` where the list of utterances without times is not empty."""
    if without:
        named = ", ".join(without[:5]) + (", …" if len(without) > 5 else "")
        raise DataError(
            f"{len(without)} utterances have no times of their phones ({named}), which this "
            f"criterion needs for training; make them with `asr align`"
        )
