"""Damaged uploads, many at once and long ones, to a server that runs as its own program.

    python recipes/serve/fuzz.py                    500 damaged uploads, 20 at once, an hour
    python recipes/serve/fuzz.py --count 5000 --seed 7 --speech sentence.wav

Every upload must be answered in LIMIT_S, none with a status of 500 or more, and the memory must be
back afterwards. Prints statuses, seconds and memory; exit code 1 where one of these laws is broken.
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
import fuzz
from light import TEXT, spoken

from asr.errors import exit_code

LIMIT_S = 30.0
MORE_MB = 60.0  # of memory afterwards, beside before
ASKED = ("transcribe", "waveform", "gates", "align", "assess")


def memory_mb(pid: int) -> float:
    """What a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return float(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


def ask(client: httpx.Client, what: str, name: str, content: bytes, **fields: Any) -> int:
    if what in ("align", "assess"):
        fields["text"] = TEXT
    answer = client.post(f"api/{what}", files={"audio": (name, content)}, data=fields)
    assert answer.status_code == 200 or answer.json()["error"], answer.text
    return answer.status_code


def damaged(seed: int, number: int) -> tuple[str, bytes]:
    rng = random.Random(f"{seed} serve {number}")
    kind = sorted(fuzz.AUDIO)[number % len(fuzz.AUDIO)]
    data = fuzz.AUDIO[kind]
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = rng.choice(fuzz.BINARY)(rng, data)
    return f"x.{kind}", data


@exit_code
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--speech", type=Path, help="default: a sentence of espeak-ng")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.speech or spoken(Path(folder) / "sentence.wav")
        sentence = path.read_bytes()
        once, rate = soundfile.read(path, dtype="float32")
        long = Path(folder) / "long.flac"
        soundfile.write(long, np.tile(once, int(590 * rate / len(once))), rate)
        hour = Path(folder) / "hour.flac"
        soundfile.write(hour, np.tile(once, int(3600 * rate / len(once))), rate)
        long_s = len(once) * int(590 * rate / len(once)) / rate
        command = [sys.executable, "-m", "asr", "serve", "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            address = server.stdout.readline().split()[0]
            try:
                return measure(options, address, server.pid, sentence, (long, hour), long_s)
            finally:
                server.terminate()


def measure(
    options: argparse.Namespace,
    address: str,
    pid: int,
    sentence: bytes,
    longer: tuple[Path, Path],
    long_s: float,
) -> int:
    wrong = 0
    with httpx.Client(base_url=address, timeout=600) as client:
        for what in ASKED:  # what only the first ones load
            ask(client, what, "a.wav", sentence)
        before = memory_mb(pid)
        statuses, slowest = Counter[int](), 0.0
        for number in range(options.count):
            started = time.monotonic()
            status = ask(client, ASKED[number % len(ASKED)], *damaged(options.seed, number))
            statuses[status] += 1
            slowest = max(slowest, time.monotonic() - started)
        wrong += slowest > LIMIT_S or any(status >= 500 for status in statuses)
        after = memory_mb(pid)
        wrong += after > before + MORE_MB
        print(f"{options.count} damaged uploads: {dict(sorted(statuses.items()))}")
        print(f"  the slowest {slowest:.1f} s; memory {before:.0f} MB before, {after:.0f} after")

        with ThreadPoolExecutor(20) as askers:
            started = time.monotonic()
            jobs = [askers.submit(ask, client, "transcribe", "a.wav", sentence) for _ in range(20)]
            together = Counter(job.result() for job in jobs)
            wrong += set(together) != {200}
            print(f"20 at once: {dict(together)} in {time.monotonic() - started:.1f} s")

        long, hour = longer
        for name, path in (("an hour", hour), (f"{long_s:.0f} s", long)):
            for what in ("transcribe", "align", "gates"):
                started = time.monotonic()
                status = ask(client, what, path.name, path.read_bytes())
                wrong += status >= 500
                taken = time.monotonic() - started
                print(f"{name}, {what}: {status} in {taken:.1f} s; memory {memory_mb(pid):.0f} MB")
        for _ in range(3):
            ask(client, "transcribe", "a.wav", sentence)
        print(f"memory at the end {memory_mb(pid):.0f} MB")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
