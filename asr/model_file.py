"""A model file in numpy: header and tensors, checked, without torch.

It is a safetensors file, so reading it executes nothing. Its metadata are JSON under `asr`, and a
SHA-256 of all content, because safetensors itself has no checksum. `asr.checkpoint` writes it.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from asr.architecture import CRITERIA, EncoderConfig, RecognizerConfig
from asr.detector import SpeechDetector
from asr.errors import DataError, raise_problems
from asr.features.config import FeaturesConfig
from asr.files import names, require_kind
from asr.files.decoding import convert, impossible, require_json
from asr.files.kept import kept, stamp
from asr.phones import Vocabulary
from asr.search import SearchConfig, packing
from asr.search.calibration import Calibration
from asr.search.decisions import Streaming
from asr.search.ngram import LanguageModel

MOST_BINS = 10_000
MOST_SAMPLES = 1_000_000  # of a window
LARGEST = 1e10  # weight
SHOWN = 10  # problems of tensors
FORMAT = 2  # 1: before the family of recurrent cells, when weights had other names

Array = npt.NDArray[Any]
Shapes = Mapping[str, tuple[tuple[int, ...], bool]]  # of tensors, and whether they are no integers


@dataclass(frozen=True)
class Parts:
    """The configuration of a recogniser, before the class of its criterion is known."""

    features: FeaturesConfig
    encoder: EncoderConfig
    criterion: dict[str, Any]


@dataclass(frozen=True)
class Ngrams:
    order: int
    symbols: list[str]
    about: str = ""


@dataclass(frozen=True)
class Header:
    format: int
    recognizer: Parts
    vocabulary: list[str]
    about: dict[str, str | int | float | None] = field(default_factory=dict)
    training: dict[str, Any] | None = None
    search: SearchConfig | None = None
    language_model: Ngrams | None = None  # of before n-grams were packed
    packed_language_model: packing.Packed | None = None
    detector: SpeechDetector | None = None
    calibration: Calibration | None = None
    streaming: Streaming | None = None


@dataclass(frozen=True)
class ModelFile:
    """A file that was read: its header, and its tensors by name.

    Where it is kept (`read_weights`), the tensors are the weights alone, which are sound.
    """

    path: Path
    header: Header
    tensors: Mapping[str, Array]
    sha256: str
    is_kept: bool = False

    @property
    def config(self) -> RecognizerConfig:
        """Raises `DataError` for a criterion that is unknown."""
        return _config(self.header, f"{self.path}")

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(names(self.header.vocabulary, f"{self.path}", "vocabulary"))

    @property
    def weights(self) -> dict[str, Array]:
        """The tensors of the recogniser, by their names in it."""
        return {
            name.removeprefix("model."): tensor
            for name, tensor in self.tensors.items()
            if name.startswith("model.")
        }

    def require_sizes(self) -> None:
        """Raise `DataError` for a configuration whose filters or layers are beyond the file's."""
        if not self.is_kept:
            _require_sizes(self.config, self.weights, f"{self.path}")

    def require_weights(self, shapes: Shapes) -> None:
        """Raise `DataError` unless all tensors are there, and can be computed with."""
        if not self.is_kept:
            _require_weights(self.weights, shapes, f"{self.path}")

    @property
    def has_language_model(self) -> bool:
        return bool(self.header.packed_language_model or self.header.language_model)

    def language_model(self) -> LanguageModel:
        """The n-gram, packed or not; `DataError` where there is none."""
        if self.is_kept:
            return read(self.path).language_model()
        model = _language_model(self.header, self.tensors, f"{self.path}")
        if model is None:
            raise DataError(f"{self.path}: contains no n-gram; estimate one from manifests")
        return model


def read(path: str | Path) -> ModelFile:
    """A model file; `DataError` where it is absent, damaged, or of an unknown format."""
    path = Path(path)
    with _opened(path) as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    text = _text(path, metadata)
    if digest(text, tensors) != metadata.get("sha256"):
        raise DataError(f"{path}: damaged, its content does not match its checksum")
    return ModelFile(path, _header(path, text), tensors, metadata["sha256"])


def read_weights(
    path: str | Path, shapes_of: Callable[[RecognizerConfig, int], Shapes | None]
) -> ModelFile:
    """`read`, with weights that are sound and in single precision, and nothing else.

    They are kept by the path, size and times of the file: its first use alone reads all of it.
    `shapes_of` gives the shapes of a recogniser's tensors from its configuration and the size of
    its vocabulary; None: nothing is kept of such a one, and all is read.
    """
    path = Path(path)
    with _opened(path) as file:
        metadata, stated = file.metadata() or {}, stamp(path)
    try:
        header = _header(path, _text(path, metadata))
        unread = ModelFile(path, header, {}, metadata.get("sha256", ""), is_kept=True)
        shapes = shapes_of(unread.config, len(unread.vocabulary))
    except ValueError:
        shapes = None  # `read` says what is wrong, and first of all that a file is damaged
    if shapes is None:
        return read(path)
    expected = shapes

    def weights() -> dict[str, Array]:
        file = read(path)
        file.require_sizes()
        file.require_weights(expected)
        return {
            f"model.{name}": tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor
            for name, tensor in file.weights.items()
        }

    key = [unread.sha256, stated]
    arrays = kept("weights", key, weights, f"the weights of {path}", read_whole=True)
    return replace(unread, tensors=arrays)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    require_kind(path, "a checkpoint, such as checkpoint-best.safetensors in the folder of a run")
    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, framework="np") as file:
            yield file
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise DataError(f"{path}: damaged, or not a checkpoint ({error})") from error


