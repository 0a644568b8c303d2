"""`asr export`: an ONNX file gives what its checkpoint gives, whatever its knobs."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import tones_of

from asr import checkpoint, model_file
from asr.architecture import (
    CriterionConfig,
    CTCConfig,
    EncoderConfig,
    FramewiseConfig,
    GMMConfig,
    RecognizerConfig,
    TransducerConfig,
)
from asr.batch import Batch
from asr.checkpoint import Checkpoint
from asr.commands import export
from asr.detector import EVIDENCE, SpeechDetector
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.model_file import ModelFile
from asr.network import load as load_network
from asr.phones import Vocabulary
from asr.recognizer import Recognizer
from asr.scoring.reliability import Calibration
from asr.search import SearchConfig
from asr.search.decoders import HMMDecoder
from asr.search.ngram import estimate
from asr.transcriber import MODEL, STREAMING

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from asr.export import file  # noqa: E402
from asr.export.model import ExportedModel  # noqa: E402

PAGE = Path(__file__).parents[1] / "docs" / "export.md"
PARITY = 1e-4  # in log-probabilities

PACKAGED = {"deltas": 0, "energy": False, "normalization": "active", "dither_db": 45.0}
LIBROSA = {"family": "librosa", "energy": False}
# features, cell of the encoder, its subsampling, and whether it reads in both directions
CASES: dict[str, tuple[dict[str, Any], str, int, bool]] = {
    "packaged": (PACKAGED, "lstm", 3, True),
    "global, Δ": ({}, "gru", 1, True),
    "MFCC": ({"kind": "mfcc", "bins": 23}, "tanh", 2, True),
    "MFCC without energy": (
        {"kind": "mfcc", "bins": 23, "energy": False, "normalization": "utterance", "lifter": 0.0},
        *("peephole", 1, True),
    ),
    "to the edges": (
        {"snip_edges": False, "raw_energy": False, "energy_floor": 1.0, "context": 2}
        | {"normalization": "sliding", "cmn_window": 20, "deltas": 1, "delta_window": 3},
        *("lstm1997", 2, True),
    ),
    "plain": (
        {"window": "hamming", "remove_dc": False, "preemphasis": 0.0, "dither": 1.0, "deltas": 0}
        | {"normalization": "none"},
        *("projected", 3, False),
    ),
    "speaker": ({"normalization": "speaker", "hop_ms": 25.0, "high_hz": -400.0}, "lstm", 1, False),
    "odd sizes": (
        {"window": "blackman", "window_ms": 22.7, "hop_ms": 9.3, "sample_rate": 8_000, "bins": 20}
        | {"normalization": "active", "context": 1},
        *("ligru", 2, True),
    ),
    "running": (PACKAGED | {"normalization": "running"}, "lstm", 3, False),
    "running, Δ": ({"normalization": "running", "bins": 20}, "layernorm", 1, False),
    "librosa": (LIBROSA | {"low_hz": 0.0}, "layernorm", 2, True),
    "librosa, mirrored": (
        LIBROSA | {"pad_mode": "reflect", "mel_scale": "htk", "window_ms": 25.06, "deltas": 1},
        *("gru", 1, False),
    ),
    "librosa's MFCC": (LIBROSA | {"kind": "mfcc", "low_hz": 0.0}, "tanh", 1, False),
}


def network(
    features: dict[str, Any],
    cell: str = "lstm",
    subsampling: int = 1,
    bidirectional: bool = True,
    criterion: CriterionConfig | None = None,
    layers: int = 2,
) -> Recognizer:
    torch.manual_seed(0)
    encoder = EncoderConfig(
        cell=cell,
        hidden=8,
        layers=layers,
        projection=4 if cell == "projected" else 0,
        bidirectional=bidirectional,
        subsampling=subsampling,
    )
    config = RecognizerConfig(FeaturesConfig(**features), encoder, criterion or CTCConfig())
    recognizer = Recognizer(config, Vocabulary(["aa", "iy", "m", "s"])).eval()
    recognizer.features.mean.uniform_(5, 10)
    recognizer.features.std.uniform_(1, 3)
    return recognizer


def saved(recognizer: Recognizer, folder: Path, **parts: Any) -> ModelFile:
    """The checkpoint of a recogniser."""
    checkpoint.save(folder / "model.safetensors", Checkpoint(recognizer, **parts))
    return model_file.read(folder / "model.safetensors")


def session_of(original: ModelFile) -> Any:
    model = file.exported(original).SerializeToString()
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def expected(recognizer: Recognizer, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Log-probabilities of labels, each (its T', V)."""
    speakers = [f"speaker {n}" for n in range(len(waveforms))]
    batch = Batch.of([torch.from_numpy(one) for one in waveforms], speakers)
    with torch.no_grad():
        moments = recognizer.moments_of([batch])
        encoded, lengths = recognizer.encode_batch(batch, moments=moments)
        log_probs = recognizer.criterion.emissions(encoded).numpy()
    decoder = recognizer.criterion.decoder
    of_labels = decoder.label_posteriors if isinstance(decoder, HMMDecoder) else np.asarray
    pairs = zip(map(of_labels, log_probs), lengths.tolist(), strict=True)
    return [one[:length] for one, length in pairs]


