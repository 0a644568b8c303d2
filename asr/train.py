"""Door: manifests → the checkpoint with the best dev PER.

    python -m asr.train experiment=timit encoder.hidden=320

The story in order: what is there, the recogniser, its normalisation, then epochs of batches. An
epoch draws all its chance from (seed, epoch), so a run that was interrupted and continued ends
with the same weights as one that was not.
"""

import fcntl
import json
import logging
import math
import os
import platform
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from asr import __version__, checkpoint, scoring
from asr.augment import Augment
from asr.batch import Batch
from asr.checkpoint import Checkpoint, TrainingState
from asr.config import RunConfig, TrainingConfig, choose_device, door
from asr.dataset import Batches
from asr.phones import Vocabulary
from asr.recognizer import Recognizer, transcribe_all
from asr.records import DataError, Hypothesis, Manifest, Utterance, atomic_open

log = logging.getLogger(__name__)

CURVE_AFTER_S = 10.0  # the learning curve is drawn after epochs this long, and at the end

History = list[dict[str, Any]]  # one record for each finished epoch


def run(config: RunConfig) -> None:
    """Train, and write `checkpoint-best`, `checkpoint-last`, `train.jsonl`, `learning-curve.png`.

    At the end, and only then, `training.json` says that the run is complete and what came of it.
    """
    run_dir = Path(config.run_dir)
    device = choose_device(config)
    train, dev = (_manifest(run_dir, split) for split in ("train", "dev"))
    vocabulary = Vocabulary.load(run_dir / "vocabulary.txt")
    training = config.training
    with only_run_in(run_dir):
        # ── recogniser and optimiser, new or continued ────────────────────────────────────────
        torch.manual_seed(config.seed)
        recognizer = Recognizer(config.recognizer, vocabulary).to(device)
        optimizer = torch.optim.Adam(recognizer.parameters(), lr=training.learning_rate)
        history: History = []
        unchanging = _unchanging(config, train)
        state = _earlier_state(config, unchanging, recognizer)
        augment = Augment(config.augment, config.features.sample_rate)
        batches = _batches(config, train, vocabulary, config.seed, augment)
        dev_batches = _batches(config, dev, vocabulary, None)
        if state is None:
            recognizer.features.fit_normalization(
                (batch.waveforms.to(device), batch.waveform_lengths.to(device))
                for batch in _batches(config, train, vocabulary, None)
            )
        else:
            optimizer.load_state_dict(state.optimizer)
            history = state.history
        with atomic_open(run_dir / "config.yaml") as file:
            file.write(config.to_yaml())
        log.info(
            "%s, seed %d: %d parameters, %d labels, %s, %s",
            config.name,
            config.seed,
            recognizer.parameter_count,
            len(vocabulary),
            device,
            f"continued after epoch {len(history)}" if history else "from the beginning",
        )
        # ── epochs ────────────────────────────────────────────────────────────────────────────
        while not is_finished(history, training):
            epoch = len(history) + 1
            started = time.monotonic()
            torch.manual_seed(random.Random(f"{config.seed} {epoch}").getrandbits(63))
            batches.set_epoch(epoch)
            recognizer.train()
            total, phones = 0.0, 0
            progress = tqdm(batches, f"epoch {epoch}", leave=False, disable=None)
            for step, batch in enumerate(progress):
                rate = learning_rate(training, history, epoch - 1 + step / len(batches))
                for group in optimizer.param_groups:
                    group["lr"] = rate
                losses = train_step(recognizer, optimizer, batch.to(device), training, augment)
                total += float(losses.sum())
                phones += int(batch.target_lengths.sum())
            heard = transcribe_all(recognizer, dev_batches, config.search)
            history.append(
                {
                    "epoch": epoch,
                    "train_loss": total / phones,  # nats per phone
                    "dev_per": phone_error_rate(dev, heard, config.corpus.protocol),
                    "learning_rate": rate,
                    "seconds": time.monotonic() - started,
                }
            )
            state = TrainingState(unchanging, history, optimizer.state_dict())
            _keep(run_dir, config, recognizer, state)
            log.info("%s", describe(history, training))
        _finish(run_dir, config, recognizer, history, device)


