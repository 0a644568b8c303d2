"""What `asr export` changes: log-probabilities, phone error rate, size and time, on one thread.

    python recipes/export/compare.py MANIFEST.jsonl --utterances 100
    python recipes/export/compare.py MANIFEST.jsonl --checkpoint FILE.safetensors

The checkpoint by torch, its ONNX file and that of --int8 label the first recordings greedily. The
differences are those between log-probabilities of the checkpoint and of the ONNX file, of each
recording, of all in batches with padding, and of a minute of them in a row.
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from asr import audio, checkpoint, scoring
from asr.batch import Batch, pad
from asr.commands import export
from asr.errors import exit_code
from asr.export.model import ExportedModel
from asr.records import Manifest
from asr.transcriber import MODEL

BATCH = 8
PARITY = 1e-4


def greedy(log_probs: np.ndarray, phones: list[str]) -> list[str]:
    labels = log_probs.argmax(axis=1)
    firsts = labels[np.diff(labels, prepend=0) != 0]
    return [phones[label - 1] for label in firsts if label]


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--checkpoint", type=Path, default=MODEL)
    parser.add_argument("--utterances", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recognizer = checkpoint.load(options.checkpoint, language_model=False).recognizer

    decoder = recognizer.criterion.decoder
    of_labels = getattr(decoder, "label_posteriors", lambda log_probs: log_probs)

    def by_torch(waveform: np.ndarray) -> np.ndarray:
        batch = Batch.of([torch.from_numpy(waveform)], ["one"])
        with torch.no_grad():
            encoded, _ = recognizer.encode_batch(batch, moments=recognizer.moments_of([batch]))
            return of_labels(recognizer.criterion.emissions(encoded)[0].numpy())

    ways = {"torch": by_torch}
    models = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("float32", "int8"):
            path = Path(folder, f"{name}.onnx")
            print(name, export.run(options.checkpoint, path, int8=name == "int8"))
            models[name] = ExportedModel(path, threads=1)
            ways[name] = models[name].log_probs

    utterances = list(islice(Manifest(options.manifest), options.utterances))
    rate = recognizer.config.features.sample_rate
    waveforms = {one.id: audio.load(one.audio, rate) for one in utterances}
    seconds = sum(map(len, waveforms.values())) / rate
    outputs = defaultdict(dict)
    for name, log_probs in ways.items():
        log_probs(waveforms[utterances[0].id])  # compiles
        begun = time.process_time()
        for id, waveform in waveforms.items():
            outputs[name][id] = log_probs(waveform)
        cost = (time.process_time() - begun) / seconds
        heard = {id: greedy(one, models["int8"].phones) for id, one in outputs[name].items()}
        said = {one.id: one.phones for one in utterances}
        score = scoring.score(said, heard, "arpabet")
        print(f"{name:8} {cost:.4f} s of a core for a second  {score.line()}")

    each = [np.abs(outputs["float32"][id] - outputs["torch"][id]).max() for id in waveforms]
    above = sum(one > PARITY for one in each)
    print(
        f"difference of {len(each)} recordings: {max(each):.1e}, median {np.median(each):.1e}, "
        f"{above} above {PARITY}"
    )
    session, padded = models["float32"].session, 0.0
    ids = list(waveforms)
    for some in (ids[n : n + BATCH] for n in range(0, len(ids), BATCH)):
        batch, lengths = pad([torch.from_numpy(waveforms[id]) for id in some])
        inputs = {"waveforms": batch.numpy(), "lengths": lengths.numpy()}
        log_probs, frames = session.run(["log_probs", "frames"], inputs)
        for id, one, count in zip(some, log_probs, frames, strict=True):
            padded = max(padded, np.abs(one[:count] - outputs["float32"][id]).max())
    print(f"difference between batches of {BATCH} and single recordings: {padded:.1e}")
    minute = np.concatenate(list(waveforms.values()))[: 60 * rate]
    difference = np.abs(by_torch(minute) - ways["float32"](minute)).max()
    print(f"difference of {len(minute) / rate:.0f} s in a row: {difference:.1e}")


if __name__ == "__main__":
    sys.exit(main())
