"""A training that is interrupted anywhere ends with the weights of one that is not."""

import dataclasses
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train import config, records, weights  # noqa: F401

from asr import batch, checkpoint, dataset, train
from asr.architecture import EncoderConfig
from asr.batch import Batch
from asr.commands import decode, tune
from asr.config import RunConfig, TuneConfig
from asr.criteria import GMMConfig
from asr.dataset import Batches
from asr.errors import DataError
from asr.phones import Vocabulary
from asr.processor.workers import ignore_signals
from asr.records import Utterance, write_jsonl
from asr.training.learner import ExpectationMaximisation, GradientDescent
from asr.training.progress import SIGNALS, Pauses

FRAMES = 110  # two utterances of a step in two batches, or in one

Change = Callable[[RunConfig], RunConfig]


def kept_whenever(run: RunConfig, **training: Any) -> RunConfig:
    return dataclasses.replace(run, training=dataclasses.replace(run.training, **training))


def averaged(run: RunConfig) -> RunConfig:
    return kept_whenever(run, average=0.9, batch_frames=FRAMES)


def noisy(run: RunConfig) -> RunConfig:
    return kept_whenever(run, epochs=2, weight_noise=0.05, initial_range=0.1, workers=1)


def mixtures(run: RunConfig) -> RunConfig:
    gmm = GMMConfig(mixtures=2, passes=1)
    return dataclasses.replace(
        kept_whenever(run, batch_frames=FRAMES), criterion=gmm, encoder=EncoderConfig(layers=0)
    )


def in_folder(run: RunConfig, folder: Path) -> RunConfig:
    """The same run in another folder, to be continued."""
    folder.mkdir()
    for part in ("manifests", "vocabulary.txt"):
        (folder / part).symlink_to(Path(run.run_dir) / part)
    return dataclasses.replace(run, run_dir=str(folder), resume="auto")


def same(one: RunConfig, other: RunConfig, *which: str) -> bool:
    times = {"seconds": 0, "waiting": 0}
    logs = [[record | times for record in records(run)] for run in (one, other)]
    pairs = [(weights(one, name), weights(other, name)) for name in which or ("last", "best")]
    return logs[0] == logs[1] and all(
        torch.equal(tensor, theirs[name]) for ours, theirs in pairs for name, tensor in ours.items()
    )


def interrupt(number: signal.Signals) -> None:
    """Send this process a signal, and wait until another thread has taken it."""
    os.kill(os.getpid(), number)
    time.sleep(0.02)


def test_signals_of_a_training_interrupt_no_thread_that_computes() -> None:
    masks = []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])

    def look() -> None:
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        with ThreadPoolExecutor(1) as pool:
            masks.append(pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result())
        interrupt(signal.SIGTERM)

    with pytest.raises(SystemExit, match="75"), Pauses(0):
        look()
    assert all(mask >= {*SIGNALS, signal.SIGCHLD} for mask in masks)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_signals_do_not_damage_the_heap_in_products_of_onednn() -> None:
    code = """
import signal, time, torch
from asr.processor import signals
count = 0
def handle(*_):
    global count
    count += 1
signal.signal(signal.SIGALRM, handle)
torch.set_num_threads(1)
lstm, frames = torch.nn.LSTM(80, 128, bidirectional=True), torch.randn(100, 8, 80)
with signals.away():
    signal.setitimer(signal.ITIMER_REAL, 5e-4, 5e-4)
    end = time.monotonic() + 2
    while time.monotonic() < end:
        lstm(frames)[0].sum().backward()
    signal.setitimer(signal.ITIMER_REAL, 0)
print(count)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def test_a_worker_ends_by_a_signal_of_its_parent_alone() -> None:
    ready = multiprocessing.get_context("fork").Event()

    def work() -> None:
        ignore_signals()
        ready.set()
        time.sleep(60)

    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    assert ready.wait(10)
    for name in ("TERM", "USR1", "HUP", "INT"):
        subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)
    worker.join(0.5)
    assert worker.is_alive()
    worker.terminate()
    worker.join(10)
    assert not worker.is_alive()


def test_ctrl_c_at_the_end_of_a_program_ends_it_with_a_sentence_too() -> None:
    code = """
import os, signal, sys
sys.argv = ["asr", "score", "--nosuch"]
import asr.__main__
try:
    asr.__main__.main()
except SystemExit:
    os.kill(os.getpid(), signal.SIGINT)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "error: interrupted"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("change", [averaged, noisy, mixtures])