def train_step(
    recognizer: Recognizer,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    training: TrainingConfig,
    augment: Augment | None = None,
) -> Tensor:
    """One step of gradient descent on the mean loss; the utterances' losses before it, (N,).

    Raises `DataError`, with the weights untouched, where a loss or a gradient is not finite.
    """
    losses = recognizer.loss(batch, augment)
    optimizer.zero_grad(set_to_none=True)
    losses.mean().backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(recognizer.parameters(), training.max_gradient_norm)
    if not torch.isfinite(norm):
        named = [id for id, loss in zip(batch.ids, losses, strict=True) if not loss.isfinite()]
        raise DataError(
            f"the gradient is {float(norm)} in a batch of {', '.join(named or batch.ids)}; "
            f"lower training.learning_rate, or look at these utterances"
        )
    optimizer.step()
    return losses.detach()


def phone_error_rate(
    dev: Sequence[Utterance], heard: dict[str, Hypothesis], protocol: str = "strict"
) -> float:
    """PER in percent under a protocol of `asr.scoring`."""
    references = {utterance.id: utterance.phones for utterance in dev}
    hypotheses = {id: hypothesis.phones for id, hypothesis in heard.items()}
    return scoring.score(references, hypotheses, protocol=protocol).total.per


def learning_rate(training: TrainingConfig, history: History, epochs_done: float) -> float:
    """The rate at a time in epochs, from the schedule and, for `plateau`, from past dev PERs."""
    if training.schedule == "one_cycle":  # Smith (2018), with a cosine fall
        progress = epochs_done / training.epochs
        if progress < training.warmup:
            return training.learning_rate * (0.05 + 0.95 * progress / training.warmup)
        fall = (progress - training.warmup) / (1 - training.warmup)
        return training.learning_rate * (0.001 + 0.999 * (1 + math.cos(math.pi * fall)) / 2)
    halvings, stalled, best = 0, 0, math.inf
    for record in history:
        stalled = 0 if record["dev_per"] < best else stalled + 1
        best = min(best, record["dev_per"])
        if stalled >= training.plateau:
            halvings, stalled = halvings + 1, 0
    return float(training.learning_rate / 2**halvings)


def best_epoch(history: History) -> int:
    """The first epoch with the lowest dev PER, counted from 1."""
    return 1 + min(range(len(history)), key=lambda index: history[index]["dev_per"])


def is_finished(history: History, training: TrainingConfig) -> bool:
    """Whether all epochs are done, or `patience` of them brought no better dev PER."""
    if not history:
        return False
    return (
        len(history) >= training.epochs or len(history) - best_epoch(history) >= training.patience
    )


def describe(history: History, training: TrainingConfig) -> str:
    """One line about the last epoch; a star marks the best so far."""
    last = history[-1]
    star = " *" if best_epoch(history) == len(history) else ""
    return (
        f"epoch {last['epoch']:3d}/{training.epochs}  loss {last['train_loss']:6.3f} nats/phone  "
        f"dev %PER {last['dev_per']:6.2f}  rate {last['learning_rate']:.1e}  "
        f"{last['seconds']:5.1f} s{star}"
    )


@contextmanager
def only_run_in(run_dir: Path) -> Iterator[None]:
    """Hold the run directory; a second run in it is refused. The lock dies with its process."""
    with open(run_dir / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"{run_dir}: another run is writing here; give another run_dir"
            ) from None
        yield


def _manifest(run_dir: Path, split: str) -> Manifest:
    path = run_dir / "manifests" / f"{split}.jsonl"
    if not path.exists():
        raise DataError(f"{path}: no manifest; run `python -m asr.prepare` with the same overrides")
    return Manifest(path)


def _batches(
    config: RunConfig,
    utterances: Sequence[Utterance],
    vocabulary: Vocabulary,
    seed: int | None,
    augment: Augment | None = None,
) -> Batches:
    training = config.training
    return Batches(
        utterances,
        vocabulary,
        config.features.sample_rate,
        training.batch_size,
        seed,
        training.workers,
        augment,
    )


