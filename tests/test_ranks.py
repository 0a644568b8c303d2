"""Several processes of torchrun: they learn what one process learns, and end as one."""

import dataclasses
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from asr import checkpoint, train
from asr.architecture import CriterionConfig, EncoderConfig
from asr.config import AdamConfig, RunConfig, TrainingConfig
from asr.corpora import TimitConfig
from asr.criteria import CTCConfig
from asr.criteria.framewise import FramewiseConfig
from asr.criteria.gmm import GMMConfig
from asr.criteria.transducer import TransducerConfig
from asr.features.config import FeaturesConfig
from asr.phones import Vocabulary
from asr.processor import ranks
from asr.records import Segment, Utterance, write_jsonl

CRITERIA: dict[str, CriterionConfig] = {
    "ctc": CTCConfig(),
    "transducer": TransducerConfig(hidden=8, joint=8),
    "framewise": FramewiseConfig(states=1),
    "gmm": GMMConfig(states=1, mixtures=2, passes=1),
}
# What each of two processes runs; the file is named asr, as torchrun's messages are those of asr.
SCRIPT = """
import os, pickle, signal, sys
from asr import train
from asr.processor import ranks
with ranks.started(60):
    for config in pickle.load(open(sys.argv[1], "rb")):
        train.run(config)
    assert ranks.count() == 2 and ranks.gather(ranks.rank()) == [0, 1]
    assert ranks.in_turn(["a0", "a2"] if ranks.is_main() else ["b1"]) == ["a0", "b1", "a2"]
    if not ranks.is_main():
        os.kill(os.getpid(), signal.SIGKILL)
    ranks.barrier()
"""


def timed(utterance: Utterance) -> Utterance:
    """With times: equal parts."""
    part = utterance.duration_s / len(utterance.phones)
    segments = [Segment(one, n * part, (n + 1) * part) for n, one in enumerate(utterance.phones)]
    return dataclasses.replace(utterance, segments=tuple(segments))


def config(name: str, tones: list[Utterance], folder: Path) -> RunConfig:
    """Three epochs of two steps on the tones: the last step has one utterance, for two ranks."""
    folder = folder / name
    for split, members in (("train", tones[:6]), ("dev", tones[6:])):
        write_jsonl(folder / "manifests" / f"{split}.jsonl", map(timed, members))
    Vocabulary(["aa", "iy", "m", "s"]).save(folder / "vocabulary.txt")
    noise = {"weight_noise": 0.01} if name == "transducer" else {}
    features = FeaturesConfig(bins=20, deltas=0)
    if name == "framewise":
        features = dataclasses.replace(features, normalization="speaker")
    return RunConfig(
        corpus=TimitConfig(root="unused"),
        criterion=CRITERIA[name],
        features=features,
        encoder=EncoderConfig(hidden=8, layers=0 if name == "gmm" else 1, dropout=0.0),
        optimizer=AdamConfig(learning_rate=0.01),
        training=TrainingConfig(
            epochs=3, batch_size=5, schedule="constant", batch_frames=200, **noise
        ),
        run_dir=str(folder),
        device="cpu",
        threads=1,
    )


def test_two_processes_learn_what_one_learns_and_die_together(
    tones: list[Utterance], tmp_path: Path
) -> None:
    several = [config(name, tones, tmp_path / "two") for name in CRITERIA]
    (tmp_path / "configs").write_bytes(pickle.dumps(several))
    (tmp_path / "asr").write_text(SCRIPT)
    launch = ["-m", "asr.processor.torchrun", "--standalone", "--nproc-per-node=2"]
    ended = subprocess.run(
        [sys.executable, *launch, str(tmp_path / "asr"), str(tmp_path / "configs")],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "MPLCONFIGDIR": str(tmp_path)},  # where it is not one, matplotlib warns
    )
    assert ended.returncode == 137, ended.stderr
    assert [line[:24] for line in ended.stderr.splitlines()] == ["error: rank 1 was killed"]
    for name, two in zip(CRITERIA, several, strict=True):
        one = config(name, tones, tmp_path / "one")
        train.run(one)
        histories = [
            [json.loads(line) for line in Path(run.run_dir, "train.jsonl").read_text().splitlines()]
            for run in (one, two)
        ]
        for alone, shared in zip(*histories, strict=True):
            assert shared["train_loss"] == pytest.approx(alone["train_loss"], abs=1e-5), name
            assert shared["dev_loss"] == pytest.approx(alone["dev_loss"], abs=1e-5), name
            assert shared["dev_per"] == alone["dev_per"], name
        states = [
            checkpoint.load(f"{run.run_dir}/checkpoint-last.safetensors").recognizer.state_dict()
            for run in (one, two)
        ]
        for key, value in states[0].items():
            torch.testing.assert_close(states[1][key], value, rtol=1e-4, atol=1e-4, msg=key)


def test_alone_a_process_is_rank_0_of_1() -> None:
    tensor = torch.ones(2)
    with ranks.started(1.0):
        ranks.sum_([tensor])
        ranks.barrier()
        assert (ranks.rank(), ranks.count(), ranks.is_main()) == (0, 1, True)
    assert ranks.gather("x") == ["x"]
    assert tensor.tolist() == [1.0, 1.0]
    assert not {"RANK", "WORLD_SIZE"} & os.environ.keys()
