"""Manifests → the checkpoint with the best dev PER.

    python -m asr train experiment=timit encoder.hidden=320

The story in order: what is there, the recogniser, its normalisation, then one or two phases of
epochs of batches. An epoch draws all its chance from (seed, epoch), and the phase is a function of
the epochs behind, so a run that was interrupted and continued ends with the same weights as one
that was not.
"""

import fcntl
import json
import logging
import math
import os
import platform
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from asr import __version__, checkpoint, scoring
from asr.augment import Augment
from asr.batch import Batch
from asr.checkpoint import Checkpoint, TrainingState
from asr.config import (
    OptimizerConfig,
    RunConfig,
    SGDConfig,
    TrainingConfig,
    choose_device,
    frame_cache,
)
from asr.criteria import Estimated, SearchConfig, Split
from asr.dataset import Batches
from asr.errors import DataError
from asr.features import SpeakerMoments
from asr.features.cache import FrameCache, frame_cache
from asr.files import atomic_open
from asr.lstm.fast.products import onednn_multiplies
from asr.phones import Vocabulary
from asr.processor.device import choose_device
from asr.recognizer import Recognizer, encode_all
from asr.records import Hypothesis, Manifest, Utterance
from asr.search import SearchConfig

log = logging.getLogger(__name__)

CURVE_AFTER_S = 10.0  # the learning curve is drawn after epochs this long, and at the end

History = list[dict[str, Any]]  # one record for each finished epoch


@dataclass(frozen=True)
class Phase:
    """A part of training, until its best epoch by `criterion` stays the best for long enough."""

    number: int
    weight_noise: float
    criterion: str  # the key of the history that the best epoch has least of
    keeps: str  # file that holds the best epoch's weights

    def of(self, history: History) -> History:
        """The records of this phase."""
        return [record for record in history if record["phase"] == self.number]


def phases(training: TrainingConfig) -> list[Phase]:
    """One phase, or with weight noise the two of Graves, Mohamed & Hinton (2013)."""
    last = "checkpoint-best.safetensors"
    if not training.weight_noise:
        return [Phase(1, 0.0, "dev_per", last)]
    return [
        Phase(1, 0.0, "dev_loss", "checkpoint-phase1.safetensors"),
        Phase(2, training.weight_noise, "dev_per", last),
    ]


