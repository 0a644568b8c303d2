"""The curves of a run as events that TensorBoard shows: `tensorboard --logdir exp`."""

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from asr.errors import DataError, pip_install
from asr.training.schedule import History

TAGS = {"train_loss": "loss/train", "dev_loss": "loss/dev", "dev_per": "per/dev"}


def require_tensorboard() -> None:
    """Raise `DataError` where TensorBoard is not installed."""
    if find_spec("tensorboard") is None:
        raise DataError(
            f"training.tensorboard is true, and TensorBoard is not installed; run: "
            f"{pip_install('tensorboard')}"
        )


class Events:
    """A folder with one file of events: a curve for each number of an epoch's record.

    The epoch is the step. Events are a function of the history: a process that continues a run
    writes those of all epochs anew, so that none is there twice.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: Any = None

    def write(self, history: History) -> None:
        """Add the last epoch; the first call adds all, and removes files of earlier processes."""
        if self._writer is not None:
            self._add(history[-1:])
            return
        from torch.utils.tensorboard import SummaryWriter  # which needs the extra

        before = list(self.folder.glob("events.out.tfevents.*"))
        self._writer = SummaryWriter(str(self.folder), purge_step=1)
        self._add(history)
        for path in before:
            path.unlink(missing_ok=True)

    def _add(self, records: History) -> None:
        written = time.time()
        later = sum(record["seconds"] for record in records)
        for record in records:
            later -= record["seconds"]
            for key, value in record.items():
                if key != "epoch" and isinstance(value, int | float):
                    tag = TAGS.get(key, key)
                    self._writer.add_scalar(tag, value, record["epoch"], written - later)
        self._writer.flush()

    def close(self) -> None:
        """Close the file; a later `write` begins another."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None
