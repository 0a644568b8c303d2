"""Cost of augmentation, compared with a training step, on one thread.

    python recipes/bench/augment.py

Each kind is applied to every utterance here, whatever its share in a configuration. Prints medians
of × real time, and the share of a training step.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import soundfile
import torch

from asr import audio
from asr.architecture import EncoderConfig
from asr.augment import Augment, AugmentConfig
from asr.batch import Batch, pad
from asr.config import AdamConfig, RunConfig, TrainingConfig
from asr.corpora import TimitConfig
from asr.criteria import CTCConfig
from asr.errors import exit_code
from asr.phones import Vocabulary
from asr.recognizer import Recognizer
from asr.training.learner import GradientDescent

REPEATS = 5
UTTERANCES = 16
RATE = 16_000
WAVEFORMS = {
    "speed": AugmentConfig(speed=0.1),
    "gain": AugmentConfig(gain_db=6),
    "noise": AugmentConfig(noise=1),
    "reverb, RT60 0.1 to 0.5 s": AugmentConfig(reverb=1),
    "babble, 4 other FLAC files": AugmentConfig(babble=1),
    "clipping": AugmentConfig(clipping=1),
    "lowpass": AugmentConfig(lowpass=1),
    "telephone": AugmentConfig(telephone=1),
}
MASKS = AugmentConfig(time_masks=2, frequency_masks=2)


@exit_code
def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{n}.flac" for n in range(UTTERANCES)]
        for n, path in enumerate(paths):
            soundfile.write(path, 0.1 * torch.randn(RATE * 3 + 997 * n).numpy(), RATE)
        measure(paths)


def measure(paths: list[Path]) -> None:
    def read(n: int) -> torch.Tensor:
        return torch.from_numpy(audio.load(paths[n % len(paths)]))

    run = RunConfig(
        corpus=TimitConfig(root="unused"),
        criterion=CTCConfig(),
        encoder=EncoderConfig(hidden=128, layers=2),
        training=TrainingConfig(),
    )
    waveforms = [read(n) for n in range(len(paths))]
    padded, lengths = pad(waveforms)
    targets = torch.randint(1, 40, (UTTERANCES, 30))
    seeds = tuple(range(UTTERANCES))
    batch = Batch(
        padded,
        lengths,
        targets,
        torch.full((UTTERANCES,), 30),
        None,
        tuple(map(str, seeds)),
        seeds=seeds,
    )
    recognizer = Recognizer(run.recognizer, Vocabulary([f"p{n}" for n in range(40)]))
    learner = GradientDescent(recognizer, AdamConfig(), run.training)
    frames, frame_lengths = recognizer.features(batch)

    def of_waveforms(config: AugmentConfig) -> Callable[[], object]:
        augment = Augment(config, RATE, run.mel_bins)
        return lambda: [augment.waveform(w, n, read) for n, w in enumerate(waveforms)]

    masks = Augment(MASKS, RATE, run.mel_bins)
    warps = Augment(AugmentConfig(vtlp=0.1), RATE, run.mel_bins).warps(seeds)
    runners = {
        "training step, 2 × 128 × 2 LSTM": lambda: learner.step(batch),
        "decoding FLAC": lambda: [read(n) for n in seeds],
        "123 features": lambda: recognizer.features(batch),
        **{name: of_waveforms(config) for name, config in WAVEFORMS.items()},
        "masks, 2 of time and 2 of frequency": lambda: masks.mask(frames, frame_lengths, seeds),
        "vtlp: 123 features, warped": lambda: recognizer.features(batch, warps),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(REPEATS + 1):
        for name, runner in runners.items():
            started = time.perf_counter()
            runner()
            if turn:  # the first is a warm-up
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    audio_s = float(lengths.sum()) / RATE
    step = medians["training step, 2 × 128 × 2 LSTM"]
    print(f"Augmentation, {UTTERANCES} utterances of 3 to 4 s, 1 thread")
    for name, median in medians.items():
        print(f"  {name:<38} {audio_s / median:10,.0f} × real time  {median / step:7.1%} of a step")


if __name__ == "__main__":
    sys.exit(main())
