"""The recogniser: features, encoder and criterion as one module, waveforms in and phones out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr import criteria
from asr.augment import Augment
from asr.batch import Batch
from asr.criteria import CriterionConfig, FrameTimes, Path
from asr.encoder import Encoder, EncoderConfig, stacked_lengths
from asr.features import Features, FeaturesConfig
from asr.phones import Vocabulary
from asr.records import Hypothesis
from asr.search import SearchConfig
from asr.search.graph import Graph, load_graph


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
        self.criterion = criteria.build(
            config.criterion, self.encoder.output_size, len(vocabulary), self.frame_times
        )

    @property
    def frame_times(self) -> FrameTimes:
        """By the samples that an encoded frame was made of, itself and no neighbours."""
        features, stacked = self.config.features, self.config.encoder.subsampling
        first = 0.0  # librosa's windows begin half outside
        if features.family == "kaldi":
            first = (features.window_samples if features.snip_edges else features.hop_samples) / 2
        hop = features.hop_samples
        return FrameTimes(first + (stacked - 1) / 2 * hop, stacked * hop)

    def encoded_lengths(self, waveform_lengths: Tensor) -> Tensor:
        """T' for each S: (N,) → (N,)."""
        frame_lengths = self.features.frame_counts(waveform_lengths)
        return stacked_lengths(frame_lengths, self.config.encoder.subsampling)

    def encode(
        self, waveforms: Tensor, lengths: Tensor, speakers: Sequence[str] = ()
    ) -> tuple[Tensor, Tensor]:
        """(N, S), (N,) → (N, T', D), (N,); `speakers` N where features are normalised by them."""
        frames, frame_lengths = self.features(waveforms, lengths, speakers)
        encoded: tuple[Tensor, Tensor] = self.encoder(frames, frame_lengths)
        return encoded

    def encode_batch(self, batch: Batch, augment: Augment | None = None) -> tuple[Tensor, Tensor]:
        """As `encode`, of a batch's waveforms or cached frames: → (N, T', D), (N,)."""
        if augment is None or batch.seeds is None:
            frames, lengths = self.features.of_batch(batch)
        else:
            frames, lengths = self.features.of_batch(batch, augment.warps(batch.seeds))
            frames = augment.mask(frames, lengths, batch.seeds)
        encoded: tuple[Tensor, Tensor] = self.encoder(frames, lengths)
        return encoded

    def loss(self, batch: Batch, augment: Augment | None = None) -> Tensor:
        """Loss of each utterance in nats, (N,)."""
        encoded, lengths = self.encode_batch(batch, augment)
        return self.criterion.loss(encoded, lengths, batch)

    @torch.no_grad()
    def transcribe(
        self, waveforms: Tensor, lengths: Tensor, ids: Sequence[str], search: SearchConfig
    ) -> list[list[Hypothesis]]:
        """Hypotheses of each utterance, best first: (N, S), (N,) → N × n-best.

        The recogniser must be in evaluation mode.
        """
        return self.search(*self.encode(waveforms, lengths), ids, search)

    @torch.no_grad()
    def search(
        self,
        encoded: Tensor,
        lengths: Tensor,
        ids: Sequence[str],
        search: SearchConfig,
        graph: Graph | None = None,
    ) -> list[list[Hypothesis]]:
        """As `transcribe`, of encoded frames: (N, T', D), (N,) → N × n-best.

        `graph` is the language model, where it is not in the file that `search` names.
        """
        if graph is None and search.language_model:
            graph = load_graph(search.language_model, self.vocabulary.phones)
        found = self.criterion.decode(encoded, lengths, search, graph)
        return [
            [self._hypothesis(id, path) for path in paths]
            for id, paths in zip(ids, found, strict=True)
        ]

    def edge_s(self, frame: int) -> float:
        """The time at which an encoded frame begins and the one before it ends."""
        return self.time_s(frame - 0.5)

    def time_s(self, frame: float) -> float:
        """The middle of the samples that an encoded frame was made of, itself and no neighbours."""
        times = self.frame_times
        return (times.first + frame * times.step) / self.config.features.sample_rate

    def _hypothesis(self, id: str, path: Path) -> Hypothesis:
        return Hypothesis(
            id,
            self.vocabulary.decode(path.labels),
            path.score,
            path.frames and tuple(round(self.time_s(frame), 4) for frame in path.frames),
            path.confidences and tuple(round(found, 4) for found in path.confidences),
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
    """Every batch on the recogniser's device, with its encoded frames (N, T', D), (N,).

    Leaves the recogniser in evaluation mode. The batches are all of a split, and are gone through
    twice where features are normalised by speaker.
    """
    recognizer.eval()
    with recognizer.features.speakers_of(batch.to(recognizer.device) for batch in batches):
        for batch in batches:
            moved = batch.to(recognizer.device)
            with torch.no_grad():
                encoded, lengths = recognizer.encode_batch(moved)
            yield moved, encoded, lengths


def transcribe_all(
    recognizer: Recognizer,
    batches: Iterable[Batch],
    search: SearchConfig,
    graph: Graph | None = None,
) -> dict[str, Hypothesis]:
    """The best hypothesis of every utterance, by id; leaves the recogniser in evaluation mode."""
    best: dict[str, Hypothesis] = {}
    for batch, encoded, lengths in encode_all(recognizer, batches):
        found = recognizer.search(encoded, lengths, batch.ids, search, graph)
        best |= {id: hypotheses[0] for id, hypotheses in zip(batch.ids, found, strict=True)}
    return best
