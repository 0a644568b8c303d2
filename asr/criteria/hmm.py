"""Hidden Markov models of phones, without the densities of their states (Rabiner 1989)."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from asr.architecture import FrameTimes, HMMConfig
from asr.batch import Batch, length_mask
from asr.criteria.base import Criterion
from asr.errors import DataError
from asr.search import SearchConfig
from asr.search.decoders import NO_PHONE, HMMDecoder


class HMM(Criterion):
    """Topology and states of frames; derived classes give the scores of the K states.

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

    @property
    @abstractmethod
    def decoder(self) -> HMMDecoder: ...

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
