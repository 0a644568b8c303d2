"""The page of `asr explain` in the manual: the packaged model and a short synthetic sentence.

    python recipes/docs/explained.py build/docs/explain.html

It takes half a minute; `make explain` compares three networks that it trains.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from asr.commands import explain
from asr.corpora.synthetic import SyntheticConfig, generate
from asr.errors import exit_code
from asr.transcriber import MODEL

FEW = {f"{split}_{what}": 1 for split in ("train", "dev") for what in ("speakers", "utterances")}


@exit_code
def main() -> None:
    """Speaks, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="the page; an older one is replaced")
    output: Path = parser.parse_args().output
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "synthetic"
        generate(root, SyntheticConfig(test_speakers=1, test_utterances=9, **FEW))
        shortest = min(root.glob("TEST/*/*/*.WAV"), key=lambda path: (path.stat().st_size, path))
        explain.run(shortest, checkpoint=MODEL, output=output, overwrite=True)


if __name__ == "__main__":
    sys.exit(main())