def run(config: RunConfig) -> None:
    """Train, and write `checkpoint-best`, `checkpoint-last`, `train.jsonl`, `learning-curve.png`.

    At the end, and only then, `training.json` says that the run is complete and what came of it.
    """
    run_dir = Path(config.run_dir)
    device = choose_device(config.device, config.threads)
    train, dev = (_manifest(run_dir, split) for split in ("train", "dev"))
    vocabulary = Vocabulary.load(run_dir / "vocabulary.txt")
    training = config.training
    _require_precision(training.precision, device)
    with only_run_in(run_dir):
        # ── recogniser and optimiser, new or continued ────────────────────────────────────────
        torch.manual_seed(config.seed)
        recognizer = Recognizer(config.recognizer, vocabulary).to(device)
        recognizer.encoder.product_dtype = getattr(torch, training.precision)
        if training.initial_range:
            for weights in recognizer.parameters():
                nn.init.uniform_(weights, -training.initial_range, training.initial_range)
        optimizer = build_optimizer(config.optimizer, recognizer)
        history: History = []
        unchanging = _unchanging(config, train)
        state = _earlier_state(config, unchanging, recognizer)
        augment = Augment(config.augment, config.features.sample_rate, config.mel_bins)
        cache = train_cache = frame_cache(config.cache, config.features, config.cache_precision)
        if cache is not None and config.augment.needs_waveforms:
            train_cache = None
            log.info("cache: for dev only, augment changes the waveforms of the training set")
        batches = _batches(config, train, vocabulary, config.seed, train_cache, augment)
        dev_batches = _batches(config, dev, vocabulary, None, cache)
        plain = _batches(config, train, vocabulary, None, train_cache)
        moments = recognizer.moments_of(plain)
        if state is None:
            carried = checkpoint.carry_over(training.start_from, recognizer)
            if "features" not in carried:
                recognizer.features.fit_normalization(batch.to(device) for batch in plain)
            if "criterion" not in carried:
                recognizer.criterion.prepare(
                    _split(recognizer, train, plain), _split(recognizer, dev, dev_batches)
                )
        else:
            optimizer.load_state_dict(state.optimizer)
            history = state.history
        average = averaged(recognizer, training.average)
        if average is not None and state is not None:
            average.load_state_dict(state.average)
        kept = recognizer if average is None else average.module
        assert isinstance(kept, Recognizer)
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
        # ── phases of epochs of batches ───────────────────────────────────────────────────────
        for phase in phases(training):
            if phase.number == 2 and not phase.of(history):  # back to the best, with no momentum
                best_so_far = checkpoint.load(run_dir / phases(training)[0].keeps).recognizer
                recognizer.load_state_dict(best_so_far.state_dict())
                optimizer = build_optimizer(config.optimizer, recognizer)
            while not is_finished(phase, history, training):
                epoch, behind = len(history) + 1, phase.of(history)
                started = time.monotonic()
                torch.manual_seed(random.Random(f"{config.seed} {epoch}").getrandbits(63))
                batches.set_epoch(epoch)
                recognizer.train()
                recognizer.encoder.requires_grad_(epoch > training.frozen_epochs)
                criterion = recognizer.criterion
                total, phones = 0.0, 0
                progress = tqdm(batches, f"epoch {epoch}", leave=False, disable=None)
                for step, batch in enumerate(progress):
                    rate = config.optimizer.learning_rate * schedule(
                        training, behind, len(behind) + step / len(batches)
                    )
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    batch = batch.to(device)
                    if isinstance(criterion, Estimated):
                        encoded, lengths = recognizer.encode_batch(batch, augment, moments)
                        losses = criterion.accumulate(encoded, lengths, batch)
                    else:
                        losses = train_step(
                            recognizer,
                            optimizer,
                            batch,
                            training,
                            augment,
                            phase.weight_noise,
                            moments,
                        )
                        if average is not None:
                            average.update_parameters(recognizer)
                    total += float(losses.sum())
                    phones += int(batch.target_lengths.sum())
                if isinstance(criterion, Estimated):
                    criterion.update()
                    rate = 0.0
                dev_loss, heard = evaluate(kept, dev_batches, config.search)
                history.append(
                    {
                        "epoch": epoch,
                        "phase": phase.number,
                        "train_loss": total / phones,  # nats per phone, as dev_loss
                        "dev_loss": dev_loss,
                        "dev_per": phone_error_rate(dev, heard, config.corpus.protocol),
                        "learning_rate": rate,
                        "seconds": time.monotonic() - started,
                    }
                )
                state = TrainingState(
                    unchanging,
                    history,
                    optimizer.state_dict(),
                    {} if average is None else average.state_dict(),
                )
                _keep(run_dir, config, recognizer, kept, state, phase)
                log.info("%s", describe(phase, history, training))
        _finish(run_dir, config, recognizer, history, device)


def _require_precision(precision: str, device: torch.device) -> None:
    on_cpu = device.type == "cpu"
    if precision != "float32" and not (on_cpu and onednn_multiplies(getattr(torch, precision))):
        what = "this processor" if on_cpu else "a GPU"
        raise DataError(
            f"training.precision is {precision}, which is not for {what}; set "
            f"training.precision=float32"
        )


def _split(recognizer: Recognizer, utterances: Sequence[Utterance], batches: Batches) -> Split:
    """A split as `Criterion.prepare` wants it; nothing is read before it is asked for."""
    return Split(
        (recognizer.vocabulary.encode(utterance.phones) for utterance in utterances),
        (
            (moved, recognizer.encoded_lengths(moved.waveform_lengths))
            for moved in (batch.to(recognizer.device) for batch in batches)
        ),
    )


def train_step(
    recognizer: Recognizer,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    training: TrainingConfig,
    augment: Augment | None = None,
    noise: float = 0.0,
    moments: SpeakerMoments | None = None,
) -> Tensor:
    """One step of gradient descent on the mean loss; the utterances' losses before it, (N,).

    With weight noise the gradient is that at the noisy weights, and the step is from the clean
    ones. Raises `DataError`, with the weights untouched, where a loss or a gradient is not finite.
    """
    optimizer.zero_grad(set_to_none=True)
    with weight_noise(recognizer, noise):
        losses = recognizer.loss(batch, augment, moments)
        losses.mean().backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(recognizer.parameters(), training.max_gradient_norm)
    if not torch.isfinite(norm):
        named = [id for id, loss in zip(batch.ids, losses, strict=True) if not loss.isfinite()]
        raise DataError(
            f"the gradient is {float(norm)} in a batch of {', '.join(named or batch.ids)}; "
            f"lower optimizer.learning_rate, or look at these utterances"
        )
    optimizer.step()
    return losses.detach()


