"""The memory of a step is known before it is made; what is free goes back; no batch is too large.

`recipes/bench/memory.py` measures peaks beside `step_bytes`: here only what the backward pass keeps
is counted, which does not depend on the allocator.
"""

import logging
import resource
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from asr.architecture import EncoderConfig, RecognizerConfig
from asr.criteria.ctc import CTCConfig
from asr.criteria.framewise import FramewiseConfig
from asr.criteria.transducer import TransducerConfig
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.lstm.cell import TorchCell
from asr.lstm.cells import CELLS
from asr.lstm.layer import RecurrentLayer
from asr.phones import Vocabulary
from asr.processor import memory
from asr.recognizer import Recognizer
from asr.training import initialization
from asr.training import memory as of_training
from asr.training.memory import Shape, layer_values, require_room, step_bytes

COUNT, FRAMES, HIDDEN = 16, 60, 128


def recognizer(criterion: Any = None, **encoder: Any) -> Recognizer:
    torch.manual_seed(0)
    config = RecognizerConfig(
        FeaturesConfig(normalization="none"),
        EncoderConfig(**{"hidden": 16, "layers": 1, **encoder}),
        criterion or CTCConfig(),
    )
    return Recognizer(config, Vocabulary(["a", "b", "c"])).eval()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_layer_keeps_for_its_gradient_what_the_formula_counts(
    cell: str, bidirectional: bool
) -> None:
    projection = HIDDEN // 2 if cell == "projected" else 0
    layer = RecurrentLayer(cell, 2 * HIDDEN, HIDDEN, bidirectional, projection)
    weights = {one.untyped_storage().data_ptr() for one in layer.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    frames = torch.randn(COUNT, FRAMES, 2 * HIDDEN, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = layer(frames, torch.full((COUNT,), FRAMES))
    del output
    counted = 4 * COUNT * FRAMES * layer_values(layer)
    assert sum(kept.values()) == pytest.approx(counted, rel=0.15)


@pytest.mark.parametrize(
    "criterion", [CTCConfig(), FramewiseConfig(), TransducerConfig(lattice=10**9)]
)
def test_the_memory_of_a_step_grows_with_its_frames(criterion: Any) -> None:
    model = recognizer(criterion)
    few, more, most = (step_bytes(model, Shape(count, 5.0, 50)) for count in (8, 16, 24))
    assert most - more == pytest.approx(more - few, rel=0.01)
    assert step_bytes(model, Shape(8, 10.0, 50)) - few > 0.99 * (more - few)


def test_a_batch_that_memory_cannot_hold_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = recognizer()
    utterances = [SimpleNamespace(id=f"u{n}", phones=("a",) * 9) for n in range(5)]
    durations = [3.0, 3.0, 600.0, 3.0, 3.0]
    batches: Any = SimpleNamespace(
        bucket_sampler=SimpleNamespace(durations=durations, plan=lambda: [[0, 1], [3, 4, 2]]),
        speech=SimpleNamespace(utterances=utterances, copies=2),
    )
    needed = step_bytes(model, Shape(6, 600.0, 9))
    caplog.set_level(logging.INFO)
    for share, problem in ((2.0, ""), (1.0, "u2: its batch is the longest")):
        caplog.clear()
        monkeypatch.setattr(memory, "available", lambda share=share: int(share * needed))
        most = require_room(model, batches)
        warned = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
        assert "".join(warned).startswith(problem)
        assert bool(warned) == bool(problem)
        assert f"longest batch: 6 × 600.0 s, about {needed / 1e9:.1f} GB" in caplog.text
        assert most == 0 or most > needed
    monkeypatch.setattr(memory, "available", lambda: needed // 2)
    with pytest.raises(DataError, match=r"u2: .* 6 × 600\.0 s, .* lower training\.batch_frames"):
        require_room(model, batches)
    monkeypatch.setattr(of_training.ranks, "local_count", lambda: 4)
    monkeypatch.setattr(memory, "available", lambda: 2 * needed)
    with pytest.raises(DataError, match="u2"):
        require_room(model, batches)


def test_the_least_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    if memory.resident() == 0:
        pytest.skip("no /proc")
    free = memory.available()
    assert free is not None
    assert free > 0
    taken = memory._word(memory.Path("/proc/self/statm"), 0) * memory.PAGE
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 28), before[1]))
    try:
        limited = memory.available()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert limited is not None
    assert limited <= 1 << 28
    monkeypatch.setattr(memory, "_limits", lambda: iter([(1000, 400), (900, 850)]))
    assert memory.available() == 50


def test_free_pages_of_the_heap_go_back_above_a_limit_only() -> None:
    if memory.resident() == 0 or memory._malloc_trim() is None:
        pytest.skip("not Linux with glibc")
    buffers = [torch.ones(25_000) for _ in range(1000)]  # 100 MB, each less than mmap takes
    del buffers[:-1]
    full = memory.resident()
    memory.trim_above(0)
    memory.trim_above(full + (1 << 30))
    assert memory.resident() > full - 5e6
    memory.trim_above(full - (1 << 20))
    assert memory.resident() < full - 50e6


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("cell", [name for name in CELLS if issubclass(CELLS[name], TorchCell)])
def test_torchs_cells_have_16_bits_inside_of_autocast_and_results_of_32(cell: str) -> None:
    projection = 8 if cell == "projected" else 0
    layer = RecurrentLayer(cell, 12, 16, False, projection)
    (own,) = layer.cells
    assert isinstance(own, TorchCell)
    frames = torch.randn(3, 7, 12, requires_grad=True)
    exact = own.fused(frames)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = own.fused(frames)
    assert reduced.dtype == torch.float32
    assert not torch.equal(reduced, exact)
    torch.testing.assert_close(reduced, exact, atol=0.03, rtol=0)
    reduced.sum().backward()
    assert frames.grad is not None
    assert frames.grad.dtype == torch.float32


def test_a_gpu_has_bfloat16_where_it_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    for able in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda able=able, **_: able)
        assert initialization.multiplies(gpu, torch.bfloat16) == able
        assert initialization.multiplies(gpu, torch.float32)
    assert not initialization.multiplies(torch.device("mps"), torch.bfloat16)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    assert "TF32 for float32 is off in cuDNN" in initialization.said_of_products("float32")
