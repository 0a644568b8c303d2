"""The recogniser: features, encoder and criterion as one module, waveforms in and phones out."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from asr import criteria
from asr.architecture import RecognizerConfig
from asr.augment import Augment
from asr.batch import Batch
from asr.encoder import Encoder, stacked_lengths
from asr.features.layer import Features
from asr.features.normalization import SpeakerMoments
from asr.phones import Vocabulary
from asr.records import Hypothesis
from asr.search import SearchConfig
from asr.search.decoders import hypothesis
from asr.search.graph import Graph
from asr.search.word_model import graph_for


class Recognizer(nn.Module):
    """Features, encoder and criterion: its input are waveforms, in training and in use."""

    def __init__(self, config: RecognizerConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        self.features = Features(config.features)
        self.encoder = Encoder(config.encoder, config.features.width)
        self.criterion = criteria.build(
            config.criterion, self.encoder.output_size, len(vocabulary), config.frame_times
        )

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
    ) -> list[list[Hypothesis]]:
        """Hypotheses, best first, with times: (N, T', D), (N,), N → N × n-best.

        `graph` is the language model; without it, it is read from the file in `search`, if any.
        """
        graph = graph or graph_for(search, self.vocabulary.phones)
        paths = self.criterion.decode(encoded, lengths, search, graph)
        return [
            [hypothesis(id, path, self.vocabulary, self.config) for path in n_best]
            for id, n_best in zip(ids, paths, strict=True)
        ]

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


def transcribe_all(
    recognizer: Recognizer,
    batches: Iterable[Batch],
    search: SearchConfig,
    graph: Graph | None = None,
) -> dict[str, Hypothesis]:
    """The best hypothesis of every utterance, by id; leaves the recogniser in evaluation mode."""
    return {
        id: n_best[0]
        for batch, encoded, lengths in encode_all(recognizer, batches)
        for id, n_best in zip(
            batch.ids, recognizer.search(encoded, lengths, batch.ids, search, graph), strict=True
        )
    }