def _text(path: Path, metadata: Mapping[str, str]) -> str:
    if "asr" not in metadata:
        raise DataError(f"{path}: a safetensors file, but not a checkpoint of this project")
    return metadata["asr"]


def _header(path: Path, text: str) -> Header:
    try:
        header = json.loads(text)  # its history may have losses that are no numbers
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
    return convert(header, Header, f"{path}")


def digest(text: str, tensors: Mapping[str, Array]) -> str:
    """The checksum of a file: of its header and all tensors."""
    checksum = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        checksum.update(f"{name} torch.{tensor.dtype} {tensors[name].shape}".encode())
        checksum.update(tensor.reshape(-1).view(np.uint8).data)
    return checksum.hexdigest()


def _config(header: Header, where: str) -> RecognizerConfig:
    parts, name = header.recognizer, header.recognizer.criterion.get("name")
    if not isinstance(name, str) or name not in CRITERIA:
        known = ", ".join(CRITERIA)
        raise impossible(where, "recognizer.criterion.name", name, f"one of {known}")
    criterion = convert(parts.criterion, CRITERIA[name], where, "recognizer.criterion")
    return RecognizerConfig(parts.features, parts.encoder, criterion)


def _require_sizes(config: RecognizerConfig, model: Mapping[str, Array], where: str) -> None:
    """Raise `DataError` for a configuration whose filters or layers are beyond the file's."""
    features = config.features
    numbers = sum(tensor.size for tensor in model.values())
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


def _require_weights(model: Mapping[str, Array], shapes: Shapes, where: str) -> None:
    """Raise `DataError` unless all tensors are there, of the right kind, and can be computed with.

    Minus infinity is the logarithm of a weight that is absent.
    """
    problems = [f"{where}: no tensor model.{name}" for name in shapes.keys() - model.keys()]
    for name, tensor in model.items():
        key = f"{where}: tensor model.{name}"
        if name not in shapes:
            problems.append(f"{key} is not part of the configuration")
            continue
        shape, is_floating = shapes[name]
        if tensor.shape != shape:
            problems.append(
                f"{key} is {tensor.shape}, weights and configuration disagree: expected {shape}"
            )
        elif (tensor.dtype.kind == "f") != is_floating or tensor.dtype.kind not in "fiu":
            kind = "floating-point numbers" if is_floating else "integers"
            problems.append(f"{key} is {tensor.dtype}, expected {kind}")
        elif tensor.size:
            values = tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor
            if name.endswith("log_weights"):
                values = np.where(np.isneginf(tensor), 0, tensor)
            if not (float(values.min()) >= -LARGEST and float(values.max()) <= LARGEST):
                problems.append(f"{key} has values that are no numbers, or beyond ±{LARGEST:g}")
    raise_problems(sorted(problems)[:SHOWN])


def _language_model(
    header: Header, tensors: Mapping[str, Array], where: str
) -> LanguageModel | None:
    """The n-gram of a file, packed or not, if it has one."""
    if header.packed_language_model is not None:
        streams = {key: tensors.get(f"language_model.{key}") for key in packing.STREAMS}
        arrays = {key: data for key, data in streams.items() if data is not None}
        return packing.unpack(header.packed_language_model, arrays, f"{where}: language_model")
    if header.language_model is not None:
        return _unpacked(header.language_model, tensors, where)
    return None


def _unpacked(header: Ngrams, tensors: Mapping[str, Array], where: str) -> LanguageModel:
    """An n-gram of before n-grams were packed: rows of symbols from 1, shorter ones padded by 0."""
    keys = ("ngrams", "log10_probs", "log10_backoffs")
    parts = [tensors.get(f"language_model.{key}", np.zeros(0)) for key in keys]
    ngrams, *numbers = parts
    shape = (len(numbers[0]) if numbers[0].ndim else -1, header.order)
    for key, tensor in zip(keys, parts, strict=True):
        expected = shape if key == "ngrams" else shape[:1]
        is_right = tensor.dtype.kind in ("iu" if key == "ngrams" else "f")
        if tensor.shape != expected or not is_right:
            described = f"{tensor.shape} {tensor.dtype}"
            wanted = f"{expected}, as its order is"
            raise impossible(where, f"language_model.{key}", described, wanted)
    symbols = names(header.symbols, where, "language_model.symbols")
    if ngrams.size and not (int(ngrams.min()) >= 0 and int(ngrams.max()) <= len(symbols)):
        worst = max(abs(int(ngrams.min())), int(ngrams.max()))
        raise impossible(where, "language_model.ngrams", worst, f"0 to {len(symbols)}")
    rows = ngrams.astype(np.int64)
    if (
        not header.order
        or ((rows[:, :-1] == 0) & (rows[:, 1:] > 0)).any()
        or (rows == 0).all(1).any()
    ):
        raise DataError(f"{where}: language_model.ngrams has a row that is no n-gram")
    probs, backoffs = (values.astype(np.float64) for values in numbers)
    model = LanguageModel.of_ngrams(symbols, rows, probs, backoffs, header.about)
    model.require_sound(f"{where}: language_model")
    return model