@contextmanager
def weight_noise(module: nn.Module, sigma: float) -> Iterator[None]:
    """Gaussian noise on all weights inside; outside they are again, bit for bit, what they were."""
    weights = list(module.parameters()) if sigma else []
    clean = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight in weights:
            weight.add_(torch.randn_like(weight), alpha=sigma)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, before in zip(weights, clean, strict=True):
                weight.copy_(before)


def build_optimizer(config: OptimizerConfig, recognizer: Recognizer) -> torch.optim.Optimizer:
    """The optimiser that `config` describes, over all weights of the recogniser."""
    if isinstance(config, SGDConfig):
        return torch.optim.SGD(
            recognizer.parameters(), lr=config.learning_rate, momentum=config.momentum
        )
    return torch.optim.Adam(recognizer.parameters(), lr=config.learning_rate)


def averaged(recognizer: Recognizer, decay: float) -> AveragedModel | None:
    """The exponential moving average of the weights, which each step moves by 1 − decay; 0: none.

    Polyak & Juditsky (1992), with the weights that the recogniser has now as its beginning.
    """
    if not decay:
        return None
    moving: Any = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    average = AveragedModel(recognizer, multi_avg_fn=moving)
    average.n_averaged += 1  # so that the first step is averaged too, and does not replace
    return average


@torch.no_grad()
def evaluate(
    recognizer: Recognizer, batches: Iterable[Batch], search: SearchConfig
) -> tuple[float, dict[str, Hypothesis]]:
    """Loss in nats per phone and the best hypotheses by id, both from the same encoded frames."""
    loss, phones = 0.0, 0
    heard: dict[str, Hypothesis] = {}
    for batch, encoded, lengths in encode_all(recognizer, batches):
        loss += float(recognizer.criterion.loss(encoded, lengths, batch).sum())
        phones += int(batch.target_lengths.sum())
        found = recognizer.search(encoded, lengths, batch.ids, search)
        heard |= {id: hypotheses[0] for id, hypotheses in zip(batch.ids, found, strict=True)}
    return loss / phones, heard


def phone_error_rate(
    dev: Sequence[Utterance], heard: dict[str, Hypothesis], protocol: str = "strict"
) -> float:
    """PER in percent under a protocol of `asr.scoring`."""
    references = {utterance.id: utterance.phones for utterance in dev}
    hypotheses = {id: hypothesis.phones for id, hypothesis in heard.items()}
    return scoring.score(references, hypotheses, protocol=protocol).total.per


def schedule(training: TrainingConfig, records: History, epochs_done: float) -> float:
    """The part of the highest learning rate at a time in epochs, both counted within a phase.

    `one_cycle` rises from 0.05 during `warmup`, then falls to 0.001; `plateau` is a function of the
    phase's past dev PERs.
    """
    if training.schedule == "constant":
        return 1.0
    if training.schedule == "one_cycle":  # Smith (2018), with a cosine fall
        progress = epochs_done / training.epochs
        if progress < training.warmup:
            return 0.05 + 0.95 * progress / training.warmup
        fall = (progress - training.warmup) / (1 - training.warmup)
        return 0.001 + 0.999 * (1 + math.cos(math.pi * fall)) / 2
    halvings, stalled, lowest = 0, 0, math.inf
    for record in records:
        stalled = 0 if record["dev_per"] < lowest else stalled + 1
        lowest = min(lowest, record["dev_per"])
        if stalled >= training.plateau:
            halvings, stalled = halvings + 1, 0
    return float(0.5**halvings)


def best(records: History, criterion: str = "dev_per") -> dict[str, Any]:
    """The first record that has the least of `criterion`."""
    return min(records, key=lambda record: record[criterion])


def is_finished(phase: Phase, history: History, training: TrainingConfig) -> bool:
    """Whether all epochs of the phase are done, or `patience` of them brought nothing better."""
    records = phase.of(history)
    if not records:
        return False
    waited = records[-1]["epoch"] - best(records, phase.criterion)["epoch"]
    return len(records) >= training.epochs or waited >= training.patience


