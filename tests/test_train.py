"""Training: what it leaves behind, when it stops, and that stopping in between changes nothing."""

import dataclasses
import fcntl
import json
from pathlib import Path

import pytest
import torch

from asr import checkpoint, decode, train
from asr.config import RunConfig, TrainingConfig
from asr.corpora import TimitConfig
from asr.criteria import CTCConfig
from asr.encoder import EncoderConfig
from asr.features import FeaturesConfig
from asr.phones import Vocabulary
from asr.recognizer import Recognizer
from asr.records import DataError, Hypothesis, Utterance, read_jsonl, write_jsonl


@pytest.fixture
def config(tones: list[Utterance], tmp_path: Path) -> RunConfig:
    """A run of three epochs with dropout on the tones, as asr.prepare would leave it."""
    run_dir = tmp_path / "run"
    for split, members in (("train", tones[:6]), ("dev", tones[6:8]), ("test", tones[8:])):
        write_jsonl(run_dir / "manifests" / f"{split}.jsonl", members)
    Vocabulary(["aa", "iy", "m", "s"]).save(run_dir / "vocabulary.txt")
    return RunConfig(
        corpus=TimitConfig(root="unused"),
        criterion=CTCConfig(),
        features=FeaturesConfig(bins=20, deltas=0),
        encoder=EncoderConfig(hidden=16, layers=2, dropout=0.3, subsampling=2),
        training=TrainingConfig(epochs=3, batch_size=2, learning_rate=0.01, schedule="one_cycle"),
        name="tones",
        run_dir=str(run_dir),
        device="cpu",
    )


def weights(config: RunConfig, which: str = "last") -> dict[str, torch.Tensor]:
    path = Path(config.run_dir) / f"checkpoint-{which}.safetensors"
    return checkpoint.load(path).recognizer.state_dict()


