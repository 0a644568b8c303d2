"""One self-describing file: weights, configuration, vocabulary, normalisation, training state.

A file for others (`asr ship`) has, in place of the training state, the search that was tuned for
it, with its language model, and its weights in half precision.

It is a safetensors file, so reading it executes nothing. Its metadata are JSON under `asr`, and a
SHA-256 of all content, because safetensors itself has no checksum.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from asr import criteria
from asr.encoder import EncoderConfig
from asr.errors import DataError
from asr.features import FeaturesConfig
from asr.files import atomic_open
from asr.phones import Vocabulary
from asr.recognizer import Recognizer, RecognizerConfig
from asr.search import SearchConfig
from asr.search.ngram import LanguageModel

FORMAT = 2  # 1: before the family of recurrent cells, when weights had other names


@dataclass(frozen=True)
class TrainingState:
    """What a training needs, besides the weights, to continue as if it had never stopped."""

    run: dict[str, Any]  # what may not change between stop and continuation
    history: list[dict[str, Any]]  # one record for each finished epoch
    learner: dict[str, Any]  # state_dict of the learner, by part: its optimiser, its average


@dataclass(frozen=True)
class Checkpoint:
    """A recogniser, its origin, and in a run's last checkpoint the state of the training."""

    recognizer: Recognizer
    about: dict[str, Any] = field(default_factory=dict)  # corpus, experiment, seed, epoch, dev PER
    training: TrainingState | None = None
    search: SearchConfig | None = None  # the tuned one; its language model is below, not in a file
    language_model: LanguageModel | None = None


def save(path: str | Path, checkpoint: Checkpoint, half: bool = False) -> None:
    """Write the file; an earlier one is replaced only when the new one is complete.

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
    if checkpoint.language_model is not None:
        header["language_model"], ngrams = _packed(checkpoint.language_model)
        tensors |= ngrams
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(header)
    data = to_bytes(tensors, metadata={"asr": text, "sha256": _digest(text, tensors)})
    with atomic_open(path, "wb") as file:
        file.write(data)


def load(path: str | Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a file back; the recogniser is in evaluation mode.

    Raises `DataError` where the file is absent, damaged, or of an unknown format.
    """
    header, tensors = _read(Path(path))
    config = header["recognizer"]
    recognizer = Recognizer(
        RecognizerConfig(
            FeaturesConfig(**config["features"]),
            EncoderConfig(**config["encoder"]),
            criteria.CONFIGS[config["criterion"]["name"]](**config["criterion"]),
        ),
        Vocabulary(header["vocabulary"]),
    )
    names = [name for name in tensors if name.startswith("model.")]
    weights = {name.removeprefix("model."): tensors[name] for name in names}
    try:
        recognizer.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(f"{path}: weights and configuration disagree: {error}") from error
    training = None
    if state := header.get("training"):
        run, history = state.pop("run"), state.pop("history")
        learner = {part: _join(values, tensors) for part, values in state.items()}
        training = TrainingState(run, history, learner)
    search = SearchConfig(**header["search"]) if "search" in header else None
    model = _unpacked(header["language_model"], tensors) if "language_model" in header else None
    return Checkpoint(recognizer.to(device).eval(), header["about"], training, search, model)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: damaged, or not a checkpoint ({error})") from error
    if "asr" not in metadata:
        raise DataError(f"{path}: a safetensors file, but not a checkpoint of this project")
    if _digest(metadata["asr"], tensors) != metadata.get("sha256"):
        raise DataError(f"{path}: damaged, its content does not match its checksum")
    header = json.loads(metadata["asr"])
    if header["format"] != FORMAT:
        raise DataError(
            f"{path}: format {header['format']}, this version reads {FORMAT}; train it again, or "
            f"use the version that wrote it"
        )
    return header, tensors


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


def _packed(model: LanguageModel) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """An n-gram in 4 bytes a number: symbols as indices from 1 (0: none), no back-off as NaN."""
    symbols = sorted({symbol for ngram in model.log10_probs for symbol in ngram})
    index = {symbol: n for n, symbol in enumerate(symbols, start=1)}
    # a history may have a back-off and, in a pruned model of others, no probability
    ngrams = list({**model.log10_probs, **model.log10_backoffs})
    rows = [[index[symbol] for symbol in ngram] for ngram in ngrams]
    tensors = {
        "ngrams": torch.tensor([row + [0] * (model.order - len(row)) for row in rows]).short(),
        "log10_probs": torch.tensor([model.log10_probs.get(n, math.nan) for n in ngrams]),
        "log10_backoffs": torch.tensor([model.log10_backoffs.get(n, math.nan) for n in ngrams]),
    }
    header = {"order": model.order, "symbols": symbols, "about": model.about}
    return header, {f"language_model.{name}": tensor for name, tensor in tensors.items()}


def _unpacked(header: dict[str, Any], tensors: Mapping[str, Tensor]) -> LanguageModel:
    """The inverse of `_packed`, but for rounding."""
    rows, probs, backoffs = (
        tensors[f"language_model.{name}"].tolist()
        for name in ("ngrams", "log10_probs", "log10_backoffs")
    )
    symbols = ["", *header["symbols"]]
    ngrams = [tuple(symbols[n] for n in row if n) for row in rows]
    log10_probs, log10_backoffs = (
        {n: value for n, value in zip(ngrams, values, strict=True) if not math.isnan(value)}
        for values in (probs, backoffs)
    )
    return LanguageModel(header["order"], log10_probs, log10_backoffs, header["about"])
