"""The training loop: manifests → the checkpoint with the lowest dev PER.

    asr train experiment=timit encoder.hidden=320

All randomness of a batch comes from (seed, epoch, its first utterance), and the schedule is a
function of the finished epochs and steps, so a run that is interrupted and continued ends with the
same weights as one that is not.
"""

import logging
from collections.abc import Iterable, Sequence
from functools import partial

import torch

from asr import checkpoint, scoring
from asr.augment import Augment, seed_of
from asr.batch import Batch
from asr.config import RunConfig
from asr.dataset import Batches
from asr.processor import ranks
from asr.processor.device import choose_device
from asr.recognizer import Recognizer, encode_all
from asr.records import Hypothesis, Utterance
from asr.search import SearchConfig
from asr.training import initialization
from asr.training.batches import training_batches
from asr.training.learner import Learner, build_learner
from asr.training.memory import require_room
from asr.training.progress import Pauses, Progress
from asr.training.run_directory import RunDirectory, place
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
    with run_dir.locked(), Pauses(training.keep_every_minutes) as pauses:
        recognizer = initialization.draw(config, vocabulary, device)
        state = run_dir.resume(config, recognizer, len(train))
        history = state.history
        augment = Augment(config.augment, config.features.sample_rate, config.mel_bins)
        batches, by_length, dev_batches = training_batches(config, vocabulary, train, dev, augment)
        moments = recognizer.moments_of(initialization.sample_by_speaker(by_length))
        if state.is_new:
            initialization.initialize(recognizer, training.start_from, by_length, dev_batches)
        learner = build_learner(config, recognizer, augment, moments)
        if not state.is_new:
            learner.load_state_dict(state.learner)
        learner.most_resident = require_room(recognizer, batches)
        run_dir.begin(config, len(history), learner.progress.steps)
        pauses.begin(partial(run_dir.keep_state, config, learner, state))
        begun = place(len(history), learner.progress.steps)
        log.info(
            "%s, seed %d: %d parameters, %d labels, %s, %s",
            config.name,
            config.seed,
            recognizer.parameter_count,
            len(vocabulary),
            device,
            "from the beginning" if state.is_new else f"continued {begun}",
        )
        for phase in phases(training):
            if phase.starts_from and not (phase.records(history) or learner.progress.steps):
                start = checkpoint.load(run_dir.checkpoint(phase.starts_from))
                learner.restart(start.recognizer)
            while not phase.is_finished(history):
                train_loss = train_epoch(learner, batches, phase, history, config.seed, pauses)
                with pauses.interruptible():
                    dev_loss, hypotheses = evaluate(learner.result, dev_batches, config.search)
                history.append(
                    {
                        "epoch": len(history) + 1,
                        "phase": phase.number,
                        "train_loss": train_loss,
                        "dev_loss": dev_loss,
                        "dev_per": phone_error_rate(dev, hypotheses, config.corpus.protocol),
                        "learning_rate": learner.learning_rate,
                        "seconds": learner.progress.seconds,
                        "waiting": learner.progress.waiting(),
                    }
                )
                learner.progress = Progress()
                run_dir.keep(config, learner, state, phase)
                log.info("%s", phase.describe(history))
        result = run_dir.finish(config, recognizer, history)
        per, epoch = result["dev_per"], result["best_epoch"]
        log.info("best dev %%PER %.2f in epoch %d of %d", per, epoch, len(history))


def train_epoch(
    learner: Learner,
    batches: Batches,
    phase: Phase,
    history: History,
    seed: int,
    pauses: Pauses,
) -> float:
    """Learn from every batch that is left; the loss before each step, in nats per phone."""
    epoch, device, progress = len(history) + 1, learner.recognizer.device, learner.progress
    batches.set_epoch(epoch, progress.steps)
    learner.begin_epoch(epoch)
    for batch in progress.timed(batches, f"epoch {epoch}"):
        torch.manual_seed(seed_of(seed, epoch, batch.ids[0]))
        rate = phase.rate(history, batch.step / batches.steps)
        losses = learner.step(batch.to(device), rate, phase.weight_noise)
        progress.add(batch, losses)
        if batch.ends_step:
            pauses.after_step()
    if not progress.is_ended:
        learner.end_epoch()
        progress.is_ended = True
    return progress.train_loss()


@torch.no_grad()
def evaluate(
    recognizer: Recognizer, batches: Iterable[Batch], search: SearchConfig
) -> tuple[float, dict[str, Hypothesis]]:
    """Loss in nats per phone and the best hypotheses by id, both from the same encoded frames.

    Each rank evaluates batches of its own, and has the result of all.
    """
    parts: list[tuple[float, int, list[Hypothesis]]] = []  # of each batch
    for batch, encoded, lengths in encode_all(recognizer, batches):
        loss = float(recognizer.criterion.loss(encoded, lengths, batch).sum())
        n_best = recognizer.search(encoded, lengths, batch.ids, search)
        best = [hypotheses[0] for hypotheses in n_best]
        parts.append((loss, int(batch.target_lengths.sum()), best))
    losses, phones, bests = zip(*ranks.in_turn(parts), strict=True)
    return sum(losses) / sum(phones), {one.id: one for best in bests for one in best}


def phone_error_rate(
    dev: Sequence[Utterance], best: dict[str, Hypothesis], protocol: str = "strict"
) -> float:
    """PER in percent under a protocol of `asr.scoring`."""
    references = {utterance.id: utterance.phones for utterance in dev}
    hypotheses = {id: hypothesis.phones for id, hypothesis in best.items()}
    return scoring.score(references, hypotheses, protocol=protocol).total.per
