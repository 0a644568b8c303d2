"""GMM-HMM monophones, the baseline before networks: Gaussian mixtures in place of a head.

Each state has a mixture of Gaussians with diagonal covariances. An epoch is one pass of Viterbi
training (Rabiner 1989; Young et al., The HTK Book): frames are aligned with states, in the first
pass by the phones' times or in equal parts, later by the best path; then each mixture takes a step
of EM on the frames of its state. Mixtures grow 1 → 2 → 4 … by splitting. The encoder must have no
layers, so that encoded frames are features.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from asr.architecture import FrameTimes, GMMConfig
from asr.batch import Batch
from asr.criteria.hmm import HMM, without_times
from asr.processor import ranks
from asr.search import SearchConfig
from asr.search.decoders import GMMDecoder

FEWEST_FRAMES = 10.0  # that a component must have to be kept; twice as many to be split
SPLIT_STDS = 0.2  # standard deviations by which each half of a split component is moved (HTK)


@runtime_checkable
class Estimated(Protocol):
    """A criterion without gradients: sums over the training set in an epoch, then new values."""

    def begin(self) -> None:
        """Prepare the sums of an epoch, unless it has begun."""

    def accumulate(self, encoded: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Add a batch to the sums of this epoch; its loss as in `Criterion.loss`, (N,)."""

    def update(self) -> None:
        """Set the values from the sums of this epoch."""

    def partial_sums(self) -> dict[str, Tensor]:
        """The sums of an epoch that is not at its end, by name; empty before the first batch."""

    def continue_sums(self, sums: dict[str, Tensor]) -> None:
        """Go on from `partial_sums`."""


