"""A trained recogniser in use: what the searches, aligners and judges ask of it.

`CompiledNetwork` needs numpy and numba alone, and runs every model but the transducer.
`asr.by_torch` runs them all, on GPUs too.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from asr.architecture import (
    CTCConfig,
    FramewiseConfig,
    GMMConfig,
    HMMConfig,
    RecognizerConfig,
)
from asr.detector import SpeechDetector
from asr.errors import DataError
from asr.features.frames import Frames
from asr.features.moments import Moments
from asr.lstm import inference
from asr.lstm.inference import Stack
from asr.model_file import ModelFile, Shapes
from asr.phones import Vocabulary
from asr.search import SearchConfig
from asr.search.calibration import Calibration
from asr.search.decisions import Streaming
from asr.search.decoders import Decoder, decoder_of, logsumexp
from asr.search.graph import Graph

Array = npt.NDArray[Any]


class Network(ABC):
    """A recogniser that hears one utterance at a time, in arrays of float32."""

    config: RecognizerConfig
    vocabulary: Vocabulary
    frames: Frames
    decoder: Decoder

    @abstractmethod
    def emissions(self, static: Array, moments: Moments | None = None) -> Array:
        """What the decoder reads: static frames (T, static width) → (T', E).

        `moments` (dynamic width,) normalise the frames; None: as the configuration says.
        """

    @abstractmethod
    def gates(
        self, static: Array, moments: Moments | None, layer: int, direction: int
    ) -> dict[str, Array]:
        """The gates of a layer, counted from 0, while `emissions` are made: (T', H) by name.

        They are from 0 to 1, and forwards in time; direction 1 is the backward one.
        """

    @property
    def step(self) -> int:
        """Samples from one encoded frame to the next."""
        return self.config.features.hop_samples * self.config.encoder.subsampling


class Model(NamedTuple):
    """A model file in use: its network, and how its phones are searched for."""

    network: Network
    search: SearchConfig
    graph: Graph | None = None  # of its n-gram
    detector: SpeechDetector | None = None
    calibration: Calibration | None = None  # of the confidences that the search gives
    streaming: Streaming | None = None  # how phones are decided, and placed, in a stream


class CompiledNetwork(Network):
    """The network of a model file, in numpy and compiled loops."""

    def __init__(self, file: ModelFile) -> None:
        self.config, self.vocabulary = file.config, file.vocabulary
        file.require_weights(shapes(self.config, len(self.vocabulary)))
        weights = file.weights
        self.frames = Frames(
            self.config.features, (weights["features.mean"], weights["features.std"])
        )
        self.stack = Stack(self.config.encoder, _below("encoder.stack.", weights))
        self.head = _below("criterion.", weights)
        decoder = decoder_of(self.config, self.head.get("occupancy"))
        assert decoder is not None, self.config.criterion.name
        self.decoder = decoder

    def emissions(self, static: Array, moments: Moments | None = None) -> Array:
        encoded = self.stack(self.frames.normalised(static, moments))
        if isinstance(self.config.criterion, GMMConfig):
            return self._densities(encoded)
        logits = encoded @ self.head["head.weight"].T + self.head["head.bias"]
        logits -= logsumexp(logits)[:, None]
        return logits

    def gates(
        self, static: Array, moments: Moments | None, layer: int, direction: int
    ) -> dict[str, Array]:
        return self.stack.gates(self.frames.normalised(static, moments), layer, direction)

    def _densities(self, frames: Array) -> Array:
        """log p(frame | state) of mixtures: (T', D) → (T', K)."""
        means, variances = self.head["means"], self.head["variances"]
        constant = self.head["log_weights"] - 0.5 * (
            (np.square(means) / variances).sum(axis=2)
            + np.log(variances).sum(axis=2)
            + frames.shape[1] * math.log(2 * math.pi)
        )
        by_value = np.concatenate([-0.5 / variances, means / variances], axis=2)
        values = np.concatenate([np.square(frames), frames], axis=1)
        shape = len(frames), *constant.shape
        of_components = (values @ by_value.reshape(-1, values.shape[1]).T).reshape(shape)
        return logsumexp(of_components + constant).astype(np.float32)


def load(file: ModelFile) -> CompiledNetwork:
    """The network of a file; `DataError` where no recogniser has its configuration."""
    try:
        return CompiledNetwork(file)
    except (ValueError, TypeError, ArithmeticError, MemoryError) as error:
        if isinstance(error, DataError) and f"{file.path}: " in str(error):
            raise
        message = f"{file.path}: no recogniser has this configuration ({error})"
        raise DataError(message) from error


def runs(config: RecognizerConfig) -> bool:
    """Whether `CompiledNetwork` runs such a recogniser."""
    is_known = isinstance(config.criterion, CTCConfig | FramewiseConfig | GMMConfig)
    return is_known and config.encoder.cell in inference.KERNEL_OF


def shapes_of(config: RecognizerConfig, vocabulary_size: int) -> Shapes | None:
    """`shapes`; None where `CompiledNetwork` does not run such a recogniser."""
    return shapes(config, vocabulary_size) if runs(config) else None


def shapes(config: RecognizerConfig, vocabulary_size: int) -> Shapes:
    """Of the tensors of a recogniser that `CompiledNetwork` runs."""
    encoder, criterion = config.encoder, config.criterion
    result: dict[str, tuple[tuple[int, ...], bool]] = {
        f"features.{name}": ((config.features.dynamic_width,), True) for name in ("mean", "std")
    }
    for name, shape in inference.shapes(encoder, config.features.width).items():
        result[f"encoder.stack.{name}"] = shape, True
    width = (encoder.projection or encoder.hidden) * (2 if encoder.bidirectional else 1)
    if not encoder.layers:
        width = config.features.width * encoder.subsampling
    columns = vocabulary_size
    if isinstance(criterion, HMMConfig):
        columns = 1 + (vocabulary_size - 1) * criterion.states
        result["criterion.occupancy"] = (columns,), True
    if isinstance(criterion, GMMConfig):
        components = columns, criterion.mixtures
        result["criterion.log_weights"] = components, True
        for name in ("means", "variances"):
            result[f"criterion.{name}"] = (*components, width), True
        result["criterion.passes"] = (), False
        result["criterion.least_variances"] = (width,), True
    else:
        result["criterion.head.weight"] = (columns, width), True
        result["criterion.head.bias"] = (columns,), True
    return result


def _below(start: str, weights: Mapping[str, Array]) -> dict[str, Array]:
    """The tensors whose names begin so, by the rest of their names, in single precision."""
    return {
        name.removeprefix(start): values.astype(np.float32)
        if values.dtype == np.float16
        else values
        for name, values in weights.items()
        if name.startswith(start)
    }
