"""The framewise hybrid: a network's state posteriors in place of an HMM's densities.

The network is trained by cross-entropy on the state of each frame, given by the phones' times. A
posterior divided by the state's prior is the state's likelihood up to a constant of the frame
(Bourlard & Morgan 1994), which is all that the HMM needs.
"""

import logging

import torch
from torch import Tensor, nn

from asr.architecture import FrameTimes, FramewiseConfig
from asr.batch import Batch, length_mask
from asr.criteria.base import Split
from asr.criteria.hmm import HMM, require_times, without_times
from asr.processor import ranks
from asr.search.decoders import FramewiseDecoder

log = logging.getLogger(__name__)

TOO_SHORT = 1 / 3  # share of training phones too short for the topology that causes a warning


class Framewise(HMM):
    """A linear layer to K columns: label 0, no phone, and the states of all phones."""

    def __init__(
        self, config: FramewiseConfig, input_size: int, vocabulary_size: int, times: FrameTimes
    ) -> None:
        super().__init__(config, vocabulary_size, times)
        self.head = nn.Linear(input_size, self.columns)

    def prepare(self, train: Split, dev: Split) -> None:
        """Count the training frames of each state; all utterances must have times.

        Logs a warning where a third of the training phones are too short for the topology.
        """
        without = [id for batch, _ in dev.batches for id in without_times(batch)]
        occupancy = torch.zeros_like(self.occupancy)
        least = self.config.states * self.config.duration_floor
        short, phones = 0, 0
        for batch, lengths in train.batches:
            without += without_times(batch)
            if without or batch.target_ends is None or batch.target_starts is None:
                continue
            states = self.frame_states(lengths, batch)
            real = length_mask(lengths, states.shape[1])
            occupancy += torch.bincount(states[real], minlength=len(occupancy))
            samples = batch.target_ends - batch.target_starts
            samples = samples[length_mask(batch.target_lengths, samples.shape[1])]
            short += int((samples < least * self.times.step).sum())
            phones += len(samples)
        require_times([id for of_rank in ranks.gather(without) for id in of_rank])
        ranks.sum_([occupancy])
        short, phones = map(sum, zip(*ranks.gather((short, phones)), strict=True))
        if short > TOO_SHORT * phones:
            log.warning(
                "%.0f %% of the training phones are shorter than %d frames, the minimum with "
                "criterion.states=%d and criterion.duration_floor=%d; lower these or "
                "encoder.subsampling",
                *(100 * short / phones, least, self.config.states, self.config.duration_floor),
            )
        self.occupancy.copy_(occupancy)

    def loss(self, encoded: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy, summed over the frames of each utterance."""
        states = self.frame_states(lengths, batch)
        surprise = -self.emissions(encoded).gather(2, states.unsqueeze(2)).squeeze(2)
        return surprise.masked_fill(~length_mask(lengths, states.shape[1]), 0.0).sum(dim=1)

    def emissions(self, encoded: Tensor) -> Tensor:
        return self.head(encoded).log_softmax(dim=2)  # type: ignore[no-any-return]

    @property
    def decoder(self) -> FramewiseDecoder:
        return FramewiseDecoder(self.config, self.occupancy.cpu().numpy())
