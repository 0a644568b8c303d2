"""The phases of a training: learning rate, early stopping, and which epoch is kept."""

import math
from dataclasses import dataclass
from typing import Any

from asr.config import TrainingConfig

History = list[dict[str, Any]]  # one record for each finished epoch


def best(records: History, criterion: str = "dev_per") -> dict[str, Any]:
    """The first record with the lowest value of `criterion`."""
    return min(records, key=lambda record: record[criterion])


def last_phase(history: History) -> History:
    """The records of the phase that the last epoch belongs to."""
    return [record for record in history if record["phase"] == history[-1]["phase"]]


@dataclass(frozen=True)
class Phase:
    """A part of training, which ends when its best epoch has not been beaten for long enough.

    All decisions are functions of the history, so a continued run makes the same ones.
    """

    number: int
    training: TrainingConfig
    weight_noise: float = 0.0  # standard deviation
    criterion: str = "dev_per"  # key of the history; the best epoch has its lowest value
    keeps: str = "best"  # name of the checkpoint of the best epoch
    starts_from: str = ""  # name of the checkpoint that the phase starts from; "": the last weights

    def records(self, history: History) -> History:
        """The epochs of this phase."""
        return [record for record in history if record["phase"] == self.number]

    def is_best(self, history: History) -> bool:
        """Whether the last epoch is the best of the phase."""
        return best(self.records(history), self.criterion) is history[-1]

    def is_finished(self, history: History) -> bool:
        """Whether all epochs are done, or the last `patience` of them brought no better one."""
        if not (records := self.records(history)):
            return False
        waited = records[-1]["epoch"] - best(records, self.criterion)["epoch"]
        return len(records) >= self.training.epochs or waited >= self.training.patience

    def rate(self, history: History, done: float) -> float:
        """The learning rate as a fraction of the highest, when `done` of the epoch (0…1) is over.

        `one_cycle` rises from 0.05 during `warmup`, then falls to 0.001 along a cosine (Smith
        2018); `plateau` halves when the phase's dev PER stalls.
        """
        training, records = self.training, self.records(history)
        if training.schedule == "constant":
            return 1.0
        if training.schedule == "one_cycle":
            progress = (len(records) + done) / training.epochs
            if progress < training.warmup:
                return 0.05 + 0.95 * progress / training.warmup
            fall = (progress - training.warmup) / (1 - training.warmup)
            return 0.001 + 0.999 * (1 + math.cos(math.pi * fall)) / 2
        halvings, stalled, lowest = 0, 0, math.inf
        for record in records:
            stalled = 0 if record["dev_per"] < lowest else stalled + 1
            lowest = min(lowest, record["dev_per"])
            if stalled >= training.plateau:
                halvings, stalled = halvings + 1, 0
        return float(0.5**halvings)

    def describe(self, history: History) -> str:
        """One line about the last epoch; a star marks the best of the phase so far."""
        last = history[-1]
        number = f"phase {self.number}, " if self.training.weight_noise else ""
        return (
            f"{number}epoch {len(self.records(history)):3d}/{self.training.epochs}  "
            f"loss {last['train_loss']:6.3f}, dev {last['dev_loss']:6.3f} nats/phone  "
            f"dev %PER {last['dev_per']:6.2f}  rate {last['learning_rate']:.1e}  "
            f"{last['seconds']:5.1f} s  waiting {100 * last.get('waiting', 0):3.0f} %"
            f"{' *' if self.is_best(history) else ''}"
        )


def phases(training: TrainingConfig) -> list[Phase]:
    """One phase to the lowest dev PER; with weight noise, two (Graves, Mohamed & Hinton 2013).

    The first of two is without noise, to the lowest dev loss; the second starts from there.
    """
    if not training.weight_noise:
        return [Phase(1, training)]
    return [
        Phase(1, training, criterion="dev_loss", keeps="phase1"),
        Phase(2, training, training.weight_noise, starts_from="phase1"),
    ]
