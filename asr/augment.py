"""Changed copies of the training utterances, drawn from (seed, epoch, utterance) alone."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class AugmentConfig:
    """How much training utterances are changed; the defaults change nothing."""


class Augment:
    """Applies an `AugmentConfig`: every change is a function of an utterance and its seed."""

    def __init__(self, config: AugmentConfig, sample_rate: int) -> None:
        self.config = config
        self.sample_rate = sample_rate

    def waveform(
        self, waveform: Tensor, seed: int, others: Callable[[int], Tensor]
    ) -> tuple[Tensor, float]:
        """(S,) → (S',) and the factor by which speech got faster, S / S'.

        `others(n)` is the waveform of some other training utterance, for babble.
        """
        return waveform, 1.0

    def warps(self, seeds: tuple[int, ...]) -> Tensor | None:
        """Factors by which the frequency axis of each utterance is warped (VTLP), (N,)."""
        return None

    def mask(self, frames: Tensor, lengths: Tensor, seeds: tuple[int, ...]) -> Tensor:
        """Mask bands of time and of frequency: (N, T, F), (N,) → (N, T, F)."""
        return frames


def seed_of(seed: int, epoch: int, utterance_id: str) -> int:
    """The seed of one utterance in one epoch: no other utterance or worker has a part in it."""
    digest = hashlib.sha256(f"{seed} {epoch} {utterance_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
