"""A whole training step over the bare step of its model, on the same batches.

    python recipes/bench/training.py [turns]

The whole step is that of `asr train` on files: batches are read, the losses are summed and the heap
is trimmed. The bare step is a loss, its gradient, clipped, and Adam, on batches in memory. Both
take turns on noise, 3 layers × 128 cells × 2 directions; CPU time of one thread. Prints the median
of the ratios within a turn, and resident memory after the first turn and the last.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import nn

from asr.augment import Augment
from asr.commands.configured import compose
from asr.dataset import Batches
from asr.errors import exit_code
from asr.phones import Vocabulary
from asr.processor import memory
from asr.recognizer import Recognizer
from asr.records import Utterance
from asr.training.learner import build_learner
from asr.training.memory import require_room

RATE = 16_000


def utterances(folder: Path) -> list[Utterance]:
    draw = np.random.default_rng(1)
    made = []
    for number, seconds in enumerate(draw.uniform(1, 5, 64).round(2)):
        path = folder / f"{number}.flac"
        soundfile.write(path, 0.1 * draw.standard_normal(round(seconds * RATE)), RATE)
        phones = ("aa", "b") * int(5 * seconds)
        made.append(Utterance(path.stem, str(path), float(seconds), "", phones))
    return made


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("turns", nargs="?", type=int, default=5)
    turns = parser.parse_args().turns
    torch.set_num_threads(1)
    config = compose(["experiment=timit", "corpus.root=unused", "encoder.hidden=128"])
    vocabulary = Vocabulary(["aa", "b"])
    augment = Augment(config.augment, RATE, config.mel_bins)
    models = [Recognizer(config.recognizer, vocabulary).train() for _ in range(2)]
    learner = build_learner(config, models[0], augment, None)
    bare = torch.optim.Adam(models[1].parameters(), lr=1e-3)
    with tempfile.TemporaryDirectory() as name:
        batches = Batches(utterances(Path(name)), vocabulary, RATE, 16, seed=1, augment=augment)
        learner.most_resident = require_room(models[0], batches)
        in_memory = list(batches)

        def whole() -> float:
            learner.begin_epoch(1)
            return sum(float(learner.step(batch).sum()) for batch in batches)

        def model_alone() -> None:
            for batch in in_memory:
                bare.zero_grad(set_to_none=True)
                models[1].loss(batch).mean().backward()
                nn.utils.clip_grad_norm_(models[1].parameters(), 5.0)
                bare.step()

        ratios, resident = [], []
        for _ in range(turns + 1):
            seconds = []
            for run in (whole, model_alone):
                started = time.process_time()
                run()
                seconds.append(time.process_time() - started)
            ratios.append(seconds[0] / seconds[1])
            resident.append(memory.resident() / 1e9)
    print(f"whole step over the bare step: {statistics.median(ratios[1:]):.3f} ({turns} turns)")
    print(f"resident: {resident[0]:.2f} GB after a turn, {resident[-1]:.2f} GB after {turns + 1}")


if __name__ == "__main__":
    sys.exit(main())
