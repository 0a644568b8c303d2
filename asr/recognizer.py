"""The recogniser: features, encoder and criterion as one module, waveforms in and phones out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr import criteria
from asr.augment import Augment
from asr.batch import Batch
from asr.criteria.base import CriterionConfig, FrameTimes, Path
from asr.encoder import Encoder, EncoderConfig, stacked_lengths
from asr.features import Features, FeaturesConfig, SpeakerMoments
from asr.phones import Vocabulary
from asr.records import Hypothesis
from asr.search import SearchConfig
from asr.search.graph import Graph
from asr.search.word_model import graph_for


@dataclass(frozen=True)
class RecognizerConfig:
    """Everything that builds a recogniser, together with a vocabulary."""

    features: FeaturesConfig
    encoder: EncoderConfig
    criterion: CriterionConfig


class Recognizer(nn.Module):
    """Features, encoder and criterion: its input are waveforms, in training and in use."""

    def __init__(self, config: RecognizerConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        self.features = Features(config.features)
        self.encoder = Encoder(config.encoder, config.features.width)
        self.criterion = criteria.build(
            config.criterion, self.encoder.output_size, len(vocabulary), self.frame_times
        )

    @property
    def frame_times(self) -> FrameTimes:
        """Samples to the middle of the first encoded frame, and from each frame to the next.

        A frame's samples are those of its own window; Δ and context are not counted.
        """
        features, stacked = self.config.features, self.config.encoder.subsampling
        hop = features.hop_samples
        return FrameTimes(features.first_middle + (stacked - 1) / 2 * hop, stacked * hop)

    def encoded_lengths(self, waveform_lengths: Tensor) -> Tensor:
        """T' for each S: (N,) → (N,)."""
        frame_lengths = self.config.features.frame_counts(waveform_lengths)
        return stacked_lengths(frame_lengths, self.config.encoder.subsampling)

    def moments_of(self, batches: Iterable[Batch]) -> SpeakerMoments | None:
        """The moments of all speakers of a split with normalization=speaker, otherwise None.

        These are the `moments` that the methods below need for batches of that split.
        """
        if self.config.features.normalization != "speaker":
            return None
        return self.features.speaker_moments(batch.to(self.device) for batch in batches)

    def encode_batch(
        self, batch: Batch, augment: Augment | None = None, moments: SpeakerMoments | None = None
    ) -> tuple[Tensor, Tensor]:
        """A batch's waveforms or cached frames, warped and masked by `augment`: → (N, T', D), (N,).

        Nothing is changed in a batch without seeds.
        """
        seeds = () if augment is None else batch.seeds
        warps = augment.warps(seeds) if augment and seeds else None
        frames, lengths = self.features(batch, warps, moments)
        if augment and seeds:
            frames = augment.mask(frames, lengths, seeds)
        encoded: tuple[Tensor, Tensor] = self.encoder(frames, lengths)
        return encoded

    def loss(
        self, batch: Batch, augment: Augment | None = None, moments: SpeakerMoments | None = None
    ) -> Tensor:
        """Loss of each utterance in nats, (N,)."""
        encoded, lengths = self.encode_batch(batch, augment, moments)
        return self.criterion.loss(encoded, lengths, batch)

    @torch.no_grad()
    def search(
        self,
        encoded: Tensor,
        lengths: Tensor,
        ids: Sequence[str],
        search: SearchConfig,
        graph: Graph | None = None,
        gate: Callable[[Tensor], Tensor] = lambda emissions: emissions,
    ) -> list[list[Hypothesis]]:
        """Hypotheses, best first, with times: (N, T', D), (N,), N → N × n-best.

        `graph` is the language model; without it, it is read from the file in `search`, if any.
        `gate` changes the emissions (N, T', E) before they are searched.
        """
        graph = graph or graph_for(search, self.vocabulary.phones)
        emissions = gate(self.criterion.emissions(encoded))
        paths = self.criterion.search(emissions, lengths, search, graph)
        return [
            [self._hypothesis(id, path) for path in n_best]
            for id, n_best in zip(ids, paths, strict=True)
        ]

    def time_s(self, frame: float) -> float:
        """The time of the middle of an encoded frame, see `frame_times`."""
        times = self.frame_times
        return (times.first + frame * times.step) / self.config.features.sample_rate

    def _hypothesis(self, id: str, path: Path) -> Hypothesis:
        return Hypothesis(
            id,
            self.vocabulary.decode(path.labels),
            path.score,
            tuple(round(self.time_s(frame), 4) for frame in path.frames),
            tuple(round(share, 4) for share in path.confidences),
            path.words,
        )

    @property
    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        return self.features.mean.device


def encode_all(
    recognizer: Recognizer, batches: Iterable[Batch]
) -> Iterator[tuple[Batch, Tensor, Tensor]]:
    """Every batch of a split, on the recogniser's device, with its encoded frames (N, T', D), (N,).

    Leaves the recogniser in evaluation mode. With normalization=speaker the batches are read twice.
    """
    recognizer.eval()
    moments = recognizer.moments_of(batches)
    for batch in batches:
        moved = batch.to(recognizer.device)
        with torch.no_grad():
            encoded, lengths = recognizer.encode_batch(moved, moments=moments)
        yield moved, encoded, lengths
