"""Speed of generating the synthetic corpus, about an hour of speech.

    python recipes/bench/synthetic.py [--jobs N]

The goal is one hour in a minute on two cores, 60 × real time.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import soundfile

from asr.corpora.synthetic import SyntheticConfig, generate
from asr.errors import exit_code


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "synthetic")
        started = time.perf_counter()
        generate(root, SyntheticConfig(jobs=jobs))
        took_s = time.perf_counter() - started
        files = list(root.rglob("*.WAV"))
        audio_s = sum(soundfile.info(path).duration for path in files)
    print(
        f"synthetic corpus, {jobs} processes: {len(files)} utterances, {audio_s / 3600:.2f} h in "
        f"{took_s:.1f} s: {audio_s / took_s:.0f} × real time, an hour in "
        f"{3600 * took_s / audio_s:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
