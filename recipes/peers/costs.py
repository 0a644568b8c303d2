"""What each system of `peers.py` takes: time, memory and disk."""

import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import soundfile
from systems import RATE, System, megabytes, package

from asr.audio import Waveform
from asr.errors import DISTRIBUTION, DataError

STARTED_ON_S = 4  # length of the file that a new process recognises


def costs(
    systems: Sequence[System], speakers: Sequence[Sequence[Waveform]]
) -> dict[str, list[str]]:
    """Columns: sizes, start-up and speed of each system, with some sounds of each speaker."""
    rates = real_time_factors(systems, speakers)
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "recording.wav"
        soundfile.write(recording, np.resize(speakers[0][0], STARTED_ON_S * RATE), RATE)
        starts = [started(system, recording) for system in systems]
    disk = [sizes(system.distribution) for system in systems]
    return {
        "model MB": [f"{system.model_mb:.1f}" for system in systems],
        "wheel MB": [f"{wheel:.1f}" for wheel, _ in disk],
        "installed MB": [f"{installed:,.0f}" for _, installed in disk],
        "start, CPU s": [f"{cpu_s:.2f}" for cpu_s, _ in starts],
        "start, peak MB": [f"{peak_mb:.0f}" for _, peak_mb in starts],
        "real-time factor": [f"{rate:.3f}" for rate in rates],
    }


# In a small process of its own, because the peak of a new process counts from that of its parent.
MEASURE = """import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(done.returncode)"""


def started(system: System, recording: Path, times: int = 3) -> tuple[float, float]:
    """CPU seconds and peak MB of a new process for one file, with Python; the median of `times`."""
    measured = []
    for _ in range(times):
        command = [sys.executable, *system.arguments, str(recording)]
        measure = [sys.executable, "-c", MEASURE, *command]
        done = subprocess.run(measure, capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise DataError(f"{system.name}: {done.stderr.strip()[-500:]}")
        measured.append([float(number) for number in done.stdout.split()])
    cpu_s, peak = np.median(measured, axis=0)
    return float(cpu_s), float(peak) * (1 if sys.platform == "darwin" else 1024) / 1e6


def real_time_factors(
    systems: Sequence[System], speakers: Sequence[Sequence[Waveform]]
) -> list[float]:
    """CPU seconds for a second of speech; the systems take turns at each of a speaker's sounds."""
    computed_s = [0.0 for _ in systems]
    for system in systems:  # warm-up: compilation, memory
        system.prepare(speakers[0])
        system.decode(speakers[0][0])
    first = 0
    for waveforms in speakers:
        for n, system in enumerate(systems):
            begin = time.process_time()
            system.prepare(waveforms)
            computed_s[n] += time.process_time() - begin
        for waveform in waveforms:
            for place in range(len(systems)):
                n = (first + place) % len(systems)
                systems[n].forget()
                begin = time.process_time()
                systems[n].decode(waveform)
                computed_s[n] += time.process_time() - begin
            first += 1
    speech_s = sum(len(waveform) for waveforms in speakers for waveform in waveforms) / RATE
    return [one / speech_s for one in computed_s]


def sizes(distribution: str) -> tuple[float, float]:
    """MB of its wheel, and installed with all that it depends on.

    The wheel is computed: its files compressed one by one.
    """
    own = [Path(str(path.locate())) for path in metadata.files(distribution) or []]
    if distribution == DISTRIBUTION:  # may be installed from its folder
        own = [path for path in package().rglob("*") if path.is_file()]
    own = [path for path in own if path.suffix not in (".pyc", ".nbc", ".nbi") and path.is_file()]
    wheel = sum(len(zlib.compress(path.read_bytes())) for path in own)
    needed, queue = {distribution}, [distribution]
    installed = megabytes(own)
    while queue:
        for requirement in metadata.requires(queue.pop()) or []:
            name = re.sub(r"[-_.]+", "-", re.split(r"[\s;<>=!~\[(]", requirement)[0]).lower()
            if name not in needed and "extra ==" not in requirement:
                needed.add(name)
                try:
                    files = metadata.files(name) or []
                except metadata.PackageNotFoundError:  # of another platform
                    continue
                installed += megabytes(Path(str(path.locate())) for path in files)
                queue.append(name)
    return wheel / 1e6, installed
