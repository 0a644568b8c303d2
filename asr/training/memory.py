"""The memory of a training step, from the shape of its batch, before the first step is made.

Counted are the values that the backward pass needs of each frame, and what is computed beside them
where most is in memory: in the loss, or in the gradient of the last layer.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from asr.criteria.ctc import CTC
from asr.criteria.gmm import GMM
from asr.criteria.hmm import HMM
from asr.criteria.transducer import Transducer
from asr.dataset import Batches
from asr.errors import DataError
from asr.lstm.cell import NormalizedInputs
from asr.lstm.fast.kernels import KERNELS
from asr.lstm.layer import RecurrentLayer
from asr.processor import memory, ranks
from asr.recognizer import Recognizer
from asr.records import Utterance

log = logging.getLogger(__name__)

MARGIN = 1.25  # `step_bytes` is right within this factor
HELD = 512  # values for each frame that the heap holds beside, by recipes/bench/memory.py
ROOM = 1 << 28  # bytes of the heap that are not worth a trim


@dataclass(frozen=True)
class Shape:
    """Of a padded batch: N utterances, with copies; the longest of them in seconds and phones."""

    utterances: int
    seconds: float
    phones: int


def longest_batch(batches: Batches) -> tuple[Shape, Utterance]:
    """The batch with the most padded seconds in this epoch, and its longest utterance."""
    sampler, speech = batches.bucket_sampler, batches.speech
    durations: Sequence[float] = sampler.durations
    longest = max(sampler.plan(), key=lambda part: len(part) * durations[part[-1]])
    utterances = [speech.utterances[n] for n in longest]
    phones = max(len(one.phones) for one in utterances)
    shape = Shape(len(longest) * speech.copies, durations[longest[-1]], phones)
    return shape, utterances[-1]


def step_bytes(recognizer: Recognizer, shape: Shape) -> int:
    """What a training step on a batch of this shape needs in bytes, beside the weights."""
    features, encoder = recognizer.config.features, recognizer.config.encoder
    samples = round(shape.seconds * features.sample_rate)
    frames = int(recognizer.encoded_lengths(torch.tensor([samples])))
    encoded = shape.utterances * frames
    kept: float = shape.utterances * (samples + 2 * features.width * frames * encoder.subsampling)
    weights = sum(one.numel() for one in recognizer.parameters())
    if isinstance(recognizer.criterion, GMM):
        return round(4 * (kept + 3 * encoded * recognizer.criterion.columns))
    at_once = 0.0
    for layer in recognizer.encoder.stack.layers:
        assert isinstance(layer, RecurrentLayer)
        kept += encoded * layer_values(layer)
        at_once = encoded * (gradient_values(layer) + HELD)
    loss = loss_values(recognizer, shape, frames)
    return round(4 * (kept + max(at_once, loss) + 2 * weights))


def layer_values(layer: RecurrentLayer) -> float:
    """What the backward pass of a layer reads, in values for each frame: both directions."""
    values = layer.output_size / 4  # the mask of dropout, a byte each
    for cell in layer.cells:
        rows = len(cell.blocks) * cell.hidden
        memory_of = KERNELS[cell.kernel].memory if cell.kernel else (lambda size: size)
        normalized = rows if isinstance(cell.inputs, NormalizedInputs) else 0
        values += cell.inputs.in_features + rows + normalized + cell.hidden
        values += memory_of(cell.hidden)
    return values


def gradient_values(layer: RecurrentLayer) -> float:
    """What the gradient of a layer needs beside `layer_values`, in values for each frame."""
    rows = 0
    for cell in layer.cells:
        scales = cell.kernel and KERNELS[cell.kernel].scales_product
        rows += (2 if scales else 1) * len(cell.blocks) * cell.hidden
    return rows + 3 * layer.output_size


def loss_values(recognizer: Recognizer, shape: Shape, frames: int) -> float:
    """What a loss and its gradient need where most is in memory, in values."""
    criterion, prefixes = recognizer.criterion, shape.phones + 1
    labels = len(recognizer.vocabulary)
    encoded = shape.utterances * frames
    if isinstance(criterion, Transducer):
        nodes = frames * prefixes
        at_once = max(1, min(shape.utterances, criterion.config.lattice // (nodes * labels)))
        width = criterion.config.joint
        return 5 * encoded * width + at_once * nodes * (3 * width + 3 * labels)
    if isinstance(criterion, CTC):
        return encoded * (4 * labels + 2 * (2 * prefixes - 1))
    assert isinstance(criterion, HMM)
    return 4 * encoded * criterion.columns


def require_room(recognizer: Recognizer, batches: Batches) -> int:
    """Log what the longest batch needs; the resident bytes above which the heap is to be trimmed.

    Raises `DataError` where memory is certainly not enough, and warns where it may not be. The
    memory of a machine is shared by the processes that train on it.
    """
    shape, longest = longest_batch(batches)
    needed = step_bytes(recognizer, shape)
    about = f"{shape.utterances} × {shape.seconds:.1f} s, about {_gb(needed)} GB"
    log.info("longest batch: %s", about)
    if recognizer.device.type == "cpu":
        free = memory.available()
    else:
        is_cuda = recognizer.device.type == "cuda"
        free = torch.cuda.mem_get_info(recognizer.device)[0] if is_cuda else None
    if free is not None:
        free //= ranks.local_count() if recognizer.device.type == "cpu" else 1
        problem = (
            f"{longest.id}: its batch is the longest, {about} to train on, and {_gb(free)} GB of "
            f"memory are free; lower training.batch_frames or training.batch_size, or leave it out"
        )
        if needed / MARGIN > free:
            raise DataError(problem)
        if needed * MARGIN > free:
            log.warning("%s", problem)
    at_start = memory.resident()
    return at_start and at_start + round(MARGIN * needed) + ROOM


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f}" if count >= 5e7 else f"{count / 1e9:.2f}"
