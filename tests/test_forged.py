"""Files whose checksum is right and whose content cannot be: one sentence, and no memory taken."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from asr import checkpoint, model_file
from asr.architecture import EncoderConfig, RecognizerConfig
from asr.checkpoint import Checkpoint, TrainingState
from asr.criteria import CTCConfig
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.phones import Vocabulary
from asr.recognizer import Recognizer
from asr.search import SearchConfig, packing
from asr.search.ngram import estimate

PHONES = ("aa", "b", "sil")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with all that one may have."""
    config = RecognizerConfig(
        FeaturesConfig(bins=8), EncoderConfig(hidden=3, layers=1), CTCConfig()
    )
    recognizer = Recognizer(config, Vocabulary(PHONES))
    adam = torch.optim.Adam(recognizer.parameters())
    history = [{"epoch": 1, "dev_loss": math.inf}]
    state = TrainingState({"seed": 1}, history, {"optimizer": adam.state_dict()})
    model = estimate([("aa", "b", "sil"), ("b", "b")], 2)
    path = tmp_path_factory.mktemp("checkpoint") / "sound.safetensors"
    checkpoint.save(path, Checkpoint(recognizer, {"seed": 1}, state, SearchConfig(), model))
    return path


def forged(
    sound: Path, folder: Path, header: Callable[[Any], Any], tensors: Callable[[Any], Any]
) -> Path:
    """The checkpoint with another header and other tensors, and the checksum of these."""
    weights = load_file(sound)
    with safe_open(sound, "pt") as file:
        text = json.dumps(header(json.loads(file.metadata()["asr"])))
    weights = tensors(weights)
    path = folder / "forged.safetensors"
    digest = model_file.digest(text, {name: one.numpy() for name, one in weights.items()})
    save_file(weights, path, {"asr": text, "sha256": digest})
    return path


def same(value: Any) -> Any:
    return value