def test_signals_in_every_step_and_evaluation_change_nothing(
    config: RunConfig,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Change,
) -> None:
    whole = change(config)
    train.run(whole)
    stopped = in_folder(whole, tmp_path / "stopped")
    heard: Counter[str] = Counter()
    signals = itertools.cycle(SIGNALS)

    def watched(kind: type) -> None:
        step = kind.step

        def signalled(self: Any, batch: Batch, *others: Any) -> Any:
            heard.update(batch.ids)
            interrupt(next(signals))
            return step(self, batch, *others)

        monkeypatch.setattr(kind, "step", signalled)

    watched(GradientDescent)
    watched(ExpectationMaximisation)
    evaluate, evaluated = train.evaluate, 0

    def evaluation(*arguments: Any) -> Any:
        nonlocal evaluated
        evaluated += 1
        if evaluated % 2:
            interrupt(signal.SIGTERM)
        return evaluate(*arguments)

    monkeypatch.setattr(train, "evaluate", evaluation)
    ends = []
    for _ in range(100):
        try:
            train.run(stopped)
            break
        except SystemExit as end:
            ends.append(end.code)
        except KeyboardInterrupt:
            ends.append(130)
    epochs = len(records(whole))
    assert len(ends) == epochs * (3 + 1)  # three steps, and an evaluation
    assert set(ends) == {75, 130}
    assert heard == {f"tone{n}": epochs for n in range(6)}
    assert same(whole, stopped, "last", "best", *["phase1"] * (change is noisy))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_damaged_state_is_refused_by_name_and_the_one_before_continues(
    config: RunConfig,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train.run(config)
    stopped = in_folder(kept_whenever(config, keep_every_minutes=1e-9), tmp_path / "stopped")
    step, steps = GradientDescent.step, 0

    def killed(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 6:  # in the second epoch, after its second step
            raise MemoryError
        return step(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(GradientDescent, "step", killed)
        with pytest.raises(MemoryError):
            train.run(stopped)
    last, previous = (
        tmp_path / "stopped" / f"checkpoint-{n}.safetensors" for n in ("last", "previous")
    )
    states = [checkpoint.load(path).training for path in (last, previous)]
    assert [one and one.learner["progress"][0][0] for one in states] == [2, 1]
    damaged = bytearray(last.read_bytes())
    damaged[-100] ^= 1
    last.write_bytes(damaged)
    with pytest.raises(
        DataError, match=r"last\.safe.* damaged.*resume=previous.*after epoch 1, step 1"
    ):
        train.run(stopped)
    train.run(dataclasses.replace(stopped, resume="previous"))
    assert same(config, stopped)
    last.unlink()  # as when killed between two renamings
    train.run(stopped)
    assert same(config, stopped)


def test_the_budget_of_frames_changes_no_gradient_and_refuses_by_name(
    config: RunConfig,  # noqa: F811
    tones: list[Utterance],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = dataclasses.replace(config.encoder, dropout=0.0)
    plain = dataclasses.replace(kept_whenever(config, batch_size=3), encoder=encoder)
    train.run(plain)
    step, sizes = GradientDescent.step, []

    def watched(self: Any, batch: Batch, *others: Any) -> Any:
        sizes.append(len(batch.ids))
        return step(self, batch, *others)

    monkeypatch.setattr(GradientDescent, "step", watched)
    cut = in_folder(kept_whenever(plain, batch_frames=150), tmp_path / "cut")
    train.run(cut)
    assert len(sizes) > 6  # steps of three epochs
    assert sum(sizes) == 18
    assert max(sizes) > 1
    for one, other in zip(records(plain), records(cut), strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
    monkeypatch.setattr(GradientDescent, "step", lambda *_: pytest.fail("was trained"))
    small = in_folder(kept_whenever(plain, batch_frames=40), tmp_path / "small")
    with pytest.raises(DataError, match=r"tone\d: its [\d.]+ s are \d+ frames, .* at most 40;"):
        train.run(small)


def test_no_command_pads_more_frames_together_than_the_budget(
    config: RunConfig,  # noqa: F811
    tones: list[Utterance],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most, sizes = 150, list[int]()
    run = kept_whenever(config, batch_size=8, batch_frames=most, epochs=1)
    run = dataclasses.replace(run, tune=TuneConfig(blank_penalty=[0.0]))
    for split in ("dev", "test"):
        write_jsonl(Path(run.run_dir) / "manifests" / f"{split}.jsonl", tones[5:])
    pad = batch.pad

    def watched(parts: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        padded, lengths = pad(parts)
        if padded.is_floating_point() and padded.numel():
            per_frame = run.features.hop_samples if padded.dim() == 2 else 1
            sizes.append(len(parts))
            assert len(parts) == 1 or padded[..., 0].numel() <= most * per_frame
        return padded, lengths

    for module in (batch, dataset, tune):
        monkeypatch.setattr(module, "pad", watched)
    for command in (train, decode, tune):
        sizes.clear()
        command.run(run)
        assert max(sizes) > 1


def test_batches_for_evaluation_hold_ten_minutes_at_most(tones: list[Utterance]) -> None:
    lengths = [3.0] * 20 + [594.0, 700.0]
    long = [dataclasses.replace(tones[0], id=f"{n}", duration_s=s) for n, s in enumerate(lengths)]
    vocabulary = Vocabulary(["aa", "iy", "m", "s"])
    plan = list(Batches(long, vocabulary, 16_000, 16).bucket_sampler)
    assert [len(batch) for batch in plan] == [16, 4, 1, 1]


def test_the_sums_of_ranks_are_added_up_for_another_number_of_them() -> None:
    from asr.training.progress import Progress

    state = Progress.of([[3, 1.5, 4, 60.0, False], [3, 2.5, 5, 60.0, False]]).state()
    assert state[:3] == [3, 4.0, 9]
    assert state[3] == pytest.approx(60, abs=1)
