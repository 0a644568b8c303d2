"""The batches of a run: of its training set, of dev, and of a split that is only recognised."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise

from asr.augment import Augment
from asr.config import RunConfig, TrainingConfig
from asr.dataset import MOST_FRAMES, Batches
from asr.errors import raise_problems
from asr.features.cache import frame_cache
from asr.features.config import FeaturesConfig
from asr.phones import Vocabulary
from asr.processor import ranks
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
        rank=ranks.rank(),
        ranks=ranks.count(),
    )
    learned = partial(
        batches,
        seed=config.seed,
        augment=augment,
        copies=config.copies,
        batch_frames=config.training.batch_frames,
        frames=counter(config.features, 1 - config.augment.speed),
    )
    most, frames = most_frames(config.training), counter(config.features)
    return (
        learned(train, cache=train_cache),
        batches(train, cache=train_cache, batch_frames=most, frames=frames),
        batches(dev, cache=cache, batch_frames=most, frames=frames),
    )


def most_frames(training: TrainingConfig) -> int:
    """The padded frames of a batch that is not learned from."""
    return training.batch_frames or MOST_FRAMES


def counter(features: FeaturesConfig, speed: float = 1.0) -> Callable[[float], int]:
    """The function from the seconds of an utterance to its frames when it is played at `speed`."""

    def frames(seconds: float) -> int:
        return features.frame_count(math.ceil(round(seconds * features.sample_rate) / speed))

    return frames


def require_trainable(config: RunConfig, train: Iterable[Utterance]) -> None:
    """Raise one `DataError` that names every utterance that cannot be learned from.

    It has no phones, too few frames for CTC, or more frames than `training.batch_frames`.
    """
    most, copies = config.training.batch_frames, config.copies
    frames = counter(config.features, 1 - config.augment.speed)

    def problems(one: Utterance) -> Iterator[str]:
        if not one.phones:
            yield f"{one.id}: no phones, expected one or more in the training set; leave it out"
        elif few := too_few_frames(config, one):
            yield few
        if most and (count := copies * frames(one.duration_s)) > most:
            yield (
                f"{one.id}: its {one.duration_s:g} s are {count} frames, expected at most "
                f"{most}; leave it out, or set training.batch_frames={count}"
            )

    raise_problems(problem for one in train for problem in problems(one))


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
        batch_frames=most_frames(config.training),
        frames=counter(features),
    )
