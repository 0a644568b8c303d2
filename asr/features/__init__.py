"""Waveforms to normalised feature frames, in batches and inside the model.

Two families, proved against what they are named after (docs/features.md). They have hardly a number
in common, so a model is only ever used with the features that it was trained on.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from asr.batch import Batch
from asr.errors import DataError
from asr.features.base import FeaturesConfig, by_utterance, frame_counts
from asr.features.deltas import delta, put_deltas, stack_context
from asr.features.kaldi import INT16_SCALE, Kaldi
from asr.features.librosa import Librosa
from asr.features.normalization import Moments, Sums, of_active, of_utterances, sliding

__all__ = ["INT16_SCALE", "Features", "FeaturesConfig", "delta"]

FAMILIES = {"kaldi": Kaldi, "librosa": Librosa}


class Features(nn.Module):
    """Waveforms → static frames → Δ → normalised → stacked; no gradient comes back.

    Buffers `mean` and `std` are those of the training set, learned by `fit_normalization`.
    `speakers` holds those of each speaker of a split, from `fit_speakers`; no checkpoint keeps it.
    """

    mean: Tensor  # (dynamic_width,)
    std: Tensor

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__()
        self.config = config
        self.frontend = FAMILIES[config.family](config)
        self.register_buffer("mean", torch.zeros(config.dynamic_width))
        self.register_buffer("std", torch.ones(config.dynamic_width))
        self.speakers: dict[str, Moments] = {}

    def frame_counts(self, waveform_lengths: Tensor) -> Tensor:
        """T for each S: (N,) → (N,)."""
        return frame_counts(self.config, waveform_lengths)

    @torch.no_grad()
    def forward(
        self, waveforms: Tensor, lengths: Tensor, speakers: Sequence[str] = ()
    ) -> tuple[Tensor, Tensor]:
        """(N, S), (N,) → (N, T, F), (N,): normalised; frames behind an utterance's end are zero.

        `speakers` N are needed where features are normalised by speaker, and only there.
        """
        return self._finished(*self.static(waveforms, lengths), speakers)

    @torch.no_grad()
    def of_batch(self, batch: Batch, warps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `forward`, of a batch; `warps` (N,) stretch the frequency axis of each utterance.

        Takes `batch.frames`, static frames from a cache, where there are any.
        """
        return self._finished(*self._static_of(batch, warps), batch.speakers)

    @torch.no_grad()
    def static(
        self, waveforms: Tensor, lengths: Tensor, warps: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(N, S), (N,) → (N, T, static width), (N,): before Δ, normalisation and context.

        Frames behind an utterance's end are zero. `warps` are VTLN factors as Kaldi's, taken
        to the nearest hundredth: above 1 the spectrum moves up, as of a shorter vocal tract.
        """
        with torch.autocast(waveforms.device.type, enabled=False):
            return self.frontend(waveforms, lengths, warps), self.frame_counts(lengths)

    @torch.no_grad()
    def raw(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `static`, with Δ: (N, S), (N,) → (N, T, dynamic width), (N,)."""
        return self._dynamic(*self.static(waveforms, lengths))

    @torch.no_grad()
    def fit_normalization(self, batches: Iterable[Batch]) -> None:
        """Set mean and std to those of all frames of the training set, if they are asked for."""
        if self.config.normalization != "global":
            return
        sums = Sums()
        for batch in batches:
            for frames in self._frames_of(batch):
                sums.add(frames)
        if not sums.count:
            raise ValueError("normalisation needs at least one frame")
        mean, std = sums.moments()
        self.mean.copy_(mean)
        self.std.copy_(std)

    @torch.no_grad()
    def fit_speakers(self, batches: Iterable[Batch]) -> None:
        """Set each speaker's mean and std to those in these batches, if they are asked for.

        The batches are all of a split: it is the one that is normalised until the next call.
        """
        if self.config.normalization != "speaker":
            return
        sums: dict[str, Sums] = {}
        for batch in batches:
            for speaker, frames in zip(batch.speakers, self._frames_of(batch), strict=True):
                sums.setdefault(speaker, Sums()).add(frames)
        self.speakers = {
            speaker: (mean.float(), std.float())
            for speaker, (mean, std) in ((name, s.moments()) for name, s in sums.items())
        }

    @contextmanager
    def speakers_of(self, batches: Iterable[Batch]) -> Iterator[None]:
        """`fit_speakers` for a while: afterwards the speakers are those that they were before."""
        before = self.speakers
        self.fit_speakers(batches)
        try:
            yield
        finally:
            self.speakers = before

    def _static_of(self, batch: Batch, warps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if batch.frames is None:
            return self.static(batch.waveforms, batch.waveform_lengths, warps)
        if warps is not None:
            raise ValueError("frames from a cache cannot be warped; do without one of the two")
        return batch.frames, self.frame_counts(batch.waveform_lengths)

    def _dynamic(self, static: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        def fill(rows: slice, frames: Tensor) -> None:
            self._fill(static[rows], counts[rows], frames)

        return by_utterance(fill, counts, static, self.config.dynamic_width), counts

    def _fill(self, static: Tensor, counts: Tensor, frames: Tensor) -> None:
        """Put static frames and their Δ into `frames` (N, T, dynamic width)."""
        width = self.config.static_width
        frames[:, :, :width] = static[:, : frames.shape[1]]
        put_deltas(frames, counts, width, self.config.delta_window)

    def _frames_of(self, batch: Batch) -> list[Tensor]:
        """The frames of each utterance, with Δ: N × (T, dynamic width)."""
        frames, counts = self._dynamic(*self._static_of(batch))
        return [one[:count] for one, count in zip(frames, counts.tolist(), strict=True)]

    def _finished(
        self, static: Tensor, counts: Tensor, speakers: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        config = self.config
        if config.normalization == "speaker":
            self._require_known(speakers, len(static))

        def normalized(rows: slice, frames: Tensor) -> None:
            self._fill(static[rows], counts[rows], frames)
            if config.normalization != "none":
                mean, std = self._moments(frames, counts[rows], speakers[rows])
                frames.sub_(mean).div_(std)

        def stacked(rows: slice, wide: Tensor) -> None:
            stack_context(frames[rows, : wide.shape[1]], counts[rows], config.context, wide)

        frames = by_utterance(normalized, counts, static, config.dynamic_width)
        if config.context:
            frames = by_utterance(stacked, counts, frames, config.width)
        return frames, counts

    def _moments(self, frames: Tensor, counts: Tensor, speakers: Sequence[str]) -> Moments:
        match self.config.normalization:
            case "utterance":
                return of_utterances(frames, counts)
            case "active":
                bins = slice(self.config.energy, self.config.static_width)
                return of_active(frames, counts, bins, self.config.active_db)
            case "sliding":
                return sliding(frames, counts, self.config.cmn_window)
            case "speaker":
                moments = [self.speakers[speaker] for speaker in speakers]
                mean, std = (torch.stack(part).unsqueeze(1) for part in zip(*moments, strict=True))
                return mean, std
        return self.mean, self.std

    def _require_known(self, speakers: Sequence[str], expected: int) -> None:
        if len(speakers) != expected:
            raise ValueError(
                f"features.normalization is 'speaker': {expected} utterances need the names of "
                f"their speakers, found {len(speakers)}"
            )
        for speaker in speakers:
            if speaker not in self.speakers:
                raise DataError(
                    f"speaker {speaker!r}: no frames to normalise by; give all utterances of the "
                    f"split to Features.fit_speakers first"
                )
