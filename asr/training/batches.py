"""The batches of a run: of its training set, of dev, and of a split that is only recognised."""

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise

from asr.augment import Augment
from asr.config import RunConfig
from asr.dataset import Batches
from asr.errors import raise_problems
from asr.features.cache import frame_cache
from asr.phones import Vocabulary
from asr.recognizer import Recognizer
from asr.records import Utterance

log = logging.getLogger(__name__)


def training_batches(
    config: RunConfig,
    vocabulary: Vocabulary,
    train: Sequence[Utterance],
    dev: Sequence[Utterance],
    augment: Augment,
) -> tuple[Batches, Batches, Batches]:
    """The training set in random order and augmented; the same by length and unchanged; dev."""
    require_trainable(config, train)
    cache = train_cache = frame_cache(config.cache, config.features, config.cache_precision)
    if cache is not None and config.augment.needs_waveforms:
        train_cache = None
        log.info("cache: for dev only, augment changes the waveforms of the training set")
    batches = partial(
        Batches,
        vocabulary=vocabulary,
        sample_rate=config.features.sample_rate,
        batch_size=config.training.batch_size,
        workers=config.training.workers,
    )
    return (
        batches(train, seed=config.seed, augment=augment, cache=train_cache, copies=config.copies),
        batches(train, cache=train_cache),
        batches(dev, cache=cache),
    )


def require_trainable(config: RunConfig, train: Iterable[Utterance]) -> None:
    """Raise one `DataError` that names every utterance without phones or, with CTC, frames."""
    none = "no phones, expected one or more in the training set; leave it out"
    raise_problems(
        problem
        for one in train
        if (problem := too_few_frames(config, one) if one.phones else f"{one.id}: {none}")
    )


def too_few_frames(config: RunConfig, utterance: Utterance) -> str | None:
    """One sentence where CTC, at the highest speed of the augmentation, has too few frames.

    It needs a frame for each phone, and one more between two that are equal.
    """
    if config.criterion.name != "ctc":
        return None
    features = config.features
    samples = round(utterance.duration_s * features.sample_rate / (1 + config.augment.speed))
    frames = -(-features.frame_count(samples) // config.encoder.subsampling)
    phones = len(utterance.phones)
    needed = phones + sum(a == b for a, b in pairwise(utterance.phones))
    if frames >= needed:
        return None
    return (
        f"{utterance.audio}: too short for CTC, its {phones} phones need {needed} frames, expected "
        f"at most {frames}; leave it out, or lower encoder.subsampling"
    )


def split_batches(
    config: RunConfig, utterances: Sequence[Utterance], recognizer: Recognizer
) -> Batches:
    """A split with the features of a trained recogniser, from the cache where the run has one."""
    features = recognizer.config.features
    return Batches(
        utterances,
        recognizer.vocabulary,
        features.sample_rate,
        config.training.batch_size,
        cache=frame_cache(config.cache, features, config.cache_precision),
    )
