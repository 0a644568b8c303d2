"""What a command costs as a whole: CPU and wall time from the start of its process, peak memory.

    python recipes/bench/start.py my.wav

The first line of each transcription is its first use: nothing is kept in the user's cache yet. Of
the others, with a warm cache, the medians are printed. Compiled code is cached before.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import soundfile

from asr.errors import exit_code

REPEATS = 10


def cost(arguments: list[str], environment: dict[str, str]) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak MB of `asr` with these arguments."""
    begin = time.perf_counter()
    told = [sys.executable, "-m", "asr", *arguments]
    process = subprocess.Popen(told, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"asr {' '.join(arguments)}: failed")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - begin, usage.ru_maxrss / 1024


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording", nargs="?", help="default: 4 s of noise")
    recording = parser.parse_args().recording
    if recording is None:
        recording = os.path.join(tempfile.mkdtemp(), "noise.wav")
        noise = 0.1 * np.random.default_rng(0).standard_normal(64_000)
        soundfile.write(recording, noise, 16_000)
    transcribe = ["transcribe", recording]
    commands = ["--help"], ["score", "--help"], transcribe, [*transcribe, "--words"]
    print(f"{'':<40} CPU s  wall s  peak MB")
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"ASR_CACHE": folder, "OMP_NUM_THREADS": "1"}
        for command in commands:
            if command[0] == "transcribe":
                cost(command, os.environ | {"ASR_CACHE": "/dev/null"})  # compiles
                show(f"{' '.join(command)}, first use", cost(command, environment))
            results = zip(*(cost(command, environment) for _ in range(REPEATS)), strict=True)
            show(" ".join(command), tuple(map(statistics.median, results)))


def show(what: str, numbers: tuple[float, ...]) -> None:
    cpu, wall, peak = numbers
    print(f"{what[-40:]:<40} {cpu:5.2f}  {wall:6.2f}  {peak:7.0f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
