"""One self-describing file: weights, configuration, vocabulary, normalisation, training state.

A file for others (`asr ship`) has, in place of the training state, the search that was tuned for
it, with its language model and the calibration of its confidences, and weights in half precision.

It is a safetensors file, so reading it executes nothing. Its metadata are JSON under `asr`, and a
SHA-256 of all content, because safetensors itself has no checksum.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from asr import criteria
from asr.criteria import FrameTimes
from asr.detector import SpeechDetector
from asr.encoder import Encoder, EncoderConfig
from asr.errors import DataError, raise_problems
from asr.features import FeaturesConfig
from asr.files import names, require_kind
from asr.files.decoding import convert, impossible, require_json
from asr.files.outputs import atomic_open
from asr.phones import Vocabulary
from asr.recognizer import Recognizer, RecognizerConfig
from asr.scoring.reliability import Calibration
from asr.search import SearchConfig, packing
from asr.search.graph import require_phones
from asr.search.ngram import LanguageModel

MOST_BINS = 10_000
MOST_SAMPLES = 1_000_000  # of a window
LARGEST = 1e10  # weight
SHOWN = 10  # problems of tensors
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
FORMAT = 2  # 1: before the family of recurrent cells, when weights had other names


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
    if checkpoint.language_model is not None:
        packed, streams = packing.pack(checkpoint.language_model)
        header["packed_language_model"] = asdict(packed)
        tensors |= {f"language_model.{key}": torch.tensor(data) for key, data in streams.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(header)
    data = to_bytes(tensors, metadata={"asr": text, "sha256": _digest(text, tensors)})
    with atomic_open(path, "wb", previous) as file:
        file.write(data)


def load(
    path: str | Path, device: torch.device | str = "cpu", language_model: bool = True
) -> Checkpoint:
    """Read a file back; the recogniser is in evaluation mode.

    With `language_model=False` the n-gram is not unpacked: the packaged model then takes 0.07 s
    instead of 1.1. Raises `DataError` where the file is absent, damaged, or of an unknown format.
    """
    header, tensors = _read(Path(path))
    config = _config(header, f"{path}")
    model = {name.removeprefix("model."): t for name, t in tensors.items() if name[:6] == "model."}
    _require_sizes(config, model, f"{path}")
    phones = names(header.vocabulary, f"{path}", "vocabulary")
    try:
        _require_weights(model, _expected(config, len(phones) + 1), f"{path}")
        recognizer = Recognizer(config, Vocabulary(phones))
    except (ValueError, TypeError, RuntimeError, ArithmeticError, MemoryError) as error:
        if isinstance(error, DataError) and f"{path}: " in str(error):
            raise
        raise DataError(f"{path}: no recogniser has this configuration ({error})") from error
    recognizer.load_state_dict(model)
    training = None
    if header.training is not None:
        training = _training_state(header.training, tensors, f"{path}")
    ngram = _language_model(header, tensors, f"{path}") if language_model else None
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
    )


@dataclass(frozen=True)
class _Parts:
    """The configuration of a recogniser, before the class of its criterion is known."""

    features: FeaturesConfig
    encoder: EncoderConfig
    criterion: dict[str, Any]


@dataclass(frozen=True)
class _Ngrams:
    order: int
    symbols: list[str]
    about: str = ""


@dataclass(frozen=True)
class _Header:
    format: int
    recognizer: _Parts
    vocabulary: list[str]
    about: dict[str, str | int | float | None] = field(default_factory=dict)
    training: dict[str, Any] | None = None
    search: SearchConfig | None = None
    language_model: _Ngrams | None = None  # of before n-grams were packed
    packed_language_model: packing.Packed | None = None
    detector: SpeechDetector | None = None
    calibration: Calibration | None = None


def _read(path: Path) -> tuple[_Header, dict[str, Tensor]]:
    require_kind(path, "a checkpoint, such as checkpoint-best.safetensors in the folder of a run")
    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise DataError(f"{path}: damaged, or not a checkpoint ({error})") from error
    if "asr" not in metadata:
        raise DataError(f"{path}: a safetensors file, but not a checkpoint of this project")
    if _digest(metadata["asr"], tensors) != metadata.get("sha256"):
        raise DataError(f"{path}: damaged, its content does not match its checksum")
    try:
        header = json.loads(metadata["asr"])  # its history may have losses that are no numbers
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: header is not JSON ({error})") from None
    if isinstance(header, dict) and header.get("format") != FORMAT:
        raise DataError(
            f"{path}: format {header.get('format')}, this version reads {FORMAT}; train it again, "
            f"or use the version that wrote it"
        )
    parts = "recognizer", "vocabulary", "search", "language_model", "packed_language_model"
    for key in (*parts, "detector", "calibration"):
        require_json(isinstance(header, dict) and header.get(key), f"{path}", key)
    return convert(header, _Header, f"{path}"), tensors


def _config(header: _Header, where: str) -> RecognizerConfig:
    parts, name = header.recognizer, header.recognizer.criterion.get("name")
    if not isinstance(name, str) or name not in criteria.CONFIGS:
        known = ", ".join(criteria.CONFIGS)
        raise impossible(where, "recognizer.criterion.name", name, f"one of {known}")
    criterion = convert(parts.criterion, criteria.CONFIGS[name], where, "recognizer.criterion")
    return RecognizerConfig(parts.features, parts.encoder, criterion)


def _require_sizes(config: RecognizerConfig, model: Mapping[str, Tensor], where: str) -> None:
    """Raise `DataError` for a configuration whose filters or layers are beyond the file's."""
    features = config.features
    numbers = sum(tensor.numel() for tensor in model.values())
    largest: dict[str, tuple[float, float]] = {
        "features.bins": (features.bins, MOST_BINS),
        "features.window_ms": (features.window_ms * features.sample_rate / 1000, MOST_SAMPLES),
        "features.hop_ms": (features.hop_ms * features.sample_rate / 1000, MOST_SAMPLES),
        "encoder.layers": (config.encoder.layers, len(model)),
    }
    for part in ("features", "encoder"):
        for key, value in asdict(getattr(config, part)).items():
            if isinstance(value, int):
                largest.setdefault(f"{part}.{key}", (value, max(numbers, MOST_SAMPLES)))
    for key, (value, limit) in largest.items():
        if value > limit:
            expected = f"at most {limit}, for the tensors in the file"
            raise impossible(where, f"recognizer.{key}", value, expected)


