"""A trained recogniser in numpy is the recogniser of torch, for every cell and criterion."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

import asr
from asr import checkpoint, model_file, network
from asr.architecture import (
    BLOCKS,
    CRITERIA,
    CriterionConfig,
    CTCConfig,
    EncoderConfig,
    FramewiseConfig,
    GMMConfig,
    RecognizerConfig,
    TransducerConfig,
)
from asr.batch import Batch
from asr.by_torch import TorchNetwork
from asr.checkpoint import Checkpoint
from asr.criteria import CTC, GMM
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.features.frames import Frames
from asr.features.moments import around, of_frames, of_loud
from asr.features.normalization import around as around_in_batches
from asr.features.normalization import of_loud as of_loud_in_batches
from asr.lstm.cells import CELLS
from asr.network import CompiledNetwork
from asr.phones import Vocabulary
from asr.recognizer import Recognizer
from asr.search import SearchConfig, paths
from asr.transcriber import load_model

RATE = 16_000
SPEECH = 0.1 * np.random.default_rng(0).standard_normal(9_000).astype(np.float32)
SAMPLES = (400, 700, 1_337, 9_000)


def recognizer_of(
    encoder: EncoderConfig, criterion: CriterionConfig | None = None, **features: object
) -> Recognizer:
    torch.manual_seed(1)
    config = FeaturesConfig(**{"bins": 20, "deltas": 0} | features)  # type: ignore[arg-type]
    parts = RecognizerConfig(config, encoder, criterion or CTCConfig())
    recognizer = Recognizer(parts, Vocabulary(["aa", "iy", "m", "s"])).eval()
    for tensor in (recognizer.features.mean, recognizer.features.std):
        tensor.uniform_(0.5, 1.5)
    if isinstance(recognizer.criterion, GMM):
        recognizer.criterion.means.normal_()
        recognizer.criterion.occupancy.uniform_(1, 9)
    return recognizer


def compiled(recognizer: Recognizer, folder: Path) -> CompiledNetwork:
    checkpoint.save(folder / "model.safetensors", Checkpoint(recognizer))
    return network.load(model_file.read(folder / "model.safetensors"))


def require_equal(recognizer: Recognizer, folder: Path) -> None:
    """Of whole batches by torch, of one utterance by torch, and compiled: the same emissions."""
    ours, by_torch = compiled(recognizer, folder), TorchNetwork(recognizer)
    waveforms = [SPEECH[:samples] for samples in SAMPLES]
    batch = Batch.of([torch.from_numpy(one) for one in waveforms], ["x"] * len(waveforms))
    with torch.no_grad():
        moments = None
        if recognizer.config.features.normalization != "speaker":
            encoded, lengths = recognizer.encode_batch(batch)
            moments = recognizer.criterion.emissions(encoded)
    for n, waveform in enumerate(waveforms):
        static = ours.frames.static(waveform)
        emissions = ours.emissions(static)
        np.testing.assert_allclose(emissions, by_torch.emissions(static), atol=1e-5, rtol=1e-5)
        if moments is not None:
            expected = moments[n, : int(lengths[n])].numpy()
            np.testing.assert_allclose(emissions, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell(cell: str, bidirectional: bool, tmp_path: Path) -> None:
    projection = 5 if cell == "projected" else 0
    encoder = EncoderConfig(cell, 11, 2, bidirectional, projection, subsampling=3)
    require_equal(recognizer_of(encoder), tmp_path)


@pytest.mark.parametrize("cell", CELLS)
def test_gates_of_every_cell_are_those_of_its_unrolled_steps(cell: str, tmp_path: Path) -> None:
    encoder = EncoderConfig(cell, 11, 2, True, 5 if cell == "projected" else 0, subsampling=3)
    recognizer = recognizer_of(encoder)
    ours = compiled(recognizer, tmp_path)
    static = ours.frames.static(SPEECH)
    normalised = torch.from_numpy(ours.frames.normalised(static))[None]
    with torch.no_grad():
        traces, _ = recognizer.encoder.trace(normalised, torch.tensor([len(static)]))
    for layer, directions in enumerate(traces):
        for direction, trace in enumerate(directions):
            expected = {name: gate[0] for name, gate in trace.gates.items() if name != "candidate"}
            for one in (ours, TorchNetwork(recognizer)):
                gates = one.gates(static, None, layer, direction)
                assert set(gates) == set(expected)
                for name, gate in gates.items():
                    np.testing.assert_allclose(gate, expected[name], atol=1e-5)


@pytest.mark.parametrize(
    "criterion", [CTCConfig(), FramewiseConfig(states=2), GMMConfig(states=2, mixtures=3)]
)
@pytest.mark.parametrize("layers", [0, 1])
def test_every_criterion(criterion: CriterionConfig, layers: int, tmp_path: Path) -> None:
    require_equal(recognizer_of(EncoderConfig(hidden=8, layers=layers), criterion), tmp_path)


@pytest.mark.parametrize(
    "features",
    [
        *({"normalization": name} for name in ("global", "speaker", "utterance", "sliding")),
        {"normalization": "active", "energy": False},
        {"normalization": "none", "deltas": 2, "context": 2},
        {"kind": "mfcc", "deltas": 1},
        {"snip_edges": False, "dither_db": 30.0},
        {"family": "librosa", "energy": False, "pad_mode": "reflect"},
    ],
    ids=str,
)
def test_every_kind_of_features(features: dict[str, object], tmp_path: Path) -> None:
    require_equal(recognizer_of(EncoderConfig(hidden=8, layers=1), **features), tmp_path)


def test_the_tables_are_those_of_torch(tmp_path: Path) -> None:
    assert {name: cell.blocks for name, cell in CELLS.items()} == BLOCKS
    for cell in CELLS:
        for name, criterion in CRITERIA.items():
            encoder = EncoderConfig(cell, 6, 2, projection=3 if cell == "projected" else 0)
            config = recognizer_of(encoder, criterion(name)).config
            if network.runs(config):
                assert network.shapes(config, 5) == checkpoint._shapes(config, 5)


def test_a_wrong_tensor_is_named_without_torch_too(tmp_path: Path) -> None:
    recognizer = recognizer_of(EncoderConfig(hidden=8, layers=1))
    criterion = recognizer.criterion
    assert isinstance(criterion, CTC)
    criterion.head = torch.nn.Linear(16, 6)
    with pytest.raises(DataError, match=r"criterion\.head\.bias is \(6,\).*expected \(5,\)"):
        compiled(recognizer, tmp_path)


def test_a_transducer_needs_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer = recognizer_of(EncoderConfig(hidden=8, layers=1), TransducerConfig(hidden=4))
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, Checkpoint(recognizer))
    assert isinstance(load_model(path).network, TorchNetwork)
    monkeypatch.delattr(asr, "by_torch")
    monkeypatch.setitem(sys.modules, "asr.by_torch", None)
    with pytest.raises(DataError, match=r"is transducer, which needs torch.*\[train\]"):
        load_model(path)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize(("low", "high"), [(0.0, 8000.0), (300.0, 900.0), (1500.0, 3400.0)])
def test_mel_filters_are_librosas(scale: str, low: float, high: float) -> None:
    limits = {"low_hz": low, "high_hz": high, "mel_scale": scale}
    config = FeaturesConfig(family="librosa", energy=False, bins=12, **limits)  # type: ignore[arg-type]
    edges = {"fmin": low, "fmax": high, "htk": scale == "htk"}
    expected = librosa.filters.mel(sr=RATE, n_fft=400, n_mels=12, **edges)
    np.testing.assert_allclose(Frames(config).bank.T, expected, atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_moments_are_those_of_batches(seed: int) -> None:
    draw = np.random.default_rng(seed)
    frames = draw.standard_normal((200, 8)).astype(np.float32) * draw.uniform(1, 9, (200, 1))
    frames = frames.astype(np.float32)
    config = FeaturesConfig(bins=8, deltas=0, energy=False, normalization="active")
    prior = draw.standard_normal(8), draw.uniform(1, 2, 8)
    as_torch = torch.from_numpy(frames)[None]
    within = draw.random(200) < 0.7
    ours = of_loud(frames, within, config, prior)
    theirs = of_loud_in_batches(
        as_torch, torch.from_numpy(within)[None], config, tuple(map(torch.from_numpy, prior))
    )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other[0, 0].numpy(), rtol=1e-5)
    theirs = around_in_batches(as_torch, torch.tensor([200]), 30)
    for one, other in zip(around(frames, 30), theirs, strict=True):
        np.testing.assert_allclose(one, other[0].numpy(), rtol=1e-5, atol=1e-7)
    mean, std = of_frames(frames, within)
    np.testing.assert_allclose(mean, frames[within].mean(axis=0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(std, frames[within].std(axis=0), rtol=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_alignment_is_torchaudios(seed: int) -> None:
    from torchaudio.functional import forced_align

    draw = np.random.default_rng(seed)
    labels = draw.integers(1, 4, size=draw.integers(1, 7))
    frames = len(labels) + int((labels[1:] == labels[:-1]).sum()) + int(draw.integers(0, 12))
    log_probs = torch.from_numpy(draw.standard_normal((1, frames, 4)) * 3).float().log_softmax(2)
    expected, along = forced_align(log_probs, torch.from_numpy(labels)[None], blank=0)
    alignment, own = paths.align(log_probs[0].numpy(), labels)
    assert alignment.tolist() == expected[0].tolist()
    np.testing.assert_allclose(own, along[0].numpy())


def test_a_trained_model_finds_the_same_phones(tone_model: Path) -> None:
    loaded = checkpoint.load(tone_model)
    ours = load_model(tone_model)
    frames = ours.network.frames.static(SPEECH)
    search = replace(ours.search, beam=5) if ours.search.beam == 1 else ours.search
    both = [
        one.decoder.search(one.emissions(frames), search)[0].labels
        for one in (ours.network, TorchNetwork(loaded.recognizer))
    ]
    assert both[0] == both[1]
    assert search != SearchConfig()


def test_sound_weights_are_kept_and_a_file_that_changes_is_read_again(
    tone_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASR_CACHE", str(tmp_path / "kept"))
    path = tmp_path / "model.safetensors"
    shutil.copy(tone_model, path)
    frames = load_model(path).network.frames.static(SPEECH)
    emissions = load_model(path).network.emissions(frames)
    expected = network.load(model_file.read(tone_model)).emissions(frames)
    np.testing.assert_array_equal(emissions, expected)
    reads: list[Path] = []
    read = model_file.read
    monkeypatch.setattr(model_file, "read", lambda one: (reads.append(one), read(one))[1])
    load_model(path)
    assert not reads
    other = checkpoint.load(path)
    bias = other.recognizer.criterion.head.bias
    with torch.no_grad():
        bias.add_(torch.arange(len(bias)))
    checkpoint.save(path, other)
    assert not np.allclose(load_model(path).network.emissions(frames), expected)
    assert {*reads} == {path}
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="its content does not match its checksum"):
        load_model(path)


def test_a_model_is_used_where_torch_is_not(tone_model: Path, tmp_path: Path) -> None:
    """In a process that cannot import what the extra `train` installs."""
    code = f"""
import sys
for name in ("torch", "torchaudio", "librosa", "hydra", "matplotlib", "scipy.signal"):
    sys.modules[name] = None
import numpy as np, asr
from asr.__main__ import main
sound = 0.1 * np.random.default_rng(0).standard_normal(16_000)
print(len(asr.load({str(tone_model)!r}).transcribe(sound, 16_000).phones) >= 0)
sys.argv = ["asr", "train"]
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
    assert done.returncode == 1
    assert "asr train needs" in done.stderr
    assert "pip install 'asr-phones[train]'" in done.stderr
    assert "Traceback" not in done.stderr
