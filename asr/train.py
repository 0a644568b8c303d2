"""The training loop: manifests → the checkpoint with the lowest dev PER.

    asr train experiment=timit encoder.hidden=320

All randomness of an epoch comes from (seed, epoch), and the schedule is a function of the finished
epochs, so a run that is interrupted and continued ends with the same weights as one that is not.
"""

import logging
import random
import time
from collections.abc import Iterable, Sequence

import torch
from tqdm import tqdm

from asr import checkpoint, scoring
from asr.augment import Augment
from asr.batch import Batch
from asr.config import RunConfig
from asr.dataset import Batches
from asr.processor.device import choose_device
from asr.recognizer import Recognizer, encode_all
from asr.records import Hypothesis, Utterance
from asr.search import SearchConfig
from asr.training import initialization
from asr.training.batches import training_batches
from asr.training.learner import Learner, build_learner
from asr.training.run_directory import RunDirectory
from asr.training.schedule import History, Phase, phases

log = logging.getLogger(__name__)


def run(config: RunConfig) -> None:
    """Train, and leave checkpoints, history and learning curve in the run directory.

    `training.json`, written last, says that the run is complete, and has its result.
    """
    run_dir, training = RunDirectory(config.run_dir), config.training
    device = choose_device(config.device, config.threads)
    train, dev = (run_dir.utterances(split, config.corpus.root) for split in ("train", "dev"))
    vocabulary = run_dir.phones()
    with run_dir.locked():
        recognizer = initialization.draw(config, vocabulary, device)
        state = run_dir.resume(config, recognizer, len(train))
        history = state.history
        augment = Augment(config.augment, config.features.sample_rate, config.mel_bins)
        batches, by_length, dev_batches = training_batches(config, vocabulary, train, dev, augment)
        moments = recognizer.moments_of(by_length)
        if not history:
            initialization.initialize(recognizer, training.start_from, by_length, dev_batches)
        learner = build_learner(config, recognizer, augment, moments)
        if history:
            learner.load_state_dict(state.learner)
        run_dir.begin(config, len(history))
        log.info(
            "%s, seed %d: %d parameters, %d labels, %s, %s",
            config.name,
            config.seed,
            recognizer.parameter_count,
            len(vocabulary),
            device,
            f"continued after epoch {len(history)}" if history else "from the beginning",
        )
        for phase in phases(training):
            if phase.starts_from and not phase.records(history):
                start = checkpoint.load(run_dir.checkpoint(phase.starts_from))
                learner.restart(start.recognizer)
            while not phase.is_finished(history):
                started = time.monotonic()
                train_loss = train_epoch(learner, batches, phase, history, config.seed)
                dev_loss, hypotheses = evaluate(learner.result, dev_batches, config.search)
                history.append(
                    {
                        "epoch": len(history) + 1,
                        "phase": phase.number,
                        "train_loss": train_loss,
                        "dev_loss": dev_loss,
                        "dev_per": phone_error_rate(dev, hypotheses, config.corpus.protocol),
                        "learning_rate": learner.learning_rate,
                        "seconds": time.monotonic() - started,
                    }
                )
                run_dir.keep(config, learner, state, phase)
                log.info("%s", phase.describe(history))
        result = run_dir.finish(config, recognizer, history)
        per, epoch = result["dev_per"], result["best_epoch"]
        log.info("best dev %%PER %.2f in epoch %d of %d", per, epoch, len(history))


def train_epoch(
    learner: Learner, batches: Batches, phase: Phase, history: History, seed: int
) -> float:
    """Learn from every batch once; the loss before each step, in nats per phone."""
    epoch, device = len(history) + 1, learner.recognizer.device
    torch.manual_seed(random.Random(f"{seed} {epoch}").getrandbits(63))
    batches.set_epoch(epoch)
    learner.begin_epoch(epoch)
    loss, phones = 0.0, 0
    progress = tqdm(batches, f"epoch {epoch}", leave=False, disable=None)
    for number, batch in enumerate(progress):
        rate = phase.rate(history, number / len(batches))
        losses = learner.step(batch.to(device), rate, phase.weight_noise)
        loss += float(losses.sum())
        phones += int(batch.target_lengths.sum())
    learner.end_epoch()
    return loss / phones


@torch.no_grad()
def evaluate(
    recognizer: Recognizer, batches: Iterable[Batch], search: SearchConfig
) -> tuple[float, dict[str, Hypothesis]]:
    """Loss in nats per phone and the best hypotheses by id, both from the same encoded frames."""
    loss, phones = 0.0, 0
    best: dict[str, Hypothesis] = {}
    for batch, encoded, lengths in encode_all(recognizer, batches):
        loss += float(recognizer.criterion.loss(encoded, lengths, batch).sum())
        phones += int(batch.target_lengths.sum())
        n_best = recognizer.search(encoded, lengths, batch.ids, search)
        best |= {id: hypotheses[0] for id, hypotheses in zip(batch.ids, n_best, strict=True)}
    return loss / phones, best


def phone_error_rate(
    dev: Sequence[Utterance], best: dict[str, Hypothesis], protocol: str = "strict"
) -> float:
    """PER in percent under a protocol of `asr.scoring`."""
    references = {utterance.id: utterance.phones for utterance in dev}
    hypotheses = {id: hypothesis.phones for id, hypothesis in best.items()}
    return scoring.score(references, hypotheses, protocol=protocol).total.per
