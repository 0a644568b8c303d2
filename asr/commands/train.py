"""Manifests → the checkpoint with the best dev PER.

asr train experiment=timit encoder.hidden=320
torchrun --nproc-per-node=4 -m asr train experiment=timit    # 4 processes, each with a GPU if any
"""

from asr import train
from asr.commands.configured import command
from asr.config import RunConfig
from asr.processor import ranks


def run(config: RunConfig) -> None:
    """Train, in as many processes as torchrun has started."""
    with ranks.started(config.timeout_s):
        train.run(config)


main = command(run, __doc__, shared=True)
