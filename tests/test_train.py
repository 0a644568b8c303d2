"""Training: what it leaves behind, when it stops, and that stopping in between changes nothing."""

import copy
import dataclasses
import fcntl
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import batch_of

from asr import checkpoint, train
from asr.architecture import EncoderConfig, RecognizerConfig
from asr.augment import seed_of
from asr.commands import decode
from asr.config import AdamConfig, RunConfig, SGDConfig, TrainingConfig
from asr.corpora import TimitConfig
from asr.criteria import CTCConfig
from asr.dataset import Batches, BucketSampler
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.lstm.fast.products import onednn_multiplies
from asr.phones import Vocabulary
from asr.recognizer import Recognizer
from asr.records import Hypothesis, Utterance, read_jsonl, write_jsonl
from asr.search import SearchConfig
from asr.training import initialization, progress
from asr.training.learner import GradientDescent, averaged, noisy_weights
from asr.training.run_directory import RunDirectory
from asr.training.schedule import Phase, best, phases


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
        optimizer=AdamConfig(learning_rate=0.01),
        training=TrainingConfig(epochs=3, batch_size=2, schedule="one_cycle"),
        name="tones",
        run_dir=str(run_dir),
        device="cpu",
    )


@pytest.fixture
def two_phases(config: RunConfig) -> RunConfig:
    """The same, as in 2013: uniform weights, SGD with momentum, two phases of two epochs."""
    training = TrainingConfig(
        epochs=2, batch_size=2, schedule="constant", initial_range=0.1, weight_noise=0.075
    )
    optimizer = SGDConfig(learning_rate=0.01, momentum=0.9)
    return dataclasses.replace(config, optimizer=optimizer, training=training)