def leaves(node: Any, place: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The place of every value within JSON, those of objects and lists included."""
    parts = node.items() if isinstance(node, dict) else enumerate(node)
    inner = [
        [(*place, key), *(leaves(value, (*place, key)) if isinstance(value, dict) else ())]
        for key, value in parts
    ]
    return [one for some in inner for one in some]


WRONG = [None, -1, 1e30, 10**9, math.nan, "x", [], [None], {}, {"a": [1]}, True, "\ud800"]


def test_no_value_of_a_header_ends_in_a_traceback(sound: Path, tmp_path: Path) -> None:
    with safe_open(sound, "pt") as file:
        header = json.loads(file.metadata()["asr"])
    places = [(), *leaves(header)]
    messages: list[str] = []
    for number, place in enumerate(places):
        for wrong in (WRONG[number % len(WRONG)], WRONG[(5 * number + 3) % len(WRONG)]):
            path = forged(
                sound, tmp_path, lambda node, p=place, w=wrong: replaced(node, p, w), same
            )
            try:
                checkpoint.load(path)
            except DataError as error:
                messages.append(str(error))
    assert len(messages) > len(places)
    assert [one for one in messages if not one.startswith(f"{tmp_path}") and "\n" not in one] == []


def replaced(node: Any, place: tuple[str | int, ...], value: Any) -> Any:
    if not place:
        return value
    inner = node
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return node


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model.criterion.head.weight", lambda t: t + math.nan),
        ("model.criterion.head.weight", lambda t: t + 1e30),
        ("model.criterion.head.weight", lambda t: t - math.inf),
        ("model.criterion.head.weight", lambda t: t.to(torch.complex64)),
        ("model.criterion.head.weight", lambda t: t.long()),
        ("model.criterion.head.weight", lambda t: t[1:].clone()),
        ("model.features.std", lambda t: t.reshape(1, -1)),
        ("model.features.mean", lambda t: None),
        ("language_model.children", lambda t: t[1:].clone()),
        ("language_model.children", lambda t: t.flip(0)),
        ("language_model.children", lambda t: None),
        ("language_model.symbols", lambda t: t.reshape(1, -1)),
        ("language_model.symbols", lambda t: compressed(0, 0, 200)),
        ("language_model.symbols", lambda t: compressed(*[0] * 10**6)),
        ("language_model.probs", lambda t: t.float()),
        ("language_model.probs", lambda t: compressed(*[9] * 11)),
        ("language_model.probs", lambda t: compressed(*[255] * 11)),
        ("language_model.backoffs", lambda t: t[:0].clone()),
    ],
)
def test_wrong_tensors_are_named(
    sound: Path, tmp_path: Path, name: str, change: Callable[[Tensor], Tensor | None]
) -> None:
    def tensors(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        changed = change(weights.pop(name))
        return weights if changed is None else weights | {name: changed}

    path = forged(sound, tmp_path, same, tensors)
    with pytest.raises(
        DataError, match=rf"forged\.safetensors: .*{name.partition('.')[0]}"
    ) as error:
        checkpoint.load(path)
    assert "\n" not in str(error.value)


def compressed(*numbers: int) -> Tensor:
    return torch.tensor(packing._compressed(np.array(numbers)))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("language_model.ngrams", lambda t: t + 99),
        ("language_model.ngrams", lambda t: t - 99),
        ("language_model.ngrams", lambda t: t.float()),
        ("language_model.ngrams", lambda t: None),
        ("language_model.log10_probs", lambda t: t + 3),
        ("language_model.log10_probs", lambda t: t + math.inf),
        ("language_model.log10_probs", lambda t: t + math.nan),
        ("language_model.log10_probs", lambda t: t[1:].clone()),
        ("language_model.log10_probs", lambda t: t.sum()),
        ("language_model.log10_backoffs", lambda t: t + 1e30),
        ("language_model.ngrams", lambda t: t.flip(1)),
        ("language_model.ngrams", lambda t: t * 0),
    ],
)
def test_an_unpacked_language_model_is_read_and_refused_as_ever(
    sound: Path, tmp_path: Path, name: str, change: Callable[[Tensor], Tensor | None]
) -> None:
    symbols = ["</s>", "<s>", "aa", "b", "sil"]
    earlier = {
        "language_model.ngrams": torch.tensor([[n, 0] for n in range(1, 6)] + [[2, 3]]).short(),
        "language_model.log10_probs": torch.tensor([-0.5] * 6),
        "language_model.log10_backoffs": torch.tensor([math.nan, -0.25, *[math.nan] * 4]),
    }

    def header(node: Any) -> Any:
        del node["packed_language_model"]
        return node | {"language_model": {"order": 2, "symbols": symbols, "about": "earlier"}}

    path = forged(sound, tmp_path, header, lambda weights: weights | earlier)
    model = checkpoint.load(path).language_model
    assert model is not None
    assert (model.order, model.phones, model.about) == (2, PHONES, "earlier")
    assert model.log_prob(("<s>",), "aa") == pytest.approx(-0.5 * math.log(10))
    assert model.log_prob(("<s>",), "b") == pytest.approx(-0.75 * math.log(10))
    changed = change(earlier.pop(name))
    if changed is not None:
        earlier[name] = changed
    path = forged(sound, tmp_path, header, lambda weights: weights | earlier)
    with pytest.raises(DataError, match=r"forged\.safetensors: .*language_model") as error:
        checkpoint.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("encoder", "hidden"), 10**9),
        (("encoder", "layers"), 10**9),
        (("features", "bins"), 10**7),
        (("features", "window_ms"), 1e9),
        (("features", "sample_rate"), 10**12),
        (("features", "context"), 10**9),
        (("encoder", "hiden"), 3),
    ],
)
def test_sizes_beyond_the_file_are_refused_by_key(
    sound: Path, tmp_path: Path, key: tuple[str, str], value: float
) -> None:
    def change(header: Any) -> Any:
        header["recognizer"][key[0]][key[1]] = value
        return header

    with pytest.raises(DataError, match=rf"{key[0]}\.{key[1]}|features\.window"):
        checkpoint.load(forged(sound, tmp_path, change, same))


def test_the_sound_one_is_read(sound: Path) -> None:
    result = checkpoint.load(sound)
    assert repr(result.about) == "{'seed': 1}"  # no 1.0
    assert result.search == SearchConfig()
    assert result.language_model is not None
    assert result.language_model.phones == PHONES
    assert result.training is not None
    assert result.training.history[0]["dev_loss"] == math.inf
