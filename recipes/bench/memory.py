"""The memory that a training step takes beside what `step_bytes` says before it.

    python recipes/bench/memory.py

Peaks of resident memory over one step on noise, with a fixed threshold of glibc's mmap, so that the
heap has no holes from the step before. Linux with glibc only.
"""

import ctypes
import gc
import sys
from pathlib import Path

import torch

from asr.augment import Augment
from asr.batch import Batch
from asr.commands.configured import compose
from asr.errors import exit_code
from asr.phones import Vocabulary
from asr.processor import memory
from asr.recognizer import Recognizer
from asr.training.learner import build_learner
from asr.training.memory import Shape, step_bytes

M_MMAP_THRESHOLD, THRESHOLD = -3, 1 << 22
RATE, PHONES = 16_000, 12  # a second
CASES = (  # cell, criterion, utterances, seconds, cells in each direction, layers, subsampling
    ("lstm", "ctc", 16, 5, 128, 3, 1),
    ("lstm", "ctc", 16, 10, 64, 2, 1),
    ("lstm", "ctc", 8, 15, 320, 1, 3),
    ("lstm", "ctc", 1, 120, 64, 2, 1),
    ("lstm", "framewise", 16, 5, 128, 3, 1),
    ("lstm", "framewise", 32, 5, 64, 1, 1),
    ("lstm", "transducer", 16, 5, 128, 2, 1),
    ("lstm", "transducer", 8, 15, 64, 1, 3),
    ("lstm", "transducer", 2, 35, 64, 1, 3),
    *((cell, "ctc", 16, 5, 128, 3, 1) for cell in ("tanh", "gru", "ligru", "layernorm")),
    *((cell, "ctc", 16, 10, 64, 2, 1) for cell in ("tanh", "gru", "ligru", "layernorm")),
    *((cell, "ctc", 8, 15, 320, 1, 3) for cell in ("tanh", "gru", "ligru", "layernorm")),
    *((cell, "framewise", 32, 5, 64, 1, 1) for cell in ("tanh", "gru", "ligru", "layernorm")),
)


def of_noise(count: int, seconds: int) -> Batch:
    samples, phones = seconds * RATE, seconds * PHONES
    edges = torch.linspace(0, samples, phones + 1).long().expand(count, -1)
    labels = (torch.arange(phones) % 40 + 1).expand(count, -1)
    return Batch(
        0.1 * torch.randn(count, samples),
        torch.full((count,), samples),
        labels,
        torch.full((count,), phones),
        edges[:, 1:],
        tuple(map(str, range(count))),
        target_starts=edges[:, :-1],
    )


def peak() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))


@exit_code
def main() -> None:
    torch.set_num_threads(1)
    glibc = ctypes.CDLL(None)
    glibc.mallopt(M_MMAP_THRESHOLD, THRESHOLD)
    vocabulary = Vocabulary([f"p{number}" for number in range(40)])
    print(
        f"{'cell':12}{'criterion':12}{'batch':>11}{'cells':>7}{'layers':>8}{'took':>10}{'said':>9}"
    )
    for cell, criterion, count, seconds, hidden, layers, stacked in CASES:
        config = compose(
            [
                *("corpus=timit", "corpus.root=unused", "features=fbank40"),
                *(f"criterion={criterion}", f"encoder.hidden={hidden}", f"encoder.layers={layers}"),
                *(f"encoder.cell={cell}", f"encoder.subsampling={stacked}"),
                "features.normalization=utterance",
            ]
        )
        model = Recognizer(config.recognizer, vocabulary).train()
        augment = Augment(config.augment, RATE, config.mel_bins)
        learner = build_learner(config, model, augment, None)
        learner.step(of_noise(1, 1))  # Adam's moments, compiled functions
        batch = of_noise(count, seconds)
        gc.collect()
        glibc.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = memory.resident() - batch.waveforms.nbytes
        learner.step(batch)
        took = peak() - before
        said = step_bytes(model, Shape(count, seconds, seconds * PHONES))
        shape = f"{count} × {seconds} s"
        print(
            f"{cell:12}{criterion:12}{shape:>11}{hidden:7}{layers:8}{took / 1e9:7.2f} GB"
            f"{said / took:7.2f} ×"
        )


if __name__ == "__main__":
    sys.exit(main())
