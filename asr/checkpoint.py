"""One self-describing file: weights, configuration, vocabulary, normalisation, training state.

A file for others (`asr ship`) has, in place of the training state, the search that was tuned for
it, with its language model and the calibration of its confidences, and weights in half precision.

`asr.model_file` describes the file, and reads what needs no torch.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from asr import criteria, model_file
from asr.architecture import FrameTimes, RecognizerConfig
from asr.detector import SpeechDetector
from asr.encoder import Encoder
from asr.errors import DataError
from asr.files.decoding import convert
from asr.files.outputs import atomic_open
from asr.model_file import FORMAT, ModelFile, Shapes, digest
from asr.recognizer import Recognizer
from asr.search import SearchConfig, packing
from asr.search.calibration import Calibration
from asr.search.decisions import Streaming
from asr.search.graph import require_phones
from asr.search.ngram import LanguageModel


@dataclass(frozen=True)
class TrainingState:
    """What a training needs, besides the weights, to continue as if it had never stopped."""

    run: dict[str, Any]  # what may not change between stop and continuation
    history: list[dict[str, Any]]  # one record for each finished epoch
    learner: dict[str, Any]  # state_dict of the learner, by part: its optimiser, its progress

    @property
    def is_new(self) -> bool:
        """Whether no step was made."""
        return not (self.history or self.learner)


@dataclass(frozen=True)
class Checkpoint:
    """A recogniser, its origin, and in a run's last checkpoint the state of the training."""

    recognizer: Recognizer
    about: dict[str, Any] = field(default_factory=dict)  # corpus, experiment, seed, epoch, dev PER
    training: TrainingState | None = None
    search: SearchConfig | None = None  # the tuned one; its language model is below, not in a file
    language_model: LanguageModel | None = None
    detector: SpeechDetector | None = None
    calibration: Calibration | None = None  # of the confidences that the search gives
    streaming: Streaming | None = None  # how phones are decided, and placed, in a stream


def save(
    path: str | Path, checkpoint: Checkpoint, half: bool = False, previous: Path | None = None
) -> None:
    """Write the file; an earlier one is replaced, or becomes `previous`, when it is complete.

    With `half` weights take 2 bytes each; normalisation keeps its precision. Raises `DataError`
    where a weight is beyond ±65504.
    """
    recognizer = checkpoint.recognizer
    tensors = {f"model.{name}": tensor for name, tensor in recognizer.state_dict().items()}
    if half:
        for name, weights in recognizer.named_parameters():
            tensors[f"model.{name}"] = weights.half()
            if not tensors[f"model.{name}"].isfinite().all():
                raise DataError(f"{path}: {name} has weights too large for half precision")
    header: dict[str, Any] = {
        "format": FORMAT,
        "recognizer": asdict(recognizer.config),
        "vocabulary": recognizer.vocabulary.phones,
        "about": checkpoint.about,
    }
    if checkpoint.training is not None:
        state = checkpoint.training
        header["training"] = {"run": state.run, "history": state.history}
        for part, values in state.learner.items():
            header["training"][part] = _split(values, part, tensors)
    if checkpoint.search is not None:
        header["search"] = asdict(checkpoint.search)
    if checkpoint.detector is not None:
        header["detector"] = asdict(checkpoint.detector)
    if checkpoint.calibration is not None:
        header["calibration"] = asdict(checkpoint.calibration)
    if checkpoint.streaming is not None:
        header["streaming"] = asdict(checkpoint.streaming)
    if checkpoint.language_model is not None:
        packed, streams = packing.pack(checkpoint.language_model)
        header["packed_language_model"] = asdict(packed)
        tensors |= {f"language_model.{key}": torch.tensor(data) for key, data in streams.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    text = json.dumps(header)
    data = to_bytes(tensors, metadata={"asr": text, "sha256": digest(text, arrays)})
    with atomic_open(path, "wb", previous) as file:
        file.write(data)


def load(
    path: str | Path, device: torch.device | str = "cpu", language_model: bool = True
) -> Checkpoint:
    """Read a file back; the recogniser is in evaluation mode.

    With `language_model=False` the n-gram is not unpacked: the packaged model then takes 0.07 s
    instead of 1.1. Raises `DataError` where the file is absent, damaged, or of an unknown format.
    """
    return load_from(model_file.read(path), device, language_model)


def load_from(file: ModelFile, device: torch.device | str, language_model: bool) -> Checkpoint:
    """`load`, of a file that was read."""
    path = file.path
    file.require_sizes()
    try:
        config, vocabulary = file.config, file.vocabulary
        file.require_weights(_shapes(config, len(vocabulary)))
        recognizer = Recognizer(config, vocabulary)
    except (ValueError, TypeError, RuntimeError, ArithmeticError, MemoryError) as error:
        if isinstance(error, DataError) and f"{path}: " in str(error):
            raise
        raise DataError(f"{path}: no recogniser has this configuration ({error})") from error
    tensors = {name: torch.from_numpy(values) for name, values in file.tensors.items()}
    recognizer.load_state_dict({name: tensors[f"model.{name}"] for name in file.weights})
    header, training = file.header, None
    if header.training is not None:
        training = _training_state(header.training, tensors, f"{path}")
    ngram = file.language_model() if language_model and file.has_language_model else None
    if ngram is not None:
        require_phones(ngram, recognizer.vocabulary.phones, f"{path}: ")
    recognizer = recognizer.to(device).eval()
    return Checkpoint(
        recognizer,
        header.about,
        training,
        header.search,
        ngram,
        header.detector,
        header.calibration,
        header.streaming,
    )


def _shapes(config: RecognizerConfig, vocabulary_size: int) -> Shapes:
    """Of a recogniser's tensors, none of which is made."""
    with torch.device("meta"):
        encoder = Encoder(config.encoder, config.features.width)
        size, times = encoder.output_size, FrameTimes(0.0, 1.0)
        criterion = criteria.build(config.criterion, size, vocabulary_size, times)
    moments = (config.features.dynamic_width,), True
    shapes = {"features.mean": moments, "features.std": moments}
    for part, module in (("encoder", encoder), ("criterion", criterion)):
        for name, tensor in module.state_dict().items():
            shapes[f"{part}.{name}"] = tuple(tensor.shape), tensor.is_floating_point()
    return shapes


def _training_state(state: Any, tensors: Mapping[str, Tensor], where: str) -> TrainingState:
    run, history = (state.pop(key, None) for key in ("run", "history"))
    run = convert(run, dict[str, Any], where, "training.run")
    history = convert(history, list[dict[str, Any]], where, "training.history")
    try:
        learner = {part: _join(values, tensors) for part, values in state.items()}
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{where}: training is damaged, {error!r}") from None
    return TrainingState(run, history, learner)


def _split(node: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Nested dicts and lists with `{"tensor": name}` for each tensor, which goes to `tensors`."""
    if isinstance(node, Tensor):
        tensors[name] = node
        return {"tensor": name}
    if isinstance(node, dict):  # pairs, because JSON would turn integer keys into text
        pairs = [[key, _split(value, f"{name}.{key}", tensors)] for key, value in node.items()]
        return {"dict": pairs}
    if isinstance(node, list | tuple):
        return [_split(value, f"{name}.{n}", tensors) for n, value in enumerate(node)]
    return node


def _join(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `_split`."""
    if isinstance(node, dict):
        if "tensor" in node:
            return tensors[node["tensor"]]
        return {key: _join(value, tensors) for key, value in node["dict"]}
    if isinstance(node, list):
        return [_join(value, tensors) for value in node]
    return node
