"""A trained model in numpy and in torch: the same phones, and what each takes, on one thread.

    ASR_SHARED=/path/to/shared python recipes/bench/networks.py [--files 200] [--checkpoint FILE]

The speech is LibriSpeech in corpora/LibriSpeech/dev-part of that folder (by default the folder
`shared` beside the repository), dev-clean and dev-other; without it, noise.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from asr import audio, by_torch, model_file
from asr.errors import exit_code
from asr.transcriber import MODEL, load_model

RATE = 16_000
SETS = ("dev-part", "dev-clean", "dev-other")


def speech(count: int) -> list[audio.Waveform]:
    shared = Path(os.environ.get("ASR_SHARED", Path(__file__).parents[3] / "shared"))
    folder = shared / "corpora" / "LibriSpeech"
    files = [path for name in SETS for path in sorted((folder / name).rglob("*.[fo]*"))]
    if files:
        chosen = np.linspace(0, len(files) - 1, min(count, len(files))).astype(int)
        return [audio.load(files[n]) for n in chosen]
    print(f"no speech in {shared} (set ASR_SHARED): noise instead")
    draw = np.random.default_rng(0)
    return [0.1 * draw.standard_normal(4 * RATE).astype(np.float32) for _ in range(count)]


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--checkpoint", type=Path, default=MODEL)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.checkpoint)
    networks = model.network, by_torch.load(model_file.read(options.checkpoint), "cpu")
    waveforms = speech(options.files)
    duration_s = sum(map(len, waveforms)) / RATE
    spent, different, farthest = np.zeros(2), 0, 0.0
    for waveform in waveforms:
        static = model.network.frames.static(waveform)
        both = []
        for n, network in enumerate(networks):
            begin = time.process_time()
            emissions = network.emissions(static)
            spent[n] += time.process_time() - begin
            best, *_ = network.decoder.search(emissions, model.search, model.graph)
            both.append((emissions, best.labels))
        farthest = max(farthest, float(np.abs(both[0][0] - both[1][0]).max()))
        different += both[0][1] != both[1][1]
    print(f"{len(waveforms)} utterances, {duration_s:.0f} s: {different} with other phones,")
    print(f"emissions differ by at most {farthest:.1e}")
    for name, seconds in zip(("numpy", "torch"), spent, strict=True):
        print(f"{name}: real-time factor of the network {seconds / duration_s:.4f}")


if __name__ == "__main__":
    sys.exit(main())
