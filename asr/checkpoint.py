"""One self-describing file: weights, configuration, vocabulary, normalisation, training state.

The file is a safetensors file, so that reading it executes nothing. Its metadata holds JSON under
`asr`, and a SHA-256 of everything, because safetensors itself would not notice a flipped byte.
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
from asr.encoder import EncoderConfig
from asr.features import FeaturesConfig
from asr.phones import Vocabulary
from asr.recognizer import Recognizer, RecognizerConfig
from asr.records import DataError, atomic_open

FORMAT = 2  # 1: before the family of recurrent cells, when weights had other names


@dataclass(frozen=True)
class TrainingState:
    """What a run needs, besides the weights, to go on as if it had never stopped."""

    run: dict[str, Any]  # what may not change between stop and continuation
    history: list[dict[str, Any]]  # one record for each finished epoch
    optimizer: dict[str, Any]  # state_dict of the optimiser


@dataclass(frozen=True)
class Checkpoint:
    """A recogniser, what it was trained on, and, in a run's last checkpoint, how to go on."""

    recognizer: Recognizer
    about: dict[str, Any] = field(default_factory=dict)  # corpus, experiment, seed, epoch, dev PER
    training: TrainingState | None = None


def save(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write the file; it takes its name, and replaces an earlier one, only when complete."""
    recognizer = checkpoint.recognizer
    tensors = {f"model.{name}": tensor for name, tensor in recognizer.state_dict().items()}
    header: dict[str, Any] = {
        "format": FORMAT,
        "recognizer": asdict(recognizer.config),
        "vocabulary": recognizer.vocabulary.phones,
        "about": checkpoint.about,
    }
    if checkpoint.training is not None:
        state, optimizer_tensors = _split(checkpoint.training.optimizer, "optimizer")
        tensors |= optimizer_tensors
        header["training"] = {
            "run": checkpoint.training.run,
            "history": checkpoint.training.history,
            "optimizer": state,
        }
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
    weights = {
        name.removeprefix("model."): tensor
        for name, tensor in tensors.items()
        if name.startswith("model.")
    }
    try:
        recognizer.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(f"{path}: weights and configuration disagree: {error}") from error
    training = None
    if "training" in header:
        state = header["training"]
        training = TrainingState(state["run"], state["history"], _join(state["optimizer"], tensors))
    return Checkpoint(recognizer.to(device).eval(), header["about"], training)


def carry_over(path: str | Path, recognizer: Recognizer) -> tuple[str, ...]:
    """Give `recognizer` what of a checkpoint fits, and say which parts that is.

    Normalisation and encoder must fit: `DataError` says what differs. The criterion is carried over
    too where it is of the same kind and size, over the same phones; otherwise it stays as it is.
    Without a path nothing is carried.
    """
    if not path:
        return ()
    found = load(path).recognizer
    for part, free in (("features", ()), ("encoder", ("dropout", "forget_bias"))):
        theirs, ours = (asdict(getattr(each.config, part)) for each in (found, recognizer))
        differing = [key for key in ours if key not in free and theirs[key] != ours[key]]
        if differing:
            named = ", ".join(f"{part}.{key}={theirs[key]}" for key in differing)
            raise DataError(f"{path}: cannot be carried over, it has {named}; say so here too")
    parts = ["features", "encoder"]
    heads = (found.criterion.state_dict(), recognizer.criterion.state_dict())
    shapes = [{name: tensor.shape for name, tensor in head.items()} for head in heads]
    if (
        found.vocabulary == recognizer.vocabulary
        and found.config.criterion.name == recognizer.config.criterion.name
        and shapes[0] == shapes[1]
    ):
        parts.append("criterion")
    for part in parts:
        getattr(recognizer, part).load_state_dict(getattr(found, part).state_dict())
    return tuple(parts)


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


def _split(node: Any, name: str) -> tuple[Any, dict[str, Tensor]]:
    """Take the tensors out of nested dicts and lists, leaving `{"tensor": name}` in their place."""
    if isinstance(node, Tensor):
        return {"tensor": name}, {name: node}
    tensors: dict[str, Tensor] = {}
    if isinstance(node, dict):
        pairs = []
        for key, value in node.items():
            plain, found = _split(value, f"{name}.{key}")
            pairs.append([key, plain])
            tensors |= found
        return {"dict": pairs}, tensors  # pairs, because JSON would turn integer keys into text
    if isinstance(node, list | tuple):
        items = []
        for index, value in enumerate(node):
            plain, found = _split(value, f"{name}.{index}")
            items.append(plain)
            tensors |= found
        return items, tensors
    return node, tensors


def _join(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `_split`."""
    if isinstance(node, dict):
        if "tensor" in node:
            return tensors[node["tensor"]]
        return {key: _join(value, tensors) for key, value in node["dict"]}
    if isinstance(node, list):
        return [_join(value, tensors) for value in node]
    return node
