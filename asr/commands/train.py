"""Manifests → the checkpoint with the best dev PER.

asr train experiment=timit encoder.hidden=320
"""

import sys

from asr.config import door
from asr.train import run

main = door(run)

if __name__ == "__main__":
    sys.exit(main())
