"""The recogniser: features, encoder and criterion as one module, waveforms in and phones out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr import criteria
from asr.batch import Batch
from asr.criteria import CriterionConfig, SearchConfig
from asr.encoder import Encoder, EncoderConfig
from asr.features import Features, FeaturesConfig
from asr.phones import Vocabulary
from asr.records import Hypothesis


@dataclass(frozen=True)
class RecognizerConfig:
    """All that is needed, with a vocabulary, to build a recogniser."""

    features: FeaturesConfig
    encoder: EncoderConfig
    criterion: CriterionConfig


class Recognizer(nn.Module):
    """Waveforms in: training and use cannot differ in their features."""

    def __init__(self, config: RecognizerConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        self.features = Features(config.features)
        self.encoder = Encoder(config.encoder, config.features.width)
        self.criterion = criteria.build(config.criterion, self.encoder.output_size, len(vocabulary))

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, S), (N,) → (N, T', D), (N,)."""
        frames, frame_lengths = self.features(waveforms, lengths)
        encoded: tuple[Tensor, Tensor] = self.encoder(frames, frame_lengths)
        return encoded

    def loss(self, batch: Batch) -> Tensor:
        """Loss of each utterance in nats, (N,)."""
        encoded, lengths = self.encode(batch.waveforms, batch.waveform_lengths)
        return self.criterion.loss(encoded, lengths, batch)

    @torch.no_grad()
    def transcribe(
        self, waveforms: Tensor, lengths: Tensor, ids: Sequence[str], search: SearchConfig
    ) -> list[list[Hypothesis]]:
        """Hypotheses of each utterance, best first: (N, S), (N,) → N × n-best.

        The recogniser must be in evaluation mode.
        """
        encoded, encoded_lengths = self.encode(waveforms, lengths)
        return [
            [Hypothesis(id, self.vocabulary.decode(path.labels), path.score) for path in paths]
            for id, paths in zip(
                ids, self.criterion.decode(encoded, encoded_lengths, search), strict=True
            )
        ]

    @property
    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        return self.features.mean.device


def transcribe_all(
    recognizer: Recognizer, batches: Iterable[Batch], search: SearchConfig
) -> dict[str, Hypothesis]:
    """The best hypothesis of every utterance, by id; leaves the recogniser in evaluation mode."""
    recognizer.eval()
    best: dict[str, Hypothesis] = {}
    for batch in batches:
        on_device = batch.to(recognizer.device)
        found = recognizer.transcribe(
            on_device.waveforms, on_device.waveform_lengths, batch.ids, search
        )
        best |= {id: hypotheses[0] for id, hypotheses in zip(batch.ids, found, strict=True)}
    return best