class GMM(HMM):
    """K mixtures of at most M components over D values; an absent component has weight 0.

    Each begins as one standard normal density, as normalised features have. A state without
    training frames keeps the density of all frames.
    """

    config: GMMConfig
    passes: Tensor
    least_variances: Tensor  # (D,)

    def __init__(
        self, config: GMMConfig, input_size: int, vocabulary_size: int, times: FrameTimes
    ) -> None:
        super().__init__(config, vocabulary_size, times)
        shape = (self.columns, config.mixtures, input_size)
        log_weights = torch.full(shape[:2], -math.inf)
        log_weights[:, 0] = 0.0
        self.log_weights = nn.Parameter(log_weights, requires_grad=False)
        self.means = nn.Parameter(torch.zeros(shape), requires_grad=False)
        self.variances = nn.Parameter(torch.ones(shape), requires_grad=False)
        self.register_buffer("passes", torch.tensor(0))
        self.register_buffer("least_variances", torch.zeros(input_size))
        self.sums: Sums | None = None  # of this epoch

    def component_log_probs(self, frames: Tensor) -> Tensor:
        """log of weight times density: (T, D) → (T, K, M)."""
        precisions = 1 / self.variances
        constant = self.log_weights - 0.5 * (
            (self.means.square() * precisions).sum(2)
            + self.variances.log().sum(2)
            + frames.shape[1] * math.log(2 * math.pi)
        )
        by_value = torch.cat([-0.5 * precisions, self.means * precisions], 2).flatten(0, 1)
        values = torch.cat([frames.square(), frames], 1)
        return (values @ by_value.T).view(-1, *constant.shape) + constant

    @torch.no_grad()
    def emissions(self, encoded: Tensor) -> Tensor:
        """log p(frame | state), (N, T', K)."""
        return torch.stack([self.component_log_probs(one).logsumexp(2) for one in encoded])

    @property
    def decoder(self) -> GMMDecoder:
        return GMMDecoder(self.config, self.occupancy.cpu().numpy())

    def tunable(self, search: SearchConfig) -> tuple[str, ...]:
        return tuple(key for key in super().tunable(search) if key != "prior_scale")

    @torch.no_grad()
    def loss(self, encoded: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """−log density of the frames along the best path through the targets' states."""
        losses = [-score for *_, score in self._aligned(encoded, lengths, batch)]
        return torch.tensor(losses, device=encoded.device)

    @torch.no_grad()
    def begin(self) -> None:
        if self.sums is None:
            if self.passes and self.passes % self.config.passes == 0:
                self.split()
            self.sums = Sums(self.means)

    @torch.no_grad()
    def accumulate(self, encoded: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        self.begin()
        assert self.sums is not None
        first = None if self.passes else self._first_states(lengths, batch)
        losses = []
        for frames, log_probs, states, score in self._aligned(encoded, lengths, batch, first):
            losses.append(-score)
            of_state = log_probs[torch.arange(len(frames), device=frames.device), states]
            self.sums.add(frames, states, of_state.softmax(dim=1))
        return torch.tensor(losses, device=encoded.device)

    @torch.no_grad()
    def update(self) -> None:
        """Maximisation: weights, means and variances from the frames of each component.

        A component with fewer than FEWEST_FRAMES is removed, unless it is its state's largest.
        """
        assert self.sums is not None, "no batch was accumulated"
        ranks.sum_(vars(self.sums).values())
        counts, means, variances = self.sums.moments()
        of_states = counts.sum(1)
        if not self.passes:
            everything = counts.sum()
            share = (counts / everything).unsqueeze(2)
            mean = (share * means).sum((0, 1))
            variance = (share * (variances + means.square())).sum((0, 1)) - mean.square()
            self.least_variances.copy_(self.config.variance_floor * variance)
            self.means[:, 0], self.variances[:, 0] = mean.float(), variance.float()
        largest = counts == counts.amax(1, keepdim=True)
        alive = (counts >= FEWEST_FRAMES) | (largest & (counts > 0))
        kept = counts.where(alive, 0.0)
        weights = kept / kept.sum(1, keepdim=True)
        seen = (of_states > 0).unsqueeze(1)
        self.log_weights.copy_(weights.log().float().where(seen, self.log_weights))
        self.means.copy_(means.where(alive.unsqueeze(2), self.means))
        self.variances.copy_(variances.where(alive.unsqueeze(2), self.variances))
        self.variances.clamp_(min=self.least_variances)
        self.occupancy.copy_(of_states)
        self.passes += 1
        self.sums = None

    def partial_sums(self) -> dict[str, Tensor]:
        return {} if self.sums is None else dict(vars(self.sums))

    def continue_sums(self, sums: dict[str, Tensor]) -> None:
        self.sums = Sums(self.means)
        for name, total in sums.items():
            getattr(self.sums, name).copy_(total)

    @torch.no_grad()
    def split(self) -> None:
        """Split each state's components in two while there is room and they have enough frames."""
        frames = self.occupancy.unsqueeze(1) * self.log_weights.exp()
        for state, counts in enumerate(frames.tolist()):
            room = [m for m, count in enumerate(counts) if count == 0]
            heaviest = sorted(set(range(len(counts))) - set(room), key=lambda m: -counts[m])
            for m, new in zip(heaviest, room, strict=False):
                if counts[m] < 2 * FEWEST_FRAMES:
                    break
                shift = SPLIT_STDS * self.variances[state, m].sqrt()
                self.log_weights[state, m] -= math.log(2)
                self.log_weights[state, new] = self.log_weights[state, m]
                self.variances[state, new] = self.variances[state, m]
                self.means[state, new] = self.means[state, m] + shift
                self.means[state, m] -= shift

    def _aligned(
        self, encoded: Tensor, lengths: Tensor, batch: Batch, states: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, float]]:
        """Of each utterance: frames, their component log-probabilities, states, log density.

        (T', D), (T', K, M), (T',); the states are those of the best path, unless they are given.
        """
        sizes = zip(lengths.tolist(), batch.target_lengths.tolist(), strict=True)
        for n, (size, phones) in enumerate(sizes):
            log_probs = self.component_log_probs(encoded[n, :size])
            scores = log_probs.logsumexp(2)
            if states is None:
                labels = batch.targets[n, :phones].tolist()
                columns, _, score = self.decoder.align_states(
                    scores.cpu().numpy(), labels, batch.ids[n]
                )
                path = torch.from_numpy(columns)
            else:
                path = states[n, :size]
                score = float(scores.gather(1, path.unsqueeze(1)).sum())
            yield encoded[n, :size], log_probs, path.to(encoded.device), score

    def _first_states(self, lengths: Tensor, batch: Batch) -> Tensor:
        """States by the phones' times, or in equal parts for utterances without times, (N, T')."""
        known = torch.tensor([id not in without_times(batch) for id in batch.ids])
        edges = torch.arange(batch.targets.shape[1] + 1, device=lengths.device)
        part = lengths * self.times.step / batch.target_lengths.clamp(min=1)
        times = self.times.first - self.times.step / 2 + edges * part.unsqueeze(1)
        starts, ends = times[:, :-1], times[:, 1:]
        if batch.target_starts is not None and batch.target_ends is not None:
            known = known.to(lengths.device).unsqueeze(1)
            starts = batch.target_starts.where(known, starts)
            ends = batch.target_ends.where(known, ends)
        return self.frame_states(lengths, replace(batch, target_starts=starts, target_ends=ends))


class Sums:
    """Frame count, sum and sum of squares of each component, in double precision.

    They are summed around 0, which loses no precision as features are normalised.
    """

    def __init__(self, like: Tensor) -> None:
        self.counts = like.new_zeros(like.shape[:2], dtype=torch.float64)
        self.totals = like.new_zeros(like.shape, dtype=torch.float64)
        self.squares = like.new_zeros(like.shape, dtype=torch.float64)

    def add(self, frames: Tensor, states: Tensor, shares: Tensor) -> None:
        """Add frames (T, D), each with its state (T,) and the shares of its components (T, M)."""
        frames, shares = frames.double(), shares.double()
        self.counts.index_add_(0, states, shares)
        parts = shares.unsqueeze(2) * frames.unsqueeze(1)
        self.totals.index_add_(0, states, parts)
        self.squares.index_add_(0, states, parts * frames.unsqueeze(1))

    def moments(self) -> tuple[Tensor, Tensor, Tensor]:
        """Counts (K, M), means and variances (K, M, D); 0 for a component without frames."""
        size = self.counts.clamp(min=1e-10).unsqueeze(2)
        means = self.totals / size
        return self.counts, means, (self.squares / size - means.square()).clamp(min=0)
