"""How far an epoch is, and when a training writes its state within one."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, NoReturn, Self

import torch
from torch import Tensor
from tqdm import tqdm

from asr.batch import Batch
from asr.dataset import Batches
from asr.processor import ranks, signals
from asr.processor.torchrun import TEMPORARY_FAILURE

MOST_WAITING, WORTH_S = 0.1, 10.0  # of an epoch, its share and seconds: a warning above both
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT)

log = logging.getLogger(__name__)


class Progress:
    """The finished steps of an epoch, and this rank's sums over their utterances."""

    def __init__(
        self,
        steps: int = 0,
        loss: float = 0.0,
        phones: int = 0,
        seconds: float = 0.0,
        is_ended: bool = False,
        waited_s: float = 0.0,
        worked_s: float = 0.0,
    ) -> None:
        self.steps = steps
        self.loss = loss  # in nats
        self.phones = phones
        self.is_ended = is_ended  # all steps are done, and the learner's `end_epoch`
        self.waited_s = waited_s  # for batches
        self.worked_s = worked_s  # with batches
        self._begun = time.monotonic() - seconds

    @classmethod
    def of(cls, states: Sequence[Sequence[Any]]) -> Self:
        """This rank's part of the states of all ranks; of another number of ranks, rank 0 has all.

        Without states, an epoch that is not begun.
        """
        if len(states) == ranks.count():
            return cls(*states[ranks.rank()])
        if not states:
            return cls()
        steps, _, _, *others = states[0]
        loss, phones = (sum(state[n] for state in states) for n in (1, 2))
        if not ranks.is_main():
            loss, phones = 0.0, 0
        return cls(steps, loss, phones, *others)

    def state(self) -> list[Any]:
        """The arguments that make it again."""
        sums = [self.steps, self.loss, self.phones, self.seconds, self.is_ended]
        return [*sums, self.waited_s, self.worked_s]

    @property
    def seconds(self) -> float:
        """How long the epoch has taken."""
        return time.monotonic() - self._begun

    def timed(self, batches: Batches, name: str) -> Iterator[Batch]:
        """The batches, behind a bar of progress; counts the time until each is there, and after."""
        is_quiet = None if ranks.is_main() else True
        now = time.monotonic()
        for batch in tqdm(batches, name, leave=False, disable=is_quiet):
            before, now = now, time.monotonic()
            self.waited_s += now - before
            yield batch
            before, now = now, time.monotonic()
            self.worked_s += now - before

    def waiting(self) -> float:
        """The share of time in which the model waits for batches, of the rank that waits longest.

        Every rank must call it.
        """
        times = ranks.gather((self.waited_s, self.worked_s))
        return max(waited / ((waited + worked) or 1.0) for waited, worked in times)

    def add(self, batch: Batch, losses: Tensor) -> None:
        """Count what was learned from."""
        if batch.counted:
            self.loss += sum(losses.tolist())  # in double precision, whatever the batches are
            self.phones += int(batch.target_lengths.sum())
        self.steps += batch.ends_step

    def train_loss(self) -> float:
        """The loss of all ranks, in nats per phone; every rank must call it."""
        losses, phones = zip(*ranks.gather((self.loss, self.phones)), strict=True)
        return float(sum(losses) / sum(phones))


def warn_of_waiting(history: Sequence[Mapping[str, Any]], workers: int, cacheable: bool) -> None:
    """Warn, once in a training, where its model waits for recordings, and say what may help."""
    slow = [
        one["epoch"]
        for one in history
        if (share := one.get("waiting", 0.0)) > MOST_WAITING and share * one["seconds"] > WORTH_S
    ]
    if slow == [len(history)]:
        log.warning(
            "epoch %d: the model waited for recordings in %.0f %% of its time; set "
            "training.workers=%d (now %d)%s",
            len(history),
            100 * history[-1]["waiting"],
            workers + 1,
            workers,
            ", or cache=FOLDER" if cacheable else "",
        )


class Pauses:
    """Writes the state of a training every few minutes, and before a signal ends it.

    SIGTERM, SIGUSR1 and SIGHUP (the terminal has closed) end the program with exit code 75, SIGINT
    with 130. A step is finished first; before the first step, and within `interruptible`, they act
    at once. A second SIGINT always does, and then nothing is written.
    """

    def __init__(self, minutes: float) -> None:
        self._minutes = minutes
        self._keep: Callable[[], None] | None = None
        self._kept = time.monotonic()
        self._signal = 0
        self._acts_at_once = True
        self._is_unwritten = False
        self._handlers: dict[int, Any] = {}
        self._away = ExitStack()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._handle)
            self._away.enter_context(signals.away())
        return self

    def __exit__(self, *_: object) -> None:
        self._acts_at_once = False
        try:
            if self._is_unwritten and self._keep is not None:
                self._write()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._away.close()

    def begin(self, keep: Callable[[], None]) -> None:
        """From now on signals wait for the end of a step; `keep` writes the state."""
        self._keep, self._acts_at_once, self._kept = keep, False, time.monotonic()

    def after_step(self) -> None:
        """Write the state if it is time, or if a signal has come to any rank; then end."""
        is_time = 0 < self._minutes * 60 <= time.monotonic() - self._kept
        votes = torch.tensor([self._signal != 0, is_time and ranks.is_main()]).long()
        ranks.sum_([votes])
        is_asked, is_time = votes.bool().tolist()
        if is_asked or is_time:
            self._write()
        if is_asked:
            ranks.barrier()
            self._end()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """What can be repeated from the state: a signal ends it, where there is one process."""
        self._acts_at_once = ranks.count() == 1
        try:
            yield
        finally:
            self._acts_at_once = False

    def _write(self) -> None:
        assert self._keep is not None
        self._keep()
        self._kept = time.monotonic()

    def _handle(self, number: int, _: FrameType | None) -> None:
        again, self._signal = number == self._signal == signal.SIGINT, number
        if self._acts_at_once and not again:
            self._is_unwritten = True
            self._end()
        if again:
            raise KeyboardInterrupt

    def _end(self) -> NoReturn:
        log.warning(
            "ended by %s; set resume=auto to continue",
            signal.Signals(self._signal or signal.SIGTERM).name,
        )
        if self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(TEMPORARY_FAILURE)
