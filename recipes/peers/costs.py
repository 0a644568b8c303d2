"""What each system of `peers.py` takes: time, memory and disk."""

import subprocess
import sys
import time
import zlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from systems import RATE, System

import asr
from asr.audio import Waveform
from asr.errors import DISTRIBUTION, DataError

STARTED_ON_S = 4  # length of the file that a new process recognises
TIMES = 3  # new processes, of which the median counts


def costs(
    systems: Sequence[System], speakers: Sequence[Sequence[Waveform]]
) -> dict[str, list[str]]:
    """Columns: sizes, start-up and speed of each system, with some sounds of each speaker."""
    rates = real_time_factors(systems, speakers)
    with TemporaryDirectory() as folder:
        recording = Path(folder) / "recording.wav"
        soundfile.write(recording, np.resize(speakers[0][0], STARTED_ON_S * RATE), RATE)
        starts = [started(system, recording) for system in systems]
    needs = [needed(system.distribution) for system in systems]
    return {
        "model MB": [f"{megabytes(one.files):.1f}" for one in systems],
        "wheel MB": [f"{wheel(one.distribution):.1f}" for one in systems],
        "installed MB": [f"{sum(megabytes(files(n)) for n in names):,.0f}" for names in needs],
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


def started(system: System, recording: Path) -> tuple[float, float]:
    """CPU seconds and peak MB of a new process for one file, with Python."""
    measured = []
    for _ in range(TIMES):
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
    """CPU seconds for a second of speech; the systems take turns at each sound."""
    computed_s = np.zeros(len(systems))
    for system in systems:  # warm-up: compilation, memory
        system.prepare(speakers[0])
        system.decode(speakers[0][0])
    for waveforms in speakers:
        for n, system in enumerate(systems):
            begin = time.process_time()
            system.prepare(waveforms)
            computed_s[n] += time.process_time() - begin
        for waveform in waveforms:
            for n, system in enumerate(systems):
                system.forget()
                begin = time.process_time()
                system.decode(waveform)
                computed_s[n] += time.process_time() - begin
    return list(computed_s * RATE / sum(len(one) for said in speakers for one in said))


@cache
def files(distribution: str) -> list[Path]:
    """The installed files; none of a distribution that is not."""
    if distribution == DISTRIBUTION:  # may be installed from its folder
        return [path for path in Path(asr.__file__).parent.rglob("*") if _is_shipped(path)]
    try:
        paths = [Path(str(path.locate())) for path in metadata.files(distribution) or []]
    except metadata.PackageNotFoundError:
        return []
    return [path for path in paths if _is_shipped(path)]


def _is_shipped(path: Path) -> bool:
    return path.is_file() and path.suffix not in (".pyc", ".nbc", ".nbi")


def wheel(distribution: str) -> float:
    """MB of its wheel: its files compressed one by one."""
    return sum(len(zlib.compress(path.read_bytes())) for path in files(distribution)) / 1e6


def needed(distribution: str) -> set[str]:
    """A distribution, and all others that it needs."""
    names, queue = {distribution}, [distribution]
    while queue:
        for line in metadata.requires(queue.pop()) or []:
            requirement = Requirement(line)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if applies and (name := canonicalize_name(requirement.name)) not in names:
                names.add(name)
                queue.append(name)
    return names


def megabytes(paths: Iterable[Path]) -> float:
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