def records(config: RunConfig) -> list[dict[str, float]]:
    lines = (Path(config.run_dir) / "train.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def weights(config: RunConfig, which: str = "last") -> dict[str, torch.Tensor]:
    path = Path(config.run_dir) / f"checkpoint-{which}.safetensors"
    return checkpoint.load(path).recognizer.state_dict()


def test_a_run_leaves_what_the_stages_after_it_need(config: RunConfig) -> None:
    train.run(config)
    run_dir = Path(config.run_dir)
    log = [json.loads(line) for line in (run_dir / "train.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in log] == [1, 2, 3]
    assert log[2]["train_loss"] < log[0]["train_loss"]
    assert all(0 < record["waiting"] < 1 for record in log)
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
    original, steps = GradientDescent.step, 0

    def interrupted(*args):  # type: ignore[no-untyped-def]
        nonlocal steps
        steps += 1
        if steps == 5:  # in the second of three epochs of three steps
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(GradientDescent, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.run(config)
    assert not (Path(config.run_dir) / "training.json").exists()
    monkeypatch.setattr(GradientDescent, "step", original)
    train.run(dataclasses.replace(config, resume="auto"))
    for expected_weights, which in ((expected, "last"), (expected_best, "best")):
        result = weights(config, which)
        assert all(torch.equal(result[name], tensor) for name, tensor in expected_weights.items())
    log = (Path(config.run_dir) / "train.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in log] == [1, 2, 3]


def test_a_frozen_encoder_waits_for_its_criterion(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.run(config)
    source = weights(config, "best")
    original = GradientDescent.step

    def run(name: str, frozen: int, stop_at: int = 0) -> RunConfig:
        steps = 0

        def step(*args):  # type: ignore[no-untyped-def]
            nonlocal steps
            steps += 1
            if steps == stop_at:
                raise KeyboardInterrupt
            return original(*args)

        best = f"{config.run_dir}/checkpoint-best.safetensors"
        training = dataclasses.replace(config.training, start_from=best, frozen_epochs=frozen)
        other = dataclasses.replace(config, training=training, run_dir=str(tmp_path / name))
        if not Path(other.run_dir).exists():
            shutil.copytree(Path(config.run_dir) / "manifests", tmp_path / name / "manifests")
            shutil.copy(Path(config.run_dir) / "vocabulary.txt", tmp_path / name)
        monkeypatch.setattr(GradientDescent, "step", step)
        train.run(dataclasses.replace(other, resume="auto"))
        return other

    for frozen in (2, 3):
        result = weights(run(f"frozen-{frozen}", frozen))
        for key, value in result.items():
            changed = key.startswith("criterion.") or (frozen == 2 and key.startswith("encoder."))
            assert torch.equal(value, source[key]) != changed, key
    with pytest.raises(KeyboardInterrupt):
        run("interrupted", 2, stop_at=5)  # in the second of three epochs of three steps
    again = weights(run("interrupted", 2))
    expected = weights(run("frozen-2", 2))
    assert all(torch.equal(again[key], value) for key, value in expected.items())
    with pytest.raises(ValueError, match=r"training\.start_from names no checkpoint"):
        TrainingConfig(frozen_epochs=1)


def test_a_finished_run_is_not_trained_further(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.run(config)
    before = weights(config)
    monkeypatch.setattr(GradientDescent, "step", lambda *args: pytest.fail("trained on"))
    train.run(dataclasses.replace(config, resume="auto"))
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(config).items())


def test_a_run_is_neither_overwritten_nor_continued_as_another(config: RunConfig) -> None:
    train.run(config)
    before = weights(config)
    with pytest.raises(DataError, match=r"run: holds a run already.*resume=auto"):
        train.run(config)
    other = dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, hidden=17))
    with pytest.raises(DataError, match=r"begun with encoder\.hidden=16 and now has 17"):
        train.run(dataclasses.replace(other, resume="auto"))
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(config).items())


def test_a_run_of_an_earlier_version_is_continued_with_what_is_new_at_its_default(
    config: RunConfig,
) -> None:
    train.run(config)
    path = Path(config.run_dir) / "checkpoint-last.safetensors"
    result = checkpoint.load(path)
    assert result.training is not None
    del result.training.run["training"]["patience"]
    del result.training.run["features"]["dither_db"]
    checkpoint.save(path, result)
    train.run(dataclasses.replace(config, resume="auto"))
    features = dataclasses.replace(config.features, dither_db=45.0)
    other = dataclasses.replace(config, features=features, resume="auto")
    with pytest.raises(DataError, match=r"begun with features\.dither_db=0\.0 and now has 45\.0"):
        train.run(other)


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


@pytest.mark.skipif(not onednn_multiplies(torch.bfloat16), reason="this processor has no bfloat16")
def test_a_run_in_bfloat16_is_another_run_with_weights_of_32_bits(
    config: RunConfig, tmp_path: Path
) -> None:
    train.run(config)
    (tmp_path / "reduced").mkdir()
    for part in ("manifests", "vocabulary.txt"):
        (tmp_path / "reduced" / part).symlink_to(Path(config.run_dir) / part)
    training = dataclasses.replace(config.training, precision="bfloat16")
    reduced = dataclasses.replace(config, run_dir=str(tmp_path / "reduced"), training=training)
    train.run(reduced)
    exact, result = weights(config), weights(reduced)
    name = "encoder.stack.layers.0.directions.0.recurrent.weight"
    assert result[name].dtype == torch.float32
    assert not torch.equal(result[name], exact[name])
    losses = [record["train_loss"] for record in records(reduced)]
    assert losses == pytest.approx([record["train_loss"] for record in records(config)], rel=0.1)
    with pytest.raises(
        DataError, match=r"begun with training\.precision=bfloat16 and now has float"
    ):
        train.run(dataclasses.replace(config, run_dir=reduced.run_dir, resume="auto"))


def test_precision_that_a_device_does_not_have_is_refused_before_work_starts(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = dataclasses.replace(config.training, precision="bfloat16")
    reduced = dataclasses.replace(config, training=training)
    monkeypatch.setattr(initialization, "onednn_multiplies", lambda dtype: False)
    with pytest.raises(DataError, match=r"precision is bfloat16, .* this processor .* set tr"):
        train.run(reduced)
    monkeypatch.setattr(train, "choose_device", lambda *_: torch.device("cuda"))
    monkeypatch.setattr(initialization, "onednn_multiplies", lambda dtype: True)
    with pytest.raises(
        DataError, match=r"precision is bfloat16, .* this GPU .* set training\.prec"
    ):
        train.run(reduced)
    assert not (Path(config.run_dir) / "config.yaml").exists()
    with pytest.raises(ValueError, match=r"training\.precision is 'int8', expected float32 or"):
        TrainingConfig(precision="int8")


def test_a_second_run_in_the_same_folder_is_refused(config: RunConfig) -> None:
    with open(Path(config.run_dir) / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match=r"run: in use by another run; set another run_dir"):
            train.run(config)


def test_without_manifests_the_error_names_the_command_to_run_first(
    config: RunConfig, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl: no manifest; run `asr prepare`"):
        train.run(dataclasses.replace(config, run_dir=str(tmp_path)))


def test_a_gradient_that_is_no_number_names_its_utterances_and_spares_the_weights(
    tones: list[Utterance], config: RunConfig
) -> None:
    vocabulary = Vocabulary(["aa", "iy", "m", "s"])
    recognizer = Recognizer(config.recognizer, vocabulary)
    (batch,) = Batches(tones[:2], vocabulary, 16_000, 2)
    batch.waveforms[1, 100] = float("nan")
    before = {name: tensor.clone() for name, tensor in recognizer.state_dict().items()}
    learner = GradientDescent(recognizer, config.optimizer, config.training)
    with pytest.raises(DataError, match=f"in a batch of {batch.ids[1]}; lower"):
        learner.step(batch)
    assert all(torch.equal(before[n], tensor) for n, tensor in recognizer.state_dict().items())


def test_outside_of_weight_noise_the_weights_are_what_they_were() -> None:
    torch.manual_seed(0)
    module = torch.nn.LSTM(50, 100)
    before = copy.deepcopy(module.state_dict())
    with noisy_weights(module, 0.075):
        noise = [tensor - before[name] for name, tensor in module.state_dict().items()]
    assert all(0.05 < float(each.std()) < 0.1 for each in noise)
    assert abs(float(torch.cat([each.flatten() for each in noise]).mean())) < 1e-3
    with pytest.raises(ZeroDivisionError), noisy_weights(module, 1.0):
        raise ZeroDivisionError
    assert all(torch.equal(before[name], w) for name, w in module.state_dict().items())


def test_the_step_is_from_the_clean_weights_along_the_gradient_at_the_noisy_ones(
    tones: list[Utterance], config: RunConfig
) -> None:
    vocabulary = Vocabulary(["aa", "iy", "m", "s"])
    encoder = dataclasses.replace(config.encoder, dropout=0.0)
    torch.manual_seed(1)
    recognizer = Recognizer(dataclasses.replace(config.recognizer, encoder=encoder), vocabulary)
    batch = batch_of(tones[:2], vocabulary)
    noisy = copy.deepcopy(recognizer)
    with noisy_weights(noisy, 0.2, seed_of(7, 3, "step 5")):
        losses = noisy.loss(batch)
        losses.mean().backward()
    expected = [
        weight - 0.5 * at_noise.grad
        for weight, at_noise in zip(recognizer.parameters(), noisy.parameters(), strict=True)
    ]
    training = TrainingConfig(max_gradient_norm=math.inf)
    learner = GradientDescent(recognizer, SGDConfig(learning_rate=0.5), training, seed=7)
    learner.begin_epoch(3)
    result = learner.step(dataclasses.replace(batch, step=5), weight_noise=0.2)
    assert torch.allclose(result, losses)
    for weight, wanted in zip(recognizer.parameters(), expected, strict=True):
        assert torch.allclose(weight, wanted, atol=1e-5)  # the noise is 0.2


@pytest.mark.parametrize("share", [0.25, 4.0])
def test_the_gradient_is_clipped_at_its_largest_norm(
    tones: list[Utterance], config: RunConfig, share: float
) -> None:
    vocabulary = Vocabulary(["aa", "iy", "m", "s"])
    encoder = dataclasses.replace(config.encoder, dropout=0.0)
    recognizer = Recognizer(dataclasses.replace(config.recognizer, encoder=encoder), vocabulary)
    batch = batch_of(tones[:2], vocabulary)
    before = [weight.detach().clone() for weight in recognizer.parameters()]
    recognizer.loss(batch).mean().backward()
    gradients = [weight.grad.clone() for weight in recognizer.parameters()]
    norm = float(torch.cat([gradient.flatten() for gradient in gradients]).norm())
    training = TrainingConfig(max_gradient_norm=share * norm)
    GradientDescent(recognizer, SGDConfig(learning_rate=1.0, momentum=0.0), training).step(batch)
    for weight, was, gradient in zip(recognizer.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(was - weight, min(share, 1.0) * gradient, rtol=1e-3, atol=1e-5)


def test_train_loss_is_the_sum_over_all_utterances_by_the_phones_of_all(
    config: RunConfig, tones: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = {utterance.id: 2.0**number for number, utterance in enumerate(tones[:6])}

    def step(self, batch, *args):  # type: ignore[no-untyped-def]
        return torch.tensor([losses[id] for id in batch.ids])

    monkeypatch.setattr(GradientDescent, "step", step)
    training = TrainingConfig(epochs=2, batch_size=4)  # batches of four and of two
    train.run(dataclasses.replace(config, training=training))
    phones = sum(len(utterance.phones) for utterance in tones[:6])
    assert [record["train_loss"] for record in records(config)] == 2 * [63 / phones]


def test_every_epoch_has_its_own_order_and_every_step_its_own_rate(
    config: RunConfig, tones: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, steps = GradientDescent.step, []

    def watched(self, batch, *args):  # type: ignore[no-untyped-def]
        losses = original(self, batch, *args)
        steps.append((batch.ids, self.optimizer.param_groups[0]["lr"]))
        return losses

    monkeypatch.setattr(GradientDescent, "step", watched)
    training = TrainingConfig(epochs=8, batch_size=1, schedule="one_cycle", warmup=0.25)
    train.run(dataclasses.replace(config, training=training, seed=7))
    sampler = BucketSampler([utterance.duration_s for utterance in tones[:6]], 1, seed=7)
    expected = []
    for sampler.epoch in range(1, 9):
        expected += [tuple(tones[n].id for n in batch) for batch in sampler]
    assert [ids for ids, _ in steps] == expected
    assert len({tuple(expected[n : n + 6]) for n in range(0, 48, 6)}) > 1
    parts = [rate(training, step / 6) for step in range(48)]
    assert [rate for _, rate in steps] == pytest.approx([0.01 * part for part in parts])
    last = [record["learning_rate"] for record in records(config)]
    assert last == pytest.approx([0.01 * part for part in parts[5::6]])


def test_dev_loss_and_hypotheses_are_those_of_every_utterance_alone(
    tones: list[Utterance], config: RunConfig
) -> None:
    vocabulary = Vocabulary(["aa", "iy", "m", "s"])
    recognizer = Recognizer(config.recognizer, vocabulary)
    recognizer.train()
    loss, heard = train.evaluate(recognizer, [batch_of(tones, vocabulary)], SearchConfig())
    assert not recognizer.training
    total = 0.0
    for utterance in tones:
        batch = batch_of([utterance], vocabulary)
        total += float(recognizer.loss(batch).detach())
        encoded, lengths = recognizer.encode_batch(batch)
        ((alone,),) = recognizer.search(encoded, lengths, batch.ids, SearchConfig())
        assert heard[utterance.id].phones == alone.phones
    phones = sum(len(utterance.phones) for utterance in tones)
    assert loss == pytest.approx(total / phones, rel=1e-4)


def test_training_with_noise_has_two_phases(
    two_phases: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, steps = GradientDescent.step, []

    def watched(self, batch, rate, noise):  # type: ignore[no-untyped-def]
        begun = {name: tensor.clone() for name, tensor in self.recognizer.state_dict().items()}
        steps.append((noise, bool(self.optimizer.state), begun))
        return original(self, batch, rate, noise)

    monkeypatch.setattr(GradientDescent, "step", watched)
    train.run(two_phases)
    assert [noise for noise, _, _ in steps] == 6 * [0.0] + 6 * [0.075]
    drawn = torch.cat([steps[0][2][n].flatten() for n, _ in recognizer_of(two_phases)])
    assert 0.09 < float(drawn.abs().max()) <= 0.1
    # Phase 2 goes on from the best of phase 1, and its optimiser remembers nothing.
    log = records(two_phases)
    assert [record["phase"] for record in log] == [1, 1, 2, 2]
    first = checkpoint.load(Path(two_phases.run_dir) / "checkpoint-phase1.safetensors")
    assert first.about["epoch"] == min(log[:2], key=lambda r: r["dev_loss"])["epoch"]
    assert [remembers for _, remembers, _ in steps] == [False, *5 * [True], False, *5 * [True]]
    for name, tensor in first.recognizer.state_dict().items():
        assert torch.equal(steps[6][2][name], tensor)
    # The result is the best of phase 2 by dev PER, whatever phase 1 had.
    best = checkpoint.load(Path(two_phases.run_dir) / "checkpoint-best.safetensors")
    chosen = min(log[2:], key=lambda record: record["dev_per"])
    assert best.about["epoch"] == chosen["epoch"]
    summary = json.loads((Path(two_phases.run_dir) / "training.json").read_text())
    assert (summary["best_epoch"], summary["dev_per"]) == (chosen["epoch"], chosen["dev_per"])


def recognizer_of(config: RunConfig) -> list[tuple[str, torch.nn.Parameter]]:
    path = Path(config.run_dir) / "checkpoint-last.safetensors"
    return list(checkpoint.load(path).recognizer.named_parameters())


def test_two_phases_stopped_after_every_epoch_end_as_if_never_stopped(
    two_phases: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.run(two_phases)
    (tmp_path / "stopped").mkdir()
    for part in ("manifests", "vocabulary.txt"):
        (tmp_path / "stopped" / part).symlink_to(Path(two_phases.run_dir) / part)
    stopped = dataclasses.replace(two_phases, run_dir=str(tmp_path / "stopped"), resume="auto")

    def stop(*args: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Phase, "describe", stop)  # what an epoch ends with
        for _ in range(4):
            with pytest.raises(KeyboardInterrupt):
                train.run(stopped)
    assert not (tmp_path / "stopped" / "training.json").exists()
    train.run(stopped)
    for which in ("last", "phase1", "best"):
        expected, result = weights(two_phases, which), weights(stopped, which)
        assert all(torch.equal(result[name], tensor) for name, tensor in expected.items())
    for one, other in zip(records(two_phases), records(stopped), strict=True):
        assert one | {"seconds": 0, "waiting": 0} == other | {"seconds": 0, "waiting": 0}


def test_the_share_of_waiting_is_that_of_the_rank_that_waits_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 0.0

    def batches() -> Iterator[int]:
        nonlocal clock
        for number in range(4):
            clock += 3.0
            yield number

    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock))
    measured = progress.Progress()
    for number in measured.timed(batches(), "epoch 1"):  # type: ignore[arg-type]
        clock += 1.0
        if number == 1:  # continued from the state within the step
            measured = progress.Progress.of([measured.state()])
            break
    for _ in measured.timed(batches(), "epoch 1"):  # type: ignore[arg-type]
        clock += 1.0
    assert measured.waiting() == 18.0 / (18.0 + 5.0)
    other = 1.0, 0.1
    monkeypatch.setattr(progress.ranks, "gather", lambda mine: [mine, other])
    assert measured.waiting() == 1.0 / 1.1
    old = measured.state()[:5]  # of a state of before this was measured
    assert progress.Progress.of([old, old]).state()[5:] == [0.0, 0.0]


def test_waiting_is_warned_of_once_where_it_matters(caplog: pytest.LogCaptureFixture) -> None:
    epochs: list[dict[str, float]] = []
    for seconds, share in ((9.0, 1.0), (1000.0, 0.09), (100.0, 0.5), (100.0, 0.6)):
        epochs.append({"epoch": len(epochs) + 1, "seconds": seconds, "waiting": share})
        progress.warn_of_waiting(epochs, 1, cacheable=len(epochs) == 3)
    says = "epoch 3: the model waited for recordings in 50 % of its time; set training.workers=2"
    assert caplog.messages == [f"{says} (now 1), or cache=FOLDER"]


def history(*pers: float, losses: Sequence[float] = ()) -> list[dict[str, float]]:
    """Epochs of phase 1 with these dev losses, then of the last phase with these dev PERs."""
    first = [{"dev_loss": loss, "dev_per": 100 - loss, "phase": 1} for loss in losses]
    last = [{"dev_loss": 100 - per, "dev_per": per, "phase": 2 if losses else 1} for per in pers]
    return [{"epoch": n, **record} for n, record in enumerate([*first, *last], start=1)]


def test_the_average_follows_the_weights_by_its_decay() -> None:
    recognizer = Recognizer(
        RecognizerConfig(FeaturesConfig(bins=20, deltas=0), EncoderConfig(hidden=4), CTCConfig()),
        Vocabulary(["aa", "iy"]),
    )
    average = averaged(recognizer, 0.75)
    assert average is not None
    expected = {name: weight.detach().clone() for name, weight in recognizer.named_parameters()}
    for step in range(3):
        with torch.no_grad():
            for weight in recognizer.parameters():
                weight += 0.1 * (step + 1)
        average.update_parameters(recognizer)
        for name, weight in recognizer.named_parameters():
            expected[name] = 0.75 * expected[name] + 0.25 * weight.detach()
    for name, weight in average.module.named_parameters():
        torch.testing.assert_close(weight, expected[name])
    assert averaged(recognizer, 0.0) is None


def test_with_an_average_it_is_what_is_evaluated_and_kept(config: RunConfig) -> None:
    training = dataclasses.replace(config.training, average=0.5, epochs=1)
    train.run(dataclasses.replace(config, training=training))
    run_dir = Path(config.run_dir)
    kept, last = (
        checkpoint.load(run_dir / f"checkpoint-{name}.safetensors") for name in ("best", "last")
    )
    assert last.training is not None
    average = last.training.learner["average"]
    for name, weight in kept.recognizer.state_dict().items():
        assert torch.equal(weight, average[f"module.{name}"])
    moved = last.recognizer.state_dict()
    assert any(not torch.equal(w, moved[n]) for n, w in kept.recognizer.named_parameters())


def test_a_deeper_network_begins_with_the_layers_of_another(config: RunConfig) -> None:
    train.run(config)
    path = Path(config.run_dir) / "checkpoint-best.safetensors"
    theirs = checkpoint.load(path).recognizer
    vocabulary = Vocabulary(["aa", "iy", "m", "s"])
    for layers in (1, 3):
        encoder = dataclasses.replace(config.encoder, layers=layers)
        recipe = dataclasses.replace(config.recognizer, encoder=encoder)
        recognizer = Recognizer(recipe, vocabulary)
        if layers < 2:
            with pytest.raises(DataError, match=r"encoder\.layers=2"):
                initialization.carry_over(str(path), recognizer)
            continue
        fresh = {name: weight.clone() for name, weight in recognizer.state_dict().items()}
        assert initialization.carry_over(str(path), recognizer) == ("features", "encoder")
        old = theirs.state_dict()
        for name, weight in recognizer.state_dict().items():
            carried = name in old and not name.startswith("criterion")
            assert torch.equal(weight, old[name] if carried else fresh[name])


def test_the_best_epoch_is_the_first_with_the_lowest_dev_per() -> None:
    assert best(history(50, 20, 30, 20))["epoch"] == 2


def test_training_stops_when_patience_is_at_an_end() -> None:
    training = TrainingConfig(epochs=9, patience=2)
    (phase,) = phases(training)
    assert not phase.is_finished([])
    assert not phase.is_finished(history(50, 20, 30))
    assert phase.is_finished(history(50, 20, 30, 25))
    assert phase.is_finished(history(*range(9, 0, -1)))


def test_a_phase_ends_by_its_own_epochs_and_its_own_criterion() -> None:
    training = TrainingConfig(epochs=4, patience=2, weight_noise=0.1)
    first, second = phases(training)
    assert not first.is_finished(history(losses=[5, 4, 3]))
    assert first.is_finished(history(losses=[5, 4, 3, 2]))
    assert first.is_finished(history(losses=[3, 4, 5]))
    assert not second.is_finished(history(losses=[3, 4, 5]))
    assert not second.is_finished(history(50, 40, 41, losses=[3, 4, 5]))
    assert second.is_finished(history(50, 40, 41, 42, losses=[3, 4, 5]))
    assert first.is_finished(history(50, 40, losses=[3, 4, 5]))


def rate(training: TrainingConfig, epochs: float) -> float:
    """The fraction of the highest learning rate after a number of epochs of the only phase."""
    (phase,) = phases(training)
    return phase.rate(history(*range(int(epochs))), epochs % 1)


def test_plateau_halves_the_rate_when_dev_per_stalls() -> None:
    training = TrainingConfig(schedule="plateau", plateau=2)
    pers = [50, 40, 41, 42, 39, 40, 40, 40, 40]
    (phase,) = phases(training)
    parts = [phase.rate(history(*pers[:n]), 0.0) for n in range(10)]
    assert parts == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_one_cycle_rises_then_falls() -> None:
    training = TrainingConfig(epochs=10, schedule="one_cycle", warmup=0.2)
    parts = [rate(training, step / 10) for step in range(100)]
    peak = parts.index(max(parts))
    assert peak == 20
    assert parts[peak] == 1.0
    assert parts[: peak + 1] == sorted(parts[: peak + 1])
    assert parts[peak:] == sorted(parts[peak:], reverse=True)
    assert parts[-1] < 0.01


def test_one_cycle_begins_at_a_twentieth_of_the_highest_rate_and_ends_at_a_thousandth() -> None:
    training = TrainingConfig(epochs=10, schedule="one_cycle", warmup=0.2)
    times = [0.0, 0.5, 1.0, 2.0, 6.0, 10.0]
    parts = [rate(training, epochs) for epochs in times]
    assert parts == pytest.approx([0.05, 0.2875, 0.525, 1.0, 0.5005, 0.001])
    rise = [rate(training, step / 100) for step in range(201)]
    assert min(rise) == rise[0] == 0.05


def test_constant_is_constant() -> None:
    training = TrainingConfig(epochs=3, schedule="constant")
    assert {rate(training, step / 10) for step in range(30)} == {1.0}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"duration_s": 30.0}, "duration_s is 30 in the manifest"),
        ({"duration_s": 0.001}, "too short for CTC"),
        ({"phones": (), "segments": None}, "no phones"),
        ({"phones": ("aa", "s") * 400, "segments": None}, "too short for CTC"),
    ],
)
def test_what_the_manifest_says_of_the_audio_is_checked_before_training(
    config: RunConfig, change: dict[str, Any], says: str
) -> None:
    path = Path(config.run_dir) / "manifests" / "train.jsonl"
    first, *others = read_jsonl(path, Utterance)
    changed = dataclasses.replace(first, segments=None)
    write_jsonl(path, [dataclasses.replace(changed, **change), *others])
    with pytest.raises(DataError, match=says):
        train.run(config)
    assert not RunDirectory(config.run_dir).last.exists()


def test_a_moved_corpus_is_found_below_its_root(config: RunConfig, tmp_path: Path) -> None:
    run = RunDirectory(config.run_dir)
    before = list(run.utterances("train"))
    (tmp_path / "new").mkdir()
    for split in ("train", "dev"):
        utterances = read_jsonl(run.manifest(split), Utterance)
        for one in utterances:
            shutil.copy(one.audio, tmp_path / "new")
        lost = [
            dataclasses.replace(u, audio=f"/old/place/{Path(u.audio).name}") for u in utterances
        ]
        write_jsonl(run.manifest(split), lost)
    with pytest.raises(DataError, match=r"train\.jsonl:1: /old/place/.*set corpus\.root"):
        run.utterances("train", str(tmp_path / "nowhere"))
    after = run.utterances("train", str(tmp_path / "new"))
    assert [u.audio for u in after] == [str(tmp_path / "new" / Path(u.audio).name) for u in before]
    assert [u.id for u in run.utterances("train")] == [u.id for u in before]
