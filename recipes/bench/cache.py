"""Epochs of static frames with and without the cache, on one thread.

    python recipes/bench/cache.py

Uses Opus files of LibriSpeech in ASR_SHARED (or ../shared), if there are any, else FLAC files of
noise. Prints medians of × real time and ratios, the cost of the first epoch, which fills the cache,
and bytes per hour of speech. All files are in the system's page cache.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from asr import audio
from asr.dataset import Batches
from asr.errors import exit_code
from asr.features.cache import PRECISIONS, FrameCache
from asr.features.config import FeaturesConfig
from asr.features.layer import Features
from asr.phones import Vocabulary
from asr.records import Utterance

REPEATS = 5
UTTERANCES = 300
RATE = 16_000
SHARED = Path(os.environ.get("ASR_SHARED", Path(__file__).parents[3] / "shared"))


def files(folder: Path) -> list[Path]:
    opus = sorted(SHARED.glob("corpora/LibriSpeech/train-clean-5/**/*.opus"))
    if opus:
        return opus[:: max(1, len(opus) // UTTERANCES)][:UTTERANCES]
    noise = 0.1 * np.random.default_rng(1).standard_normal((UTTERANCES, 12 * RATE))
    for number, waveform in enumerate(noise):
        soundfile.write(folder / f"{number}.flac", waveform, RATE)
    return sorted(folder.glob("*.flac"))


@exit_code
def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        measure(files(Path(name)), Path(name))


def measure(paths: list[Path], folder: Path) -> None:
    utterances = [
        Utterance(path.stem, str(path), audio.info(path).duration_s, "", ("aa",)) for path in paths
    ]
    hours = sum(utterance.duration_s for utterance in utterances) / 3600
    config = FeaturesConfig()
    features = Features(config)

    def epoch(cache: FrameCache | None) -> float:
        started = time.perf_counter()
        for batch in Batches(utterances, Vocabulary(["aa"]), RATE, 16, cache=cache):
            features(batch)
        return time.perf_counter() - started

    print(
        f"{len(paths)} {paths[0].suffix} files, {60 * hours:.0f} min, epochs up to {config.width}"
    )
    epoch(None)
    caches: dict[str, FrameCache | None] = {"no cache": None}
    for precision in PRECISIONS:
        cache = FrameCache(folder / precision, config, precision)
        seconds = {"no": epoch(None), "filling": epoch(cache)}
        size = sum(f.stat().st_size for f in (folder / precision).glob("*/frames/*/*"))
        print(
            f"  {precision}: {size / hours / 1e6:.1f} MB per hour of speech; filling it takes "
            f"{seconds['filling'] / seconds['no']:.2f} × an epoch without"
        )
        caches[precision] = cache
    # files that have not changed for two seconds are trusted without hashing
    time.sleep(2)
    for cache in caches.values():
        epoch(cache)
    times: dict[str, list[float]] = {name: [] for name in caches}
    for _ in range(REPEATS):
        for name, cache in caches.items():
            times[name].append(epoch(cache))
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    for name, median in medians.items():
        print(
            f"  {name:<10} {3600 * hours / median:8,.0f} × real time   "
            f"{medians['no cache'] / median:5.2f} ×"
        )


if __name__ == "__main__":
    sys.exit(main())