def test_a_run_leaves_what_the_stages_after_it_need(config: RunConfig) -> None:
    train.run(config)
    run_dir = Path(config.run_dir)
    log = [json.loads(line) for line in (run_dir / "train.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in log] == [1, 2, 3]
    assert log[2]["train_loss"] < log[0]["train_loss"]
    summary = json.loads((run_dir / "training.json").read_text())
    assert summary["epochs"] == 3
    assert summary["dev_per"] == min(record["dev_per"] for record in log)
    assert (run_dir / "learning-curve.png").read_bytes().startswith(b"\x89PNG")
    best = checkpoint.load(run_dir / "checkpoint-best.safetensors")
    assert best.about["dev_per"] == summary["dev_per"]
    assert best.training is None
    assert "hidden: 16" in (run_dir / "config.yaml").read_text()
    decode.run(config)
    heard = read_jsonl(run_dir / "test.hyp.jsonl", Hypothesis)
    assert [hypothesis.id for hypothesis in heard] == ["tone8"]


def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.run(config)
    expected, expected_best = weights(config), weights(config, "best")
    for name in ("checkpoint-last.safetensors", "checkpoint-best.safetensors", "training.json"):
        (Path(config.run_dir) / name).unlink()
    original, steps = train.train_step, 0

    def interrupted(*args):  # type: ignore[no-untyped-def]
        nonlocal steps
        steps += 1
        if steps == 5:  # in the second of three epochs of three steps
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(train, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.run(config)
    assert not (Path(config.run_dir) / "training.json").exists()
    monkeypatch.setattr(train, "train_step", original)
    train.run(dataclasses.replace(config, resume="auto"))
    for expected_weights, which in ((expected, "last"), (expected_best, "best")):
        found = weights(config, which)
        assert all(torch.equal(found[name], tensor) for name, tensor in expected_weights.items())
    log = (Path(config.run_dir) / "train.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in log] == [1, 2, 3]


def test_a_finished_run_is_not_trained_further(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.run(config)
    before = weights(config)
    monkeypatch.setattr(train, "train_step", lambda *args: pytest.fail("trained on"))
    train.run(dataclasses.replace(config, resume="auto"))
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(config).items())


def test_a_run_is_neither_overwritten_nor_continued_as_another(config: RunConfig) -> None:
    train.run(config)
    before = weights(config)
    with pytest.raises(DataError, match=r"holds a run already; say resume=auto"):
        train.run(config)
    other = dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, hidden=17))
    with pytest.raises(DataError, match=r"begun with encoder\.hidden=16 and now has 17"):
        train.run(dataclasses.replace(other, resume="auto"))
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(config).items())


def test_the_seed_decides_and_nothing_else(config: RunConfig, tmp_path: Path) -> None:
    train.run(config)
    runs = {}
    for name, seed in (("again", config.seed), ("other", config.seed + 1)):
        (tmp_path / name).mkdir()
        for part in ("manifests", "vocabulary.txt"):
            (tmp_path / name / part).symlink_to(Path(config.run_dir) / part)
        runs[name] = dataclasses.replace(config, run_dir=str(tmp_path / name), seed=seed)
        train.run(runs[name])
    head = "criterion.head.weight"
    assert torch.equal(weights(config)[head], weights(runs["again"])[head])
    assert not torch.equal(weights(config)[head], weights(runs["other"])[head])


def test_a_second_run_in_the_same_folder_is_refused(config: RunConfig) -> None:
    with open(Path(config.run_dir) / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another run is writing here"):
            train.run(config)


def test_without_manifests_the_door_says_what_to_run_first(
    config: RunConfig, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"no manifest; run `python -m asr\.prepare`"):
        train.run(dataclasses.replace(config, run_dir=str(tmp_path)))


def test_a_gradient_that_is_no_number_names_its_utterances_and_spares_the_weights(
    tones: list[Utterance], config: RunConfig
) -> None:
    vocabulary = Vocabulary(["aa", "iy", "m", "s"])
    recognizer = Recognizer(config.recognizer, vocabulary)
    (batch,) = train.Batches(tones[:2], vocabulary, 16_000, 2)
    batch.waveforms[1, 100] = float("nan")
    before = {name: tensor.clone() for name, tensor in recognizer.state_dict().items()}
    optimizer = torch.optim.Adam(recognizer.parameters())
    with pytest.raises(DataError, match=f"in a batch of {batch.ids[1]}; lower"):
        train.train_step(recognizer, optimizer, batch, config.training)
    assert all(torch.equal(before[n], tensor) for n, tensor in recognizer.state_dict().items())


def history(*pers: float) -> list[dict[str, float]]:
    return [{"dev_per": per} for per in pers]


def test_the_best_epoch_is_the_first_with_the_lowest_dev_per() -> None:
    assert train.best_epoch(history(50, 20, 30, 20)) == 2


def test_training_stops_when_patience_is_at_an_end() -> None:
    training = TrainingConfig(epochs=9, patience=2)
    assert not train.is_finished([], training)
    assert not train.is_finished(history(50, 20, 30), training)
    assert train.is_finished(history(50, 20, 30, 25), training)
    assert train.is_finished(history(*range(9, 0, -1)), training)


def test_plateau_halves_the_rate_when_dev_per_stalls() -> None:
    training = TrainingConfig(learning_rate=0.8, schedule="plateau", plateau=2)
    rates = [
        train.learning_rate(training, history(*[50, 40, 41, 42, 39, 40, 40, 40, 40][:n]), n)
        for n in range(10)
    ]
    assert rates == [0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2, 0.1]


def test_one_cycle_rises_then_falls() -> None:
    training = TrainingConfig(epochs=10, learning_rate=1.0, schedule="one_cycle", warmup=0.2)
    rates = [train.learning_rate(training, [], step / 10) for step in range(100)]
    peak = rates.index(max(rates))
    assert peak == 20
    assert rates[peak] == 1.0
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 0.01
