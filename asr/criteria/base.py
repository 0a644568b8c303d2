"""The two verbs behind which a method of training and search lives: `loss` and `decode`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from asr.batch import Batch


@dataclass(frozen=True)
class CriterionConfig:
    """Base of every criterion's configuration; `name` finds the criterion of a checkpoint."""

    name: str


@dataclass(frozen=True)
class SearchConfig:
    """How hypotheses are searched for."""

    blank_penalty: float = 0.0  # nats taken from the blank in each frame


@dataclass(frozen=True)
class Path:
    """One result of a search: labels without blanks, and their log-probability (natural)."""

    labels: tuple[int, ...]
    score: float


class Criterion(nn.Module, ABC):
    """Head, loss and search of one method."""

    @abstractmethod
    def loss(self, encoded: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Loss of each utterance in nats: (N, T', D), (N,) → (N,). The caller reduces."""

    @abstractmethod
    def decode(self, encoded: Tensor, lengths: Tensor, search: SearchConfig) -> list[list[Path]]:
        """Best paths of each utterance, best first: (N, T', D), (N,) → N × n-best."""