def _unchanging(config: RunConfig, train: Sequence[Utterance]) -> dict[str, Any]:
    """What must be the same when a run is continued."""
    run = config.to_dict()
    training = {key: value for key, value in run["training"].items() if key != "workers"}
    return {
        "seed": config.seed,
        "features": run["features"],
        "augment": run["augment"],
        "encoder": run["encoder"],
        "criterion": run["criterion"],
        "training": training,
        "utterances": len(train),
    }


def _earlier_state(
    config: RunConfig, unchanging: dict[str, Any], recognizer: Recognizer
) -> TrainingState | None:
    """Load the last checkpoint's weights into `recognizer`, if there is one to be continued."""
    run_dir = Path(config.run_dir)
    path = run_dir / "checkpoint-last.safetensors"
    if not path.exists():
        return None
    if config.resume == "never":
        raise DataError(
            f"{run_dir}: holds a run already; say resume=auto to continue it, or give "
            f"another run_dir"
        )
    found = checkpoint.load(path)
    assert found.training is not None
    for key, value in _flat(unchanging).items():
        before = _flat(found.training.run).get(key)
        if before != value:
            raise DataError(
                f"{run_dir}: cannot be continued, it was begun with {key}={before} and now has "
                f"{value}; give another run_dir (make: NAME=), or remove the folder"
            )
    recognizer.load_state_dict(found.recognizer.state_dict())
    return found.training


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _keep(run_dir: Path, config: RunConfig, recognizer: Recognizer, state: TrainingState) -> None:
    """Write what the finished epoch brought; the last checkpoint comes last."""
    history = state.history
    about = {
        "version": __version__,
        "experiment": config.name,
        "corpus": config.corpus.name,
        "seed": config.seed,
        **history[-1],
    }
    if best_epoch(history) == len(history):
        checkpoint.save(run_dir / "checkpoint-best.safetensors", Checkpoint(recognizer, about))
    checkpoint.save(run_dir / "checkpoint-last.safetensors", Checkpoint(recognizer, about, state))
    with atomic_open(run_dir / "train.jsonl") as file:
        file.writelines(json.dumps(record) + "\n" for record in history)
    if history[-1]["seconds"] > CURVE_AFTER_S:
        _draw(run_dir, config, history)


def _draw(run_dir: Path, config: RunConfig, history: History) -> None:
    draw_learning_curve(run_dir / "learning-curve.png", history, f"{config.corpus.name} dev")


def draw_learning_curve(path: Path, history: History, dev: str) -> None:
    """Training loss and dev PER over epochs, both on logarithmic scales."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    epochs = [record["epoch"] for record in history]
    best = best_epoch(history)
    lowest = history[best - 1]["dev_per"]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    curves = {
        "train_loss": "training loss (nats per phone)",
        "dev_per": f"{dev} PER (%), lowest {lowest:.2f} in epoch {best}",
    }
    for column, (key, title) in enumerate(curves.items(), start=1):
        axes = figure.add_subplot(1, 2, column, xlabel="epoch")
        axes.set_title(title, loc="left", fontsize=10)
        axes.plot(epochs, [record[key] for record in history], marker="." if best < 50 else "")
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.2)
        if key == "dev_per":
            axes.plot([best], [lowest], "o", mfc="none", ms=9, color="tab:red")
    with atomic_open(path, "wb") as file:
        figure.savefig(file, format="png", dpi=110)


def _finish(
    run_dir: Path, config: RunConfig, recognizer: Recognizer, history: History, device: torch.device
) -> None:
    best = best_epoch(history)
    summary = {
        "experiment": config.name,
        "corpus": config.corpus.name,
        "seed": config.seed,
        "epochs": len(history),
        "best_epoch": best,
        "dev_per": history[best - 1]["dev_per"],
        "parameters": recognizer.parameter_count,
        "seconds": sum(record["seconds"] for record in history),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "version": __version__,
    }
    _draw(run_dir, config, history)
    with atomic_open(run_dir / "training.json") as file:
        json.dump(summary, file, indent=2)
        file.write("\n")
    log.info("best dev %%PER %.2f in epoch %d of %d", summary["dev_per"], best, len(history))


main = door(run)

if __name__ == "__main__":
    main()
