"""Waveforms to normalised feature frames, in batches and inside the model."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from asr.batch import Batch
from asr.features.config import FeaturesConfig
from asr.features.deltas import put_deltas, stack_context
from asr.features.kaldi import Kaldi
from asr.features.librosa import Librosa
from asr.features.moments import Sums, loudest
from asr.features.normalization import (
    Normalization,
    SpeakerMoments,
    normalization,
    of_speakers,
    over_ranks,
)
from asr.features.padded import by_utterance

FRONTENDS = {"kaldi": Kaldi, "librosa": Librosa}


class Features(nn.Module):
    """Waveforms → static frames → Δ → normalised → context stacked; without gradients.

    Static frames are log-mel values or MFCCs; with their Δ and ΔΔ they have `dynamic_width`, and
    with their neighbours F. Buffers `mean` and `std` (dynamic width,) are those of the training
    set, from `fit_normalization`. `moments` are those of each speaker, from `speaker_moments`:
    normalization=speaker needs them, and with any other normalisation they replace it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__()
        self.config = config
        self.frontend = FRONTENDS[config.family](config)
        self.register_buffer("mean", torch.zeros(config.dynamic_width))
        self.register_buffer("std", torch.ones(config.dynamic_width))

    @torch.no_grad()
    def forward(
        self, batch: Batch, warps: Tensor | None = None, moments: SpeakerMoments | None = None
    ) -> tuple[Tensor, Tensor]:
        """Waveforms or cached frames → (N, T, F), (N,): normalised, zero behind each end.

        `warps` (N,) stretch the frequency axis of each utterance.
        """
        config = self.config
        static, counts = self._static_of(batch, warps)
        norm = normalization(config, (self.mean, self.std))
        if moments is not None or config.normalization == "speaker":
            norm = of_speakers(batch.speakers, moments or {}, len(static))
        frames, _ = self.dynamic(static, counts, norm)
        if not config.context:
            return frames, counts

        def stack(rows: slice, wide: Tensor) -> None:
            stack_context(frames[rows, : wide.shape[1]], counts[rows], config.context, wide)

        return by_utterance(stack, counts, frames, config.width), counts

    @torch.no_grad()
    def static(
        self, waveforms: Tensor, lengths: Tensor, warps: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(N, S), (N,) → (N, T, static width), (N,): before Δ, normalisation and context.

        Zero behind each utterance's end. `warps` (N,) are VTLN factors as Kaldi's, rounded to
        hundredths: above 1 the spectrum moves up, as for a shorter vocal tract.
        """
        with torch.autocast(waveforms.device.type, enabled=False):
            return self.frontend(waveforms, lengths, warps), self.config.frame_counts(lengths)

    @torch.no_grad()
    def fit_normalization(self, batches: Iterable[Batch]) -> None:
        """Set mean and std to those of all frames of the training set, with normalization=global.

        With normalization=running to those of the loud frames of all its utterances. With another
        normalisation nothing is read.
        """
        if self.config.normalization not in ("global", "running"):
            return
        sums = {"": Sums()}
        for batch in batches:
            for frames in self._frames_of(batch):
                own = frames.cpu().numpy()
                if self.config.normalization == "running":
                    own = own[loudest(own, np.ones(len(own), bool), self.config)]
                sums[""].add(own)
        sums = over_ranks(sums)
        if not sums[""].count:
            raise ValueError("normalisation needs at least one frame")
        for buffer, values in zip((self.mean, self.std), sums[""].moments(), strict=True):
            buffer.copy_(torch.from_numpy(values))

    @torch.no_grad()
    def speaker_moments(self, batches: Iterable[Batch]) -> SpeakerMoments:
        """Mean and std (dynamic width,) of all frames of each speaker in these batches."""
        sums: dict[str, Sums] = defaultdict(Sums)
        for batch in batches:
            for speaker, frames in zip(batch.speakers, self._frames_of(batch), strict=True):
                sums[speaker].add(frames.cpu().numpy())
        moments = ((speaker, one.moments()) for speaker, one in over_ranks(sums).items())
        device = self.mean.device
        return {
            speaker: (torch.from_numpy(mean).to(device), torch.from_numpy(std).to(device))
            for speaker, (mean, std) in moments
        }

    def _static_of(self, batch: Batch, warps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if batch.frames is None:
            return self.static(batch.waveforms, batch.waveform_lengths, warps)
        if warps is not None:
            raise ValueError("frames from a cache cannot be warped; set cache='' or augment.vtlp=0")
        return batch.frames, self.config.frame_counts(batch.waveform_lengths)

    def _frames_of(self, batch: Batch) -> list[Tensor]:
        """The frames of each utterance, with Δ: N × (T, dynamic width)."""
        frames, counts = self.dynamic(*self._static_of(batch))
        return [one[:count] for one, count in zip(frames, counts.tolist(), strict=True)]

    def dynamic(
        self, static: Tensor, counts: Tensor, norm: Normalization | None = None
    ) -> tuple[Tensor, Tensor]:
        """Static frames with Δ, normalised by `norm` if given: → (N, T, dynamic width), (N,)."""
        width = self.config.static_width

        def fill(rows: slice, frames: Tensor) -> None:
            frames[:, :, :width] = static[rows, : frames.shape[1]]
            put_deltas(frames, counts[rows], width, self.config.delta_window)
            if norm is not None:
                mean, std = norm(frames, counts[rows], rows)
                frames.sub_(mean).div_(std)

        return by_utterance(fill, counts, static, self.config.dynamic_width), counts
