"""The RNN transducer (Graves 2012) with the joint network of Graves, Mohamed & Hinton (2013).

Each node of a lattice of T' × (U + 1) has a distribution over blank, which leads to the next frame,
and the phones, of which the right one leads to the next position. It depends on the frame and,
unlike with CTC, on the phones before. The loss sums over all paths through the lattice, each of T'
blanks and U phones.
"""

import copy
import logging
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.architecture import TransducerConfig
from asr.batch import Batch, length_mask, pad
from asr.criteria.base import Criterion, Split
from asr.criteria.transducer import lattice
from asr.criteria.transducer.network import Joint, Prediction
from asr.criteria.transducer.search import BeamSearch, greedy
from asr.search import SearchConfig
from asr.search.decoders import Array, Decoder, require_numbers
from asr.search.graph import Graph, no_language_model
from asr.search.paths import Path, Span

log = logging.getLogger(__name__)

PRETRAINING_BATCH = 32  # transcripts
PRETRAINING_RATE = 2e-3  # of Adam

Transcripts = Sequence[Sequence[int]]  # labels


class Transducer(Criterion):
    """Prediction and joint network with their loss, searches and alignment."""

    def __init__(self, config: TransducerConfig, input_size: int, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.vocabulary_size = vocabulary_size
        self.prediction = Prediction(config.cell, config.hidden, vocabulary_size)
        self.joint = Joint(input_size, config.hidden, config.joint, vocabulary_size)

    def loss(self, encoded: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Lattices are built piece by piece, so that at most `config.lattice` is in memory."""
        self.require_labels(batch, self.vocabulary_size)  # torchaudio checks neither
        self.require_frames(lengths, torch.ones_like(lengths), batch.ids)
        frames = self.joint.of_frames(encoded)
        prefixes = self.joint.of_prefixes(self.prediction(batch.targets, batch.target_lengths))
        labels = (lengths, batch.targets, batch.target_lengths)
        return lattice.loss(self.joint, frames, prefixes, labels, self.config.lattice)

    @property
    def decoder(self) -> "TransducerDecoder":
        return TransducerDecoder(self)

    def emissions(self, encoded: Tensor) -> Tensor:
        return self.joint.of_frames(encoded)

    @torch.no_grad()
    def search(
        self, emissions: Tensor, lengths: Tensor, search: SearchConfig, graph: Graph | None = None
    ) -> list[list[Path]]:
        """`emissions` are the joint network's part of each frame, (N, T', J).

        With a beam a blank penalty has no effect: every path has as many blanks as frames.
        """
        require_numbers(emissions.detach().cpu().numpy())
        if search.beam == 1:
            paths = greedy(
                *(self.prediction, self.joint, emissions, lengths),
                *(self.config.phones_per_frame, search.blank_penalty),
            )
            return [[path] for path in paths]
        graph = graph or no_language_model(self.vocabulary_size)
        beam = BeamSearch(self.prediction, self.joint, self.config.phones_per_frame, search, graph)
        return beam.paths(emissions, lengths)

    @torch.no_grad()
    def align(
        self, encoded: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> list[list[Span]]:
        """By the likeliest path through each lattice with at most one label in a frame.

        A span is the one frame in which its label is emitted.
        """
        self.require_frames(lengths, self.frames_needed(targets, target_lengths))
        return self.align_emissions(self.emissions(encoded), lengths, targets, target_lengths)

    def align_emissions(
        self, frames: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> list[list[Span]]:
        """`align` from emissions, (N, T', J)."""
        prefixes = self.joint.of_prefixes(self.prediction(targets, target_lengths))
        spans = []
        counts = zip(lengths.tolist(), target_lengths.tolist(), strict=True)
        for n, (length, phones) in enumerate(counts):
            operands = frames[n, :length], prefixes[n, : phones + 1], targets[n, :phones]
            spans.append(lattice.best_spans(self.joint, *operands, self.config.lattice))
        return spans

    def prepare(self, train: Split, dev: Split) -> None:
        if self.config.pretraining:
            self.pretrain(list(train.transcripts), list(dev.transcripts))

    def pretrain(self, transcripts: Transcripts, held_out: Transcripts) -> float:
        """Train the prediction network to predict the next phone, for `config.pretraining` epochs.

        Keeps the weights with the lowest perplexity on `held_out`, and returns that perplexity. The
        output layer, whose blank is the end, is discarded (Graves, Mohamed & Hinton 2013). Draws
        from torch's generator.
        """
        head = nn.Linear(
            self.config.hidden, self.vocabulary_size, device=self.joint.output.weight.device
        )
        weights = [*self.prediction.parameters(), *head.parameters()]
        optimizer = torch.optim.Adam(weights, lr=PRETRAINING_RATE)
        lowest, best = math.inf, self.prediction.state_dict()
        for epoch in range(1, self.config.pretraining + 1):
            order = torch.randperm(len(transcripts)).tolist()
            for begin in range(0, len(order), PRETRAINING_BATCH):
                chosen = order[begin : begin + PRETRAINING_BATCH]
                optimizer.zero_grad(set_to_none=True)
                self._surprise(head, [transcripts[n] for n in chosen]).mean().backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            with torch.no_grad():
                perplexity = float(self._surprise(head, held_out).mean().exp())
            log.info("prediction network, epoch %d: perplexity %.2f", epoch, perplexity)
            if perplexity < lowest:
                lowest, best = perplexity, copy.deepcopy(self.prediction.state_dict())
        self.prediction.load_state_dict(best)
        return lowest

    def _surprise(self, head: nn.Linear, transcripts: Transcripts) -> Tensor:
        """−log P of each phone and each end, in nats: N × U → (phones + N,)."""
        device = head.weight.device
        targets, lengths = (
            part.to(device)
            for part in pad([torch.tensor(one, dtype=torch.long) for one in transcripts])
        )
        real = length_mask(lengths + 1, targets.shape[1] + 1)
        logits = head(self.prediction(targets, lengths))
        return F.cross_entropy(logits[real], F.pad(targets, (0, 1))[real], reduction="none")


class TransducerDecoder(Decoder):
    """One utterance, from the joint network's part of each frame, (T', J)."""

    def __init__(self, criterion: Transducer) -> None:
        self.criterion = criterion

    def search(
        self, emissions: Array, search: SearchConfig, graph: Graph | None = None
    ) -> list[Path]:
        return self.criterion.search(*self._batch(emissions), search, graph)[0]

    @torch.no_grad()
    def align(self, emissions: Array, labels: Sequence[int]) -> list[Span]:
        self.require_frames(len(emissions), labels)
        return self.criterion.align_emissions(*self._batch(emissions), *self._targets(labels))[0]

    @torch.no_grad()
    def log_likelihood(self, emissions: Array, labels: Sequence[int]) -> float:
        if len(emissions) < self.frames_needed(labels):
            return -math.inf
        criterion, (frames, lengths) = self.criterion, self._batch(emissions)
        targets, counts = self._targets(labels)
        prefixes = criterion.joint.of_prefixes(criterion.prediction(targets, counts))
        parts = (lengths, targets, counts)
        limit = criterion.config.lattice
        return -float(lattice.loss(criterion.joint, frames, prefixes, parts, limit))

    def _batch(self, emissions: Array) -> tuple[Tensor, Tensor]:
        device = self.criterion.joint.output.weight.device
        frames = torch.from_numpy(emissions).to(device)[None]
        return frames, torch.tensor([len(emissions)], device=device)

    def _targets(self, labels: Sequence[int]) -> tuple[Tensor, Tensor]:
        device = self.criterion.joint.output.weight.device
        row = torch.tensor([*labels], dtype=torch.long, device=device)
        return row[None], torch.tensor([len(labels)], device=device)
