"""Robustness of a recogniser: greedy PER of the same utterances with silence and noise.

    python recipes/librispeech/conditions.py CHECKPOINT [CHECKPOINT …] --manifest dev.jsonl …

One row for each checkpoint, one cell for each manifest and condition: as recorded, followed by 10 s
of zeros, in white noise at 10 dB. The last column counts the phones output for a minute without
speech: 20 s each of zeros, of noise at −60 dB of full scale and of noise at −30 dB.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from asr import audio, checkpoint, scoring
from asr.augment.sounds import Waveform, add_at, coloured_noise
from asr.batch import Batch
from asr.errors import exit_code
from asr.recognizer import Recognizer
from asr.records import Manifest, Utterance
from asr.search import SearchConfig

BATCH = 16
ZEROS_S = 10
SNR_DB = 10.0
EMPTY_S = 20
LEVELS = (0.0, 10 ** (-60 / 20), 10 ** (-30 / 20))

Change = Callable[[Waveform, int], Waveform]


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path, nargs="+")
    parser.add_argument("--manifest", type=Path, action="append", required=True)
    parser.add_argument("--protocol", default="arpabet")
    options = parser.parse_args()
    torch.set_num_threads(1)
    conditions: dict[str, Change] = {
        "as recorded": lambda samples, rate: samples,
        f"+ {ZEROS_S} s of zeros": with_zeros,
        f"white noise, {SNR_DB:g} dB": with_noise,
    }
    columns = [f"{m.stem}, {name}" for m in options.manifest for name in conditions]
    print(" | ".join(["| checkpoint", *columns, "phones in a minute without speech |"]))
    print("|" + "---|" * (len(columns) + 2))
    for path in options.checkpoint:
        recognizer = checkpoint.load(path).recognizer
        cells = [
            f"{per(recognizer, Manifest(manifest), change, options.protocol):.2f}"
            for manifest in options.manifest
            for change in conditions.values()
        ]
        print(
            " | ".join([f"| {path.parent.name}", *cells, f"{invented(recognizer)} |"]), flush=True
        )


def with_zeros(samples: Waveform, rate: int) -> Waveform:
    return np.concatenate([samples, np.zeros(ZEROS_S * rate, np.float32)])


def with_noise(samples: Waveform, rate: int) -> Waveform:
    return add_at(SNR_DB, samples, noise(len(samples), rate))


def noise(samples: int, rate: int) -> Waveform:
    return coloured_noise(np.random.default_rng(samples), samples, rate, 0.0)


def per(
    recognizer: Recognizer, utterances: Sequence[Utterance], change: Change, protocol: str
) -> float:
    """PER of a greedy search, in percent."""
    rate = recognizer.config.features.sample_rate
    ordered = sorted(utterances, key=lambda one: one.duration_s)
    hypotheses: dict[str, tuple[str, ...]] = {}
    for first in range(0, len(ordered), BATCH):
        part = ordered[first : first + BATCH]
        phones = recognised(recognizer, [change(audio.load(one.audio, rate), rate) for one in part])
        hypotheses |= zip((one.id for one in part), phones, strict=True)
    references = {one.id: one.phones for one in ordered}
    return scoring.score(references, hypotheses, protocol=protocol).total.per


def invented(recognizer: Recognizer) -> int:
    """Number of phones output for a minute without speech."""
    rate = recognizer.config.features.sample_rate
    sound = noise(EMPTY_S * rate, rate)
    sound /= sound.std()
    return sum(map(len, recognised(recognizer, [np.float32(level) * sound for level in LEVELS])))


def recognised(recognizer: Recognizer, waveforms: Sequence[Waveform]) -> list[tuple[str, ...]]:
    batch = Batch.of([torch.from_numpy(samples) for samples in waveforms])
    with torch.no_grad():
        encoded, lengths = recognizer.encode_batch(batch)
    results = recognizer.search(encoded, lengths, batch.ids, SearchConfig())
    return [hypotheses[0].phones for hypotheses in results]


if __name__ == "__main__":
    sys.exit(main())
