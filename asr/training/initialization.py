"""The values that a recogniser has before its first step."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

import torch
from torch import nn
from torch.utils.data import DataLoader

from asr import checkpoint
from asr.batch import Batch, MicroBatch
from asr.config import RunConfig
from asr.criteria import Split
from asr.dataset import Batches
from asr.errors import DataError
from asr.lstm.fast.products import onednn_multiplies
from asr.phones import Vocabulary
from asr.processor import ranks
from asr.recognizer import Recognizer
from asr.transcriber import MODEL

# What may differ between the features of two recognisers that take mean and variance from the
# recordings at hand, and between the encoders of any two.
FREE_FEATURES = ("normalization", "cmn_window", "active_db")
FREE_ENCODER = ("dropout", "forget_bias")
LARGE = 30_000  # utterances; the normalisation of more is estimated from a sample
SAMPLE = 5_000  # utterances of that sample
OF_SPEAKER = 10  # utterances of each speaker in a sample by speaker

log = logging.getLogger(__name__)


def draw(config: RunConfig, vocabulary: Vocabulary, device: torch.device) -> Recognizer:
    """A recogniser with random weights, which the seed decides.

    Raises `DataError` where the device does not have `training.precision`.
    """
    precision = config.training.precision
    if not multiplies(device, getattr(torch, precision)):
        where = "this processor" if device.type == "cpu" else "this GPU"
        raise DataError(
            f"training.precision is {precision}, which {where} does not support; set "
            f"training.precision=float32"
        )
    if device.type == "cuda":
        log.info("%s", said_of_products(precision))
    torch.manual_seed(config.seed)
    recognizer = Recognizer(config.recognizer, vocabulary).to(device)
    recognizer.encoder.product_dtype = getattr(torch, precision)
    if limit := config.training.initial_range:
        for weights in recognizer.parameters():
            nn.init.uniform_(weights, -limit, limit)
    return recognizer


def multiplies(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a device has fast matrix products of this type."""
    if dtype == torch.float32:
        return True
    if device.type == "cpu":
        return onednn_multiplies(dtype)
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def said_of_products(precision: str) -> str:
    """One sentence on the matrix products of a GPU; torch decides on TF32, not this program."""
    uses = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    cudnn, matmul = ("on" if one else "off" for one in uses)
    return (
        f"products: {precision} in the encoder; TF32 for float32 is {cudnn} in cuDNN, {matmul} "
        f"elsewhere"
    )


def initialize(recognizer: Recognizer, start_from: str, train: Batches, dev: Batches) -> None:
    """Take over what fits of the checkpoint `start_from`, if there is one; estimate the rest.

    The normalisation is estimated from the training set (`sample`); the criterion takes from both
    splits what it needs before the first epoch.
    """
    carried = carry_over(start_from, recognizer)
    if "features" not in carried:
        recognizer.features.fit_normalization(
            batch.to(recognizer.device) for batch in sample(train)
        )
    if "criterion" not in carried:
        recognizer.criterion.prepare(_split(recognizer, train), _split(recognizer, dev))
    ranks.share(recognizer.state_dict().values())