def describe(phase: Phase, history: History, training: TrainingConfig) -> str:
    """One line about the last epoch; a star marks the best of its phase so far."""
    records, last = phase.of(history), history[-1]
    star = " *" if best(records, phase.criterion) is last else ""
    number = f"phase {phase.number}, " if training.weight_noise else ""
    return (
        f"{number}epoch {len(records):3d}/{training.epochs}  "
        f"loss {last['train_loss']:6.3f}, dev {last['dev_loss']:6.3f} nats/phone  "
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
        raise DataError(f"{path}: no manifest; run `python -m asr prepare` with the same overrides")
    return Manifest(path)


def _batches(
    config: RunConfig,
    utterances: Sequence[Utterance],
    vocabulary: Vocabulary,
    seed: int | None,
    cache: FrameCache | None,
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
        cache,
        1 if augment is None else config.copies,
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
        "optimizer": run["optimizer"],
        "training": training,
        "utterances": len(train),
        "cache_precision": config.cache_precision if config.cache else "float32",
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
    parts = ("features", "augment", "encoder", "criterion", "optimizer", "training")
    defaults = {part: asdict(type(getattr(config, part))()) for part in parts}
    begun = _flat(defaults) | _flat(found.training.run)  # which may not know a newer key
    for key, value in _flat(unchanging).items():
        if (before := begun.get(key)) != value:
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


def _keep(
    run_dir: Path,
    config: RunConfig,
    recognizer: Recognizer,
    kept: Recognizer,
    state: TrainingState,
    phase: Phase,
) -> None:
    """Write what the finished epoch brought; the last checkpoint comes last.

    `kept` is what was evaluated: the recogniser, or the running average of its weights.
    """
    history = state.history
    about = {
        "version": __version__,
        "experiment": config.name,
        "corpus": config.corpus.name,
        "seed": config.seed,
        **history[-1],
    }
    if best(phase.of(history), phase.criterion) is history[-1]:
        checkpoint.save(run_dir / phase.keeps, Checkpoint(kept, about))
    checkpoint.save(run_dir / "checkpoint-last.safetensors", Checkpoint(recognizer, about, state))
    with atomic_open(run_dir / "train.jsonl") as file:
        file.writelines(json.dumps(record) + "\n" for record in history)
    if history[-1]["seconds"] > CURVE_AFTER_S:
        _draw(run_dir, config, history)


def _draw(run_dir: Path, config: RunConfig, history: History) -> None:
    draw_learning_curve(run_dir / "learning-curve.png", history, f"{config.corpus.name} dev")


def draw_learning_curve(path: Path, history: History, dev: str) -> None:
    """Losses and dev PER over epochs, on logarithmic scales; a line where a phase begins."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    epochs = [record["epoch"] for record in history]
    chosen = best(_last_phase(history))
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    curves = {
        "train_loss": f"loss (nats per phone): training, and dashed {dev}",
        "dev_per": f"{dev} PER (%), {chosen['dev_per']:.2f} in epoch {chosen['epoch']}",
    }
    marker = "." if len(history) < 100 else ""
    for column, (key, title) in enumerate(curves.items(), start=1):
        axes = figure.add_subplot(1, 2, column, xlabel="epoch")
        axes.set_title(title, loc="left", fontsize=10)
        axes.plot(epochs, [record[key] for record in history], marker=marker)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if min(record[key] for record in history) > 0:  # log densities may not be
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.2)
        for before, record in pairwise(history):
            if record["phase"] != before["phase"]:
                axes.axvline(record["epoch"] - 0.5, color="0.5", lw=0.8, ls=":")
        if key == "train_loss":
            axes.plot(epochs, [record["dev_loss"] for record in history], "--", color="0.4")
        else:
            place = [chosen["epoch"]], [chosen["dev_per"]]
            axes.plot(*place, "o", mfc="none", ms=9, color="tab:red")
    with atomic_open(path, "wb") as file:
        figure.savefig(file, format="png", dpi=110)


def _finish(
    run_dir: Path, config: RunConfig, recognizer: Recognizer, history: History, device: torch.device
) -> None:
    chosen = best(_last_phase(history))
    summary = {
        "experiment": config.name,
        "corpus": config.corpus.name,
        "seed": config.seed,
        "epochs": len(history),
        "best_epoch": chosen["epoch"],
        "dev_per": chosen["dev_per"],
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
    log.info(
        "best dev %%PER %.2f in epoch %d of %d",
        summary["dev_per"],
        summary["best_epoch"],
        len(history),
    )


def _last_phase(history: History) -> History:
    return [record for record in history if record["phase"] == history[-1]["phase"]]
