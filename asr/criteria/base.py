"""The interface of a criterion: head, loss, search and alignment of one method."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from asr.batch import Batch, length_mask
from asr.errors import DataError
from asr.search import SearchConfig
from asr.search.decoders import Decoder
from asr.search.graph import Graph
from asr.search.paths import Path, Span


@dataclass(frozen=True)
class Split:
    """A split for `Criterion.prepare`; each part may be iterated once."""

    transcripts: Iterable[Sequence[int]]  # labels
    batches: Iterable[tuple[Batch, Tensor]]  # each with T' of its utterances, (N,)


class Criterion(nn.Module, ABC):
    """Head, loss and search of one method."""

    def prepare(self, train: Split, dev: Split) -> None:
        """Learn what needs no encoded frames, before the first epoch; by default nothing."""

    def begin_with(self, other: "Criterion", labels: Sequence[int | None]) -> None:
        """Initialise the weights from a criterion over other phones; by default nothing.

        `labels` gives, for each label of this criterion, its counterpart in `other`, if any.
        """

    @abstractmethod
    def loss(self, encoded: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Loss of each utterance in nats: (N, T', D), (N,) → (N,); the caller reduces."""

    def decode(
        self, encoded: Tensor, lengths: Tensor, search: SearchConfig, graph: Graph | None = None
    ) -> list[list[Path]]:
        """Best paths of each utterance, best first: (N, T', D), (N,) → N × n-best.

        `graph` is that of `search.language_model` or `search.words`, if one is set.
        """
        return self.search(self.emissions(encoded), lengths, search, graph)

    @property
    @abstractmethod
    def decoder(self) -> Decoder:
        """Search and alignment of one utterance, with the present weights."""

    @abstractmethod
    def emissions(self, encoded: Tensor) -> Tensor:
        """What `search` reads of each frame, and `asr tune` keeps: (N, T', D) → (N, T', E)."""

    def search(
        self, emissions: Tensor, lengths: Tensor, search: SearchConfig, graph: Graph | None = None
    ) -> list[list[Path]]:
        """As `decode`, from emissions: (N, T', E), (N,) → N × n-best.

        Torch's threads share the utterances.
        """
        decoder = self.decoder
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            return list(
                threads.map(
                    lambda one: decoder.search(one, search, graph), each(emissions, lengths)
                )
            )

    def align(
        self, encoded: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> list[list[Span]]:
        """The frames of each label of known transcripts: (N, T', D), (N,), (N, U), (N,) → N × U.

        As `Decoder.align`.
        """
        decoder = self.decoder
        self.require_frames(lengths, self.frames_needed(targets, target_lengths))
        emissions = each(self.emissions(encoded), lengths)
        labels = (
            row[:count]
            for row, count in zip(targets.tolist(), target_lengths.tolist(), strict=True)
        )
        return [decoder.align(one, row) for one, row in zip(emissions, labels, strict=True)]

    def frames_needed(self, targets: Tensor, target_lengths: Tensor) -> Tensor:
        """The fewest frames with which labels can be aligned: (N, U), (N,) → (N,)."""
        decoder = self.decoder
        rows = zip(targets.tolist(), target_lengths.tolist(), strict=True)
        needed = [decoder.frames_needed(row[:count]) for row, count in rows]
        return target_lengths.new_tensor(needed)

    def require_frames(self, lengths: Tensor, needed: Tensor, ids: Sequence[str] = ()) -> None:
        """Raise `DataError` that names each utterance with fewer frames than needed: (N,), (N,)."""
        short = (lengths < needed).nonzero().flatten().tolist()
        if short:
            named = ", ".join(
                f"{ids[n] if ids else f'utterance {n} of the batch'} (needs {int(needed[n])} "
                f"frames, has {int(lengths[n])})"
                for n in short
            )
            raise DataError(f"too short for the labels: {named}; lower encoder.subsampling")

    def require_labels(self, batch: Batch, vocabulary_size: int) -> None:
        """Raise `DataError` unless all targets are labels 1…V − 1."""
        real = length_mask(batch.target_lengths, batch.targets.shape[1])
        foreign = ((batch.targets < 1) | (batch.targets >= vocabulary_size)) & real
        if foreign.any():
            n, u = foreign.nonzero()[0].tolist()
            raise DataError(
                f"{batch.ids[n]}: label {int(batch.targets[n, u])} in the targets, expected "
                f"1…{vocabulary_size - 1}; train with the vocabulary that the model was made for"
            )

    def tunable(self, search: SearchConfig) -> tuple[str, ...]:
        """The keys of `search` that `asr tune` tries on dev."""
        if search.beam == 1:
            return ("blank_penalty",)
        if search.words:
            return ("lm_weight", "bonus", "word_bonus", "variant", "unknown")
        return ("lm_weight", "bonus") if search.language_model else ("bonus",)


def each(padded: Tensor, lengths: Tensor) -> list[npt.NDArray[np.float32]]:
    """Each utterance of a batch in numpy: (N, T', E), (N,) → N × (T', E)."""
    rows = padded.detach().float().cpu().numpy()
    return [row[:length] for row, length in zip(rows, lengths.tolist(), strict=True)]