def sample(batches: Batches, large: int = LARGE, some: int = SAMPLE) -> Iterable[Batch]:
    """The batches themselves, or of more than `large` utterances one batch in n, in their order.

    These have some `some` utterances, of all lengths where the order is by length, and are the same
    of any number of processes: the first of the first n batches, the second of the next n, …
    """
    size = len(batches.speech)
    if size <= large:
        return batches
    n = -(-size // some)
    chosen = [one for one in batches.bucket_sampler if one.step % n == one.step // n % n]
    log.info("normalisation: from one batch in %d of %d utterances", n, size)
    return _only(batches, chosen)


def sample_by_speaker(
    batches: Batches, large: int = LARGE, each: int = OF_SPEAKER
) -> Iterable[Batch]:
    """The batches themselves, or of more than `large` utterances those with `each` of a speaker.

    They are spread over what the speaker says, in the order of the manifest, which is not read
    before the first batch is asked for: only normalization=speaker asks.
    """
    return batches if len(batches.speech) <= large else _of_speakers(batches, each)


def _of_speakers(batches: Batches, each: int) -> Iterator[Batch]:
    """The batches with `each` utterances of a speaker."""
    spoken: dict[str, list[int]] = defaultdict(list)
    for number, utterance in enumerate(batches.speech.utterances):
        spoken[utterance.speaker].append(number)
    wanted = {one for own in spoken.values() for one in own[:: -(-len(own) // each)]}
    log.info(
        "normalisation: from %d of %d utterances, at most %d of each speaker",
        *(len(wanted), len(batches.speech), each),
    )
    parts = ((part, [one for one in part if one in wanted]) for part in batches.bucket_sampler)
    yield from _only(batches, [MicroBatch(own, part.step, len(own)) for part, own in parts if own])


def _only(batches: Batches, chosen: Sequence[MicroBatch]) -> Iterable[Batch]:
    """These batches alone."""
    return DataLoader(
        batches.speech,
        batch_sampler=chosen,
        collate_fn=batches.collate_fn,
        worker_init_fn=batches.worker_init_fn,
        num_workers=batches.num_workers,
    )


def _split(recognizer: Recognizer, batches: Batches) -> Split:
    """A split for `Criterion.prepare`; its parts are generators, which read only when iterated."""
    return Split(
        (recognizer.vocabulary.encode(one.phones) for one in batches.speech.utterances),
        (
            (moved, recognizer.encoded_lengths(moved.waveform_lengths))
            for moved in (batch.to(recognizer.device) for batch in batches)
        ),
    )


def carry_over(path: str, recognizer: Recognizer) -> tuple[str, ...]:
    """Give `recognizer` the parts of a checkpoint that fit, and return their names.

    Features and encoder must fit: `DataError` says all that differs. Normalisations that take mean
    and variance from the recordings at hand fit each other. An encoder with more layers takes those
    of the checkpoint for its first ones, and its criterion begins anew. Otherwise the criterion is
    carried over too if it is of the same kind and size, over the same phones; one over other phones
    begins with the phones that the old one knows (`Criterion.begin_with`), and is not in the names.
    Without a path nothing is carried over; "packaged" is the packaged model.
    """
    if not path:
        return ()
    source = checkpoint.load(MODEL if path == "packaged" else path).recognizer
    both = (source, recognizer)
    deeper = source.config.encoder.layers < recognizer.config.encoder.layers
    adapt = all(each.config.features.adapts for each in both)
    free = {
        "features": FREE_FEATURES if adapt else (),
        "encoder": (*FREE_ENCODER, *(["layers"] if deeper else [])),
    }
    differing = [
        f"{part}.{key}={str(value).lower() if isinstance(value, bool) else value}"
        for part in free
        for key, value in asdict(getattr(source.config, part)).items()
        if key not in free[part] and value != getattr(getattr(recognizer.config, part), key)
    ]
    if differing:
        raise DataError(f"{path}: cannot be carried over unless you set {' '.join(differing)}")
    recognizer.features.load_state_dict(source.features.state_dict())
    recognizer.encoder.load_state_dict(source.encoder.state_dict(), strict=not deeper)
    if deeper:
        return ("features", "encoder")
    alike = [
        (
            each.vocabulary.phones,
            each.config.criterion.name,
            {name: tensor.shape for name, tensor in each.criterion.state_dict().items()},
        )
        for each in both
    ]
    if alike[0] == alike[1]:
        recognizer.criterion.load_state_dict(source.criterion.state_dict())
        return ("features", "encoder", "criterion")
    labels = recognizer.vocabulary.counterparts(source.vocabulary)
    recognizer.criterion.begin_with(source.criterion, labels)
    return ("features", "encoder")