def _expected(config: RecognizerConfig, vocabulary_size: int) -> dict[str, Tensor]:
    """Tensors of the shapes and types of a recogniser's, which take no memory."""
    times = FrameTimes(0.0, 1.0)
    with torch.device("meta"):
        encoder = Encoder(config.encoder, config.features.width)
        size = encoder.output_size
        criterion = criteria.build(config.criterion, size, vocabulary_size, times)
        moments = torch.empty(config.features.dynamic_width)
    expected = {"features.mean": moments, "features.std": moments}
    for part, module in (("encoder", encoder), ("criterion", criterion)):
        expected |= {f"{part}.{name}": tensor for name, tensor in module.state_dict().items()}
    return expected


def _require_weights(model: Mapping[str, Tensor], shapes: Mapping[str, Tensor], where: str) -> None:
    """Raise `DataError` unless all tensors are there, of the right kind, and can be computed with.

    Minus infinity is the logarithm of a weight that is absent.
    """
    problems = [f"{where}: no tensor model.{name}" for name in shapes.keys() - model.keys()]
    for name, tensor in model.items():
        key = f"{where}: tensor model.{name}"
        if name not in shapes:
            problems.append(f"{key} is not part of the configuration")
        elif tensor.shape != shapes[name].shape:
            problems.append(
                f"{key} is {tuple(tensor.shape)}, weights and configuration disagree: expected "
                f"{tuple(shapes[name].shape)}"
            )
        elif tensor.is_complex() or tensor.is_floating_point() != shapes[name].is_floating_point():
            problems.append(f"{key} is {tensor.dtype}, expected {shapes[name].dtype}")
        else:
            values = tensor.float()
            if name.endswith("log_weights"):
                values = values.masked_fill(values.isneginf(), 0.0)
            least, most = values.aminmax() if values.numel() else (0.0, 0.0)
            if not (least >= -LARGEST and most <= LARGEST):
                problems.append(f"{key} has values that are no numbers, or beyond ±{LARGEST:g}")
    raise_problems(sorted(problems)[:SHOWN])


def _training_state(state: Any, tensors: Mapping[str, Tensor], where: str) -> TrainingState:
    run, history = (state.pop(key, None) for key in ("run", "history"))
    run = convert(run, dict[str, Any], where, "training.run")
    history = convert(history, list[dict[str, Any]], where, "training.history")
    try:
        learner = {part: _join(values, tensors) for part, values in state.items()}
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{where}: training is damaged, {error!r}") from None
    return TrainingState(run, history, learner)


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


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


def _language_model(
    header: _Header, tensors: Mapping[str, Tensor], where: str
) -> LanguageModel | None:
    """The n-gram of a file, packed or not, if it has one."""
    if header.packed_language_model is not None:
        streams = {key: tensors.get(f"language_model.{key}") for key in packing.STREAMS}
        arrays = {key: data.numpy() for key, data in streams.items() if data is not None}
        return packing.unpack(header.packed_language_model, arrays, f"{where}: language_model")
    if header.language_model is not None:
        return _unpacked(header.language_model, tensors, where)
    return None


def _unpacked(header: _Ngrams, tensors: Mapping[str, Tensor], where: str) -> LanguageModel:
    """An n-gram of before n-grams were packed: rows of symbols from 1, shorter ones padded by 0."""
    keys = ("ngrams", "log10_probs", "log10_backoffs")
    parts = [tensors.get(f"language_model.{key}", torch.zeros(0)) for key in keys]
    ngrams, *numbers = parts
    shape = (len(numbers[0]) if numbers[0].dim() else -1, header.order)
    for key, tensor in zip(keys, parts, strict=True):
        expected = shape if key == "ngrams" else shape[:1]
        is_right = tensor.dtype in INTEGERS if key == "ngrams" else tensor.is_floating_point()
        if tuple(tensor.shape) != expected or not is_right:
            described = f"{tuple(tensor.shape)} {tensor.dtype}"
            wanted = f"{expected}, as its order is"
            raise impossible(where, f"language_model.{key}", described, wanted)
    symbols = names(header.symbols, where, "language_model.symbols")
    if ngrams.numel() and not (int(ngrams.min()) >= 0 and int(ngrams.max()) <= len(symbols)):
        worst = max(abs(int(ngrams.min())), int(ngrams.max()))
        raise impossible(where, "language_model.ngrams", worst, f"0 to {len(symbols)}")
    rows = ngrams.long().numpy()
    if (
        not header.order
        or ((rows[:, :-1] == 0) & (rows[:, 1:] > 0)).any()
        or (rows == 0).all(1).any()
    ):
        raise DataError(f"{where}: language_model.ngrams has a row that is no n-gram")
    probs, backoffs = (tensor.double().numpy() for tensor in numbers)
    model = LanguageModel.of_ngrams(symbols, rows, probs, backoffs, header.about)
    model.require_sound(f"{where}: language_model")
    return model
