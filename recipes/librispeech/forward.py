"""The forward half of a bidirectional model as initial weights of a streaming one.

    python recipes/librispeech/forward.py asr/pretrained/librispeech.safetensors train.jsonl \
        data/forward.safetensors [--utterances 1000]

Every layer keeps the cells that read forwards, and of its inputs those of such cells. The features
become those of conf/experiment/librispeech-18h-stream.yaml; their moments are estimated on
utterances of train.jsonl.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import noises
import torch

from asr import audio, checkpoint
from asr.batch import Batch
from asr.errors import exit_code
from asr.files.outputs import require_new
from asr.recognizer import Recognizer


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--utterances", type=int, default=1000)
    parser.add_argument("--overwrite", action="store_true")
    options = parser.parse_args()
    require_new([options.output], options.overwrite, [options.model, options.manifest])
    source = checkpoint.load(options.model, language_model=False).recognizer
    config = replace(
        source.config,
        features=replace(
            source.config.features, normalization="running", dither_db=0.0, dither=1.0
        ),
        encoder=replace(source.config.encoder, bidirectional=False),
    )
    forward = Recognizer(config, source.vocabulary)
    whole = source.state_dict()
    for name, values in forward.state_dict().items():
        if not name.startswith("features."):
            values.copy_(whole[name][tuple(slice(size) for size in values.shape)])
    with torch.no_grad():
        forward.features.fit_normalization(
            Batch.of([torch.from_numpy(audio.load(one.audio, noises.RATE))])
            for one in noises.of_manifest(options.manifest, options.utterances)
        )
    checkpoint.save(options.output, checkpoint.Checkpoint(forward, {"forward": options.model.name}))


if __name__ == "__main__":
    sys.exit(main())