def run(session: Any, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Log-probabilities, each (its T', V), with noise for padding."""
    longest = max(map(len, waveforms))
    batch = np.random.default_rng(1).standard_normal((len(waveforms), longest), np.float32)
    for row, one in zip(batch, waveforms, strict=True):
        row[: len(one)] = one
    inputs = {"waveforms": batch, "lengths": np.array([*map(len, waveforms)])}
    log_probs, frames = session.run(["log_probs", "frames"], inputs)
    assert log_probs.shape[1] == frames.max()
    return [one[:length] for one, length in zip(log_probs, frames, strict=True)]


def farthest(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    assert [one.shape for one in some] == [one.shape for one in others]
    return max(float(np.abs(a - b).max(initial=0)) for a, b in zip(some, others, strict=True))


def sounds(config: FeaturesConfig) -> list[np.ndarray]:
    """Of many lengths, from too short for a frame; silent, quiet, clipped, and with DC."""
    window, hop = config.window_samples, config.hop_samples
    rng = np.random.default_rng(0)
    sizes = 1, window - 1, window, window + 1, window + hop, 3 * window, config.sample_rate
    noise = rng.standard_normal(max(sizes))
    voice = tones_of(["aa", "s", "iy", "m"], config.sample_rate)
    voice = voice.astype(np.float64) + 0.01 * rng.standard_normal(len(voice))
    some = [0.1 * noise[:size] for size in sizes]
    some += [voice, 1e-4 * voice, (9 * voice).clip(-1, 1), voice + 0.3]
    if (config.kind, config.normalization) != ("mfcc", "utterance"):
        some.append(0 * voice)  # whose cepstra are divided by the deviation of their rounding
    some += [np.concatenate([0 * voice, voice])]
    least = config.frame_count(1) if config.normalization != "speaker" else 1
    return [one.astype(np.float32) for one in some if config.frame_count(len(one)) >= least]


@pytest.mark.parametrize("case", CASES)
def test_an_exported_network_is_the_network(case: str, tmp_path: Path) -> None:
    framewise = FramewiseConfig() if case in ("packaged", "MFCC") else None
    recognizer = network(*CASES[case], criterion=framewise)
    session = session_of(saved(recognizer, tmp_path))
    waveforms = sounds(recognizer.config.features)
    of_batch = run(session, waveforms)
    assert farthest(of_batch, expected(recognizer, waveforms)) <= PARITY
    alone = [run(session, [one])[0] for one in waveforms]
    assert farthest(alone, of_batch) <= 1e-5


@pytest.mark.parametrize("case", ["packaged", "global, Δ", "to the edges", "plain", "librosa"])
def test_given_moments_replace_those_of_an_utterance(case: str, tmp_path: Path) -> None:
    original = saved(network(*CASES[case]), tmp_path)
    inner, config = load_network(original), original.config.features
    path = tmp_path / "moments.onnx"
    export.run(original.path, path, moments=True)
    model = ExportedModel(path, threads=1)
    rng = np.random.default_rng(2)
    moments = rng.normal(8, 2, config.dynamic_width), rng.uniform(1, 3, config.dynamic_width)
    voice = tones_of(["aa", "s", "iy", "m"], config.sample_rate)
    static = inner.frames.static(voice)
    for given in (moments, None):
        own = inner.emissions(static, given)
        assert farthest([model.log_probs(voice, given)], [own]) <= PARITY
    assert np.abs(model.log_probs(voice, moments) - model.log_probs(voice)).max() > 0.01
    of_training = [model.header["moments"][key] for key in ("mean", "std")]
    np.testing.assert_array_equal(of_training, inner.frames.training)
    several = rng.normal(8, 2, (2, 2, config.dynamic_width)).astype(np.float32)
    inputs = {"waveforms": np.stack([voice] * 2), "lengths": np.array([len(voice)] * 2)}
    (both,) = model.session.run(["log_probs"], inputs | {"moments": several})
    assert farthest(both, [model.log_probs(voice, tuple(one)) for one in several]) <= 1e-5


def test_stacked_frames_alone_are_exported(tmp_path: Path) -> None:
    recognizer = network(PACKAGED, layers=0, subsampling=2)
    session = session_of(saved(recognizer, tmp_path))
    waveforms = sounds(recognizer.config.features)
    assert farthest(run(session, waveforms), expected(recognizer, waveforms)) <= PARITY


@pytest.mark.parametrize(
    ("criterion", "cell", "int8", "named"),
    [
        (TransducerConfig(), "lstm", False, "criterion.name is transducer"),
        (GMMConfig(), "lstm", False, "criterion.name is gmm"),
        (CTCConfig(), "gru", True, "encoder.cell is gru"),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_name(
    criterion: CriterionConfig, cell: str, int8: bool, named: str, tmp_path: Path
) -> None:
    recognizer = network(PACKAGED, cell, criterion=criterion)
    with pytest.raises(DataError, match=named):
        file.exported(saved(recognizer, tmp_path), int8=int8)


@pytest.mark.parametrize("cell", file.IN_INT8)
def test_int8_changes_little(cell: str, tmp_path: Path) -> None:
    original = saved(network({}, cell), tmp_path)
    model = file.exported(original, int8=True)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("DynamicQuantizeLSTM") == 4
    assert "LSTM" not in kinds
    assert 1e-6 < file.difference(model.SerializeToString(), original) < 0.05


def test_the_file_has_what_the_checkpoint_has(tmp_path: Path) -> None:
    recognizer = network(PACKAGED, subsampling=3)
    phones = recognizer.vocabulary.phones
    original = saved(
        recognizer,
        tmp_path,
        about={"corpus": "tones", "epoch": 3},
        search=SearchConfig(beam=20, bonus=0.5),
        language_model=estimate([phones, phones[:2], phones[1:]], 3, phones),
        detector=SpeechDetector([0.1] * EVIDENCE, 1.0),
        calibration=Calibration((0.2, 0.9), (0.3, 0.8)),
    )
    export.run(original.path, tmp_path / "tones.onnx")
    model = ExportedModel(tmp_path / "tones.onnx", threads=1)
    assert tuple(model.phones) == tuple(phones)
    config, header = original.config, original.header
    assert [model.header[f"{key}_s"] for key in ("first", "step")] == [config.time_s(0), 0.03]
    assert model.header["recognizer"]["features"] == vars(config.features)
    assert model.header["about"] == header.about
    for part in ("search", "detector", "calibration"):
        assert model.header[part] == json.loads(json.dumps(vars(getattr(header, part))))
    ngram, expected_ngram = model.language_model, original.language_model()
    assert ngram is not None
    assert ngram.symbols == expected_ngram.symbols
    np.testing.assert_array_equal(ngram.log10_prob, expected_ngram.log10_prob)
    waveform = tones_of(["aa", "s"])
    inputs = {"waveforms": waveform[None], "lengths": np.array([len(waveform)])}
    (static,) = model.session.run(["static"], inputs)
    with torch.no_grad():
        ours, _ = recognizer.features.static(*(torch.from_numpy(one) for one in inputs.values()))
    assert np.abs(static - ours.numpy()).max() < 1e-3


@pytest.mark.parametrize("packaged", [MODEL, STREAMING], ids=["phones", "streaming"])
def test_real_speech_has_the_same_log_probabilities(
    packaged: Path, shared: Path, tmp_path: Path
) -> None:
    if not packaged.exists():
        pytest.skip("no model is in the package")
    path = tmp_path / "phones.onnx"
    said = export.run(None if packaged == MODEL else packaged, path)
    assert said.startswith(f"{path}: ")
    recordings = sorted((shared / "corpora/timit-sample").rglob("*.wav"))[::30][:5]
    waveforms = [soundfile.read(path, dtype="float32")[0] for path in recordings]
    waveforms.append(np.concatenate([*waveforms, *waveforms[::-1]])[: 60 * 16_000])
    recognizer = checkpoint.load(packaged, language_model=False).recognizer
    model = ExportedModel(path)
    alone = [model.log_probs(one) for one in waveforms]
    ours = [expected(recognizer, [one])[0] for one in waveforms]
    assert farthest(alone, ours) <= PARITY
    assert farthest(run(model.session, waveforms), alone) <= 1e-5


def test_the_example_of_the_page_runs_with_onnxruntime_alone(tmp_path: Path) -> None:
    recognizer = network({}, subsampling=3)
    phones = recognizer.vocabulary.phones
    original = saved(recognizer, tmp_path, language_model=estimate([phones, phones], 2, phones))
    export.run(original.path, tmp_path / "phones.onnx")
    soundfile.write(tmp_path / "my.wav", tones_of(["aa", "iy", "s", "m"] * 4), 16_000)
    text = PAGE.read_text(encoding="utf-8")
    section = text.partition("## Using the file")[2].partition("\n## ")[0]
    code = "\n".join(re.findall(r"^    (.*)$", section, re.MULTILINE))
    alone, _, here = code.partition("from asr.")
    alone += "import sys\nassert not {'torch', 'asr'} & set(sys.modules)\n"
    here = f"from asr.{here}\nassert 'torch' not in sys.modules\nassert ngram.order > 1\n"
    ran = subprocess.run(
        [sys.executable, "-c", alone + here], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    waveform = soundfile.read(tmp_path / "my.wav", dtype="float32")[0]
    labels = expected(recognizer, [waveform])[0].argmax(axis=1)
    begin = labels[np.diff(labels, prepend=0) != 0]
    said = [phones[label - 1] for label in begin if label]
    assert [line.split()[1] for line in ran.stdout.splitlines()] == said
    assert said


def test_nothing_is_replaced_and_nothing_is_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(network(PACKAGED), tmp_path).path
    path = tmp_path / "tones.onnx"
    path.write_text("mine")
    with pytest.raises(DataError, match="already exists"):
        export.run(source, path)
    assert path.read_text() == "mine"
    export.run(source, path, overwrite=True)
    assert tuple(ExportedModel(path).phones) == ("aa", "iy", "m", "s")
    with pytest.raises(DataError, match="that ends in"):
        export.run(source, tmp_path / "tones.bin")
    with pytest.raises(DataError, match="no such checkpoint"):
        export.run(tmp_path / "absent.safetensors", tmp_path / "new.onnx")

    def fail(*_: object) -> float:
        raise OSError("the disk is full")

    monkeypatch.setattr(file, "difference", fail)
    with pytest.raises(OSError, match="full"):
        export.run(source, tmp_path / "new.onnx")
    assert sorted(tmp_path.iterdir()) == [source, path]


def test_without_the_extra_a_sentence_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(network(PACKAGED), tmp_path).path
    for name in ("asr.export.file", "asr.export.graph", "asr.export.network", "asr.export.model"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr("asr.export.file", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(DataError, match=r"onnx.* pip install 'asr-phones\[export\]'"):
        export.run(source, tmp_path / "tones.onnx")


def test_other_files_are_named(tmp_path: Path) -> None:
    source = saved(network(PACKAGED), tmp_path).path
    path = tmp_path / "tones.onnx"
    with pytest.raises(DataError, match="no such file"):
        ExportedModel(path)
    with pytest.raises(DataError, match="is a checkpoint, expected an ONNX file"):
        ExportedModel(source)
    export.run(source, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match="damaged"):
        ExportedModel(path)
    model = file.exported(model_file.read(source))
    del model.metadata_props[:]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match="export the model again"):
        ExportedModel(path)
