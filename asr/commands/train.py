"""Manifests → the checkpoint with the best dev PER.

asr train experiment=timit encoder.hidden=320
"""

from asr.commands.configured import command
from asr.train import run

main = command(run, __doc__)
