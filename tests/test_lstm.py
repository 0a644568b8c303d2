"""Laws of the recurrent cells: fast equals readable, both equal torch, padding changes nothing."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from asr.architecture import EncoderConfig
from asr.batch import length_mask
from asr.criteria import CTC, CTCConfig
from asr.encoder import Encoder
from asr.lstm.cell import Cell, State, TorchCell
from asr.lstm.cells import CELLS, LSTM
from asr.lstm.fast import forms, products
from asr.lstm.fast.products import linear, onednn_multiplies, outer, packed
from asr.lstm.layer import RecurrentLayer, RecurrentStack

INPUT, HIDDEN = 5, 6
RAGGED = torch.tensor([9, 0, 4, 9, 1])
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}

each_cell = pytest.mark.parametrize("cell", CELLS)
each_direction = pytest.mark.parametrize("bidirectional", [False, True])


@pytest.fixture(autouse=True)
def own_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """The form for large networks, though those of these tests are small."""
    monkeypatch.setattr(forms, "SMALL", 0)


def stack(cell: str, bidirectional: bool, layers: int = 2, dropout: float = 0.0) -> RecurrentStack:
    """A small stack with random gains and shifts too, so that no gradient is left untested."""
    torch.manual_seed(1)
    projection = HIDDEN // 2 if cell == "projected" else 0
    made = RecurrentStack(cell, INPUT, HIDDEN, layers, bidirectional, dropout, projection)
    for parameter in made.parameters():
        nn.init.uniform_(parameter, -0.6, 0.6)
    return made


def layer(cell: str, bidirectional: bool) -> RecurrentLayer:
    (only,) = stack(cell, bidirectional, layers=1).layers
    assert isinstance(only, RecurrentLayer)
    return only


def readable(recurrent: RecurrentStack, frames: Tensor, lengths: Tensor) -> Tensor:
    return torch.cat([trace.hidden for trace in recurrent.trace(frames, lengths)[-1]], 2)


def outcome(module: nn.Module, run: Callable[[Tensor], Tensor], frames: Tensor) -> list[Tensor]:
    """The output, and its gradients (weighted at random) by the frames and by all parameters."""
    frames = frames.clone().requires_grad_()
    result = run(frames)
    torch.manual_seed(2)
    return [
        result.detach(),
        *torch.autograd.grad(
            result, [frames, *module.parameters()], torch.randn(result.shape).to(result)
        ),
    ]


def assert_near(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Within a tolerance that refers to the largest element of each tensor, or to 1."""
    for ours, theirs in zip(found, expected, strict=True):
        scale = max(1.0, float(theirs.detach().abs().max()))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * scale)


# ── fast and readable ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("lengths", [RAGGED, torch.full((5,), 9)], ids=["ragged", "equal"])
@each_direction
@each_cell
def test_the_fast_form_equals_the_readable_one(
    cell: str, bidirectional: bool, lengths: Tensor, dtype: torch.dtype
) -> None:
    recurrent = stack(cell, bidirectional).to(dtype)
    frames = torch.randn(5, 9, INPUT, dtype=dtype)
    fast = outcome(recurrent, lambda frames: recurrent(frames, lengths), frames)
    slow = outcome(recurrent, lambda frames: readable(recurrent, frames, lengths), frames)
    assert_near(fast, slow, TOLERANCE[dtype])


@each_direction
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_small_lstm_is_torchs(
    dtype: torch.dtype, bidirectional: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []

    def counted(cell: LSTM, frames: Tensor) -> Tensor:
        called.append(cell)
        return fused(cell, frames)

    fused = LSTM.fused
    monkeypatch.setattr(LSTM, "fused", counted)
    recurrent, frames = stack("lstm", bidirectional).to(dtype), torch.randn(5, 9, INPUT).to(dtype)
    large = outcome(recurrent, lambda frames: recurrent(frames, RAGGED), frames)
    assert not called
    monkeypatch.setattr(forms, "SMALL", len(frames) * HIDDEN + 1)
    small = outcome(recurrent, lambda frames: recurrent(frames, RAGGED), frames)
    assert len(called) == 2 * (1 + bidirectional)
    assert_near(small, large, TOLERANCE[dtype])
    with torch.no_grad():  # torch is faster here, whatever the size
        monkeypatch.setattr(forms, "SMALL", 0)
        assert_near([recurrent(frames, RAGGED)], large[:1], TOLERANCE[dtype])
    assert len(called) == 4 * (1 + bidirectional)


@each_direction
@each_cell
def test_gradients_are_those_of_finite_differences(cell: str, bidirectional: bool) -> None:
    recurrent = layer(cell, bidirectional).double()
    names, weights = zip(*recurrent.named_parameters(), strict=True)

    def run(frames: Tensor, *weights: Tensor) -> Tensor:
        given = dict(zip(names, weights, strict=True))
        result: Tensor = torch.func.functional_call(
            recurrent, given, (frames, torch.tensor([3, 2]))
        )
        return result

    frames = torch.randn(2, 3, INPUT, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (frames, *weights), fast_mode=True)


@each_cell
def test_other_types_take_the_readable_form(cell: str) -> None:
    recurrent, frames = stack(cell, True), torch.randn(5, 9, INPUT)
    expected = recurrent(frames, RAGGED)
    result = recurrent.bfloat16()(frames.bfloat16(), RAGGED)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), expected, rtol=0, atol=0.1)


class MGU(Cell):
    """The minimal gated unit (Zhou et al. 2016), which has no compiled form."""

    blocks = ("forget", "candidate")
    has_cell_state = False

    def step(self, frame: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        f, g = self.inputs(frame).chunk(2, dim=1)
        u_f, u_g = self.recurrent(state.hidden).chunk(2, dim=1)
        f = (f + u_f).sigmoid()
        g = (g + f * u_g).tanh()
        return State((1 - f) * state.hidden + f * g), {"forget": f, "candidate": g}


class Coupled(LSTM):
    """An LSTM that writes as much as it forgets."""

    def step(self, frame: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        _, f, g, o = (self.inputs(frame) + self.recurrent(state.hidden)).chunk(4, dim=1)
        cell = f.sigmoid() * state.cell + (1 - f.sigmoid()) * g.tanh()
        return State(o.sigmoid() * cell.tanh(), cell), {"forget": f.sigmoid()}


@each_direction
@pytest.mark.parametrize(
    ("device", "dtype"),
    [*(("cpu", dtype) for dtype in (*TOLERANCE, torch.bfloat16)), ("meta", torch.float64)],
)
@pytest.mark.parametrize("cell", [MGU, Coupled])
def test_the_equations_of_a_step_are_enough_for_a_cell(
    cell: type[Cell],
    device: str,
    dtype: torch.dtype,
    bidirectional: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(CELLS, "own", cell)
    recurrent, lengths = stack("own", bidirectional).to(device, dtype), RAGGED.to(device)
    frames = torch.randn(5, 9, INPUT, dtype=dtype, device=device)
    result = outcome(recurrent, lambda frames: recurrent(frames, lengths), frames)
    expected = outcome(recurrent, lambda frames: readable(recurrent, frames, lengths), frames)
    for one, other in zip(result, expected, strict=True):
        assert one.shape == other.shape
        assert device == "meta" or torch.equal(one, other)


@each_cell
def test_the_number_of_threads_changes_nothing(cell: str) -> None:
    recurrent, frames = stack(cell, True), torch.randn(5, 9, INPUT)
    before = torch.get_num_threads()
    result = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            result.append(outcome(recurrent, lambda frames: recurrent(frames, RAGGED), frames))
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(torch.get_num_threads).result() == threads
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert_near(result[1], result[0], 1e-6)
    assert_near(result[2], result[0], 1e-6)


# ── products ─────────────────────────────────────────────────────────────────────────────────

each_way = pytest.mark.parametrize("way", ["oneDNN", "torch"], indirect=True)


@pytest.fixture
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of bfloat16 by oneDNN's operators, where there are any, or torch's public way."""
    if request.param == "torch":
        monkeypatch.setattr(products, "onednn_multiplies", lambda dtype: False)
    elif not onednn_multiplies(torch.bfloat16):
        pytest.skip("this processor has no bfloat16")


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("gaps", ["none", "x", "weight", "bias"])
@pytest.mark.parametrize("way", ["oneDNN", "torch"])
def test_a_product_is_that_of_its_factors_by_either_way(
    way: str, gaps: str, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtype = {16: torch.bfloat16, 32: torch.float32}[bits]
    if way == "torch":
        monkeypatch.setattr(products, "onednn_multiplies", lambda dtype: False)
    elif not onednn_multiplies(dtype):
        pytest.skip(f"oneDNN has no products of {bits} bits on this processor")
    factors = {"x": torch.randn(7, 30), "weight": torch.randn(11, 30), "bias": torch.randn(11)}
    x, weight, bias = (
        torch.stack([f, f], -1)[..., 0] if name == gaps else f
        for name, f in ((name, factor.to(dtype)) for name, factor in factors.items())
    )
    exact = x.double() @ weight.double().t()
    tolerance = {"rtol": 2.0 ** (-8 if bits == 16 else -20), "atol": 1e-5}
    for ordered in (weight, packed(weight, 7)):
        torch.testing.assert_close(linear(x, ordered), exact.to(dtype), **tolerance)
        result = linear(x, ordered, bias).double()
        torch.testing.assert_close(result, exact + bias.double(), rtol=2**-7, atol=2**-5)
    torch.testing.assert_close(outer(x.t(), weight.t()), exact.to(dtype), **tolerance)


@each_way
def test_a_product_with_a_weight_of_16_bits_is_that_of_the_rounded_factors(way: None) -> None:
    x, weight, bias = torch.randn(7, 30), torch.randn(11, 30).bfloat16(), torch.randn(11)
    exact = x.bfloat16().double() @ weight.double().t()
    result = linear(x, weight, bias)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result - bias, exact.float(), rtol=2**-8, atol=1e-5)
    torch.testing.assert_close(linear(x, packed(weight, 7), bias), result, rtol=0, atol=0)


@each_way
@each_direction
@each_cell
def test_in_autocast_everything_but_the_products_has_32_bits(
    cell: str, bidirectional: bool, way: None
) -> None:
    recurrent, frames = stack(cell, bidirectional), torch.randn(5, 9, INPUT)

    def reduced(frames: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return recurrent(frames, RAGGED)

    exact = outcome(recurrent, lambda frames: recurrent(frames, RAGGED), frames)
    result = outcome(recurrent, reduced, frames)
    for ours, theirs in zip(result, exact, strict=True):
        assert ours.dtype == torch.float32
        assert not torch.equal(ours, theirs)
        # Normalisation makes much of little, where the cells are nearly alike.
        tolerance = 0.3 if cell in ("layernorm", "ligru") else 0.05
        assert float((ours - theirs).norm() / theirs.norm()) < tolerance
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the directions one after the other, in this thread
    try:
        assert_near(outcome(recurrent, reduced, frames), result, 1e-6)
    finally:
        torch.set_num_threads(threads)


@each_way
def test_an_encoder_takes_16_bits_in_training_only(way: None) -> None:
    encoder = Encoder(EncoderConfig(hidden=HIDDEN, layers=2), INPUT)
    frames = torch.randn(5, 9, INPUT)
    exact, _ = encoder(frames, RAGGED)
    encoder.product_dtype = torch.bfloat16
    reduced, _ = encoder(frames, RAGGED)
    assert reduced.dtype == torch.float32
    assert not torch.equal(reduced, exact)
    result, _ = encoder.eval()(frames, RAGGED)
    assert torch.equal(result, exact)


def test_operators_that_are_absent_refuse_or_miscompute_are_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    anew = onednn_multiplies.__wrapped__
    with torch.autocast("cpu", torch.bfloat16):
        assert anew(torch.float32) == onednn_multiplies(torch.float32)
    for outcome in (AttributeError, RuntimeError, torch.zeros(2, 2)):
        called = Mock(side_effect=outcome if isinstance(outcome, type) else None)
        called.return_value = outcome
        monkeypatch.setattr(products, "_by_onednn", called)
        assert not anew(torch.float32)
        assert called.called


@pytest.mark.skipif(platform.machine() != "x86_64", reason="instruction sets of x86-64")
@pytest.mark.parametrize("isa", ["SSE41", "AVX2"])
def test_without_avx512_onednn_has_products_of_32_bits_only(isa: str) -> None:
    code = """
import torch
from asr.lstm.fast.products import onednn_multiplies as has
types = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
print(*(name for name, dtype in types.items() if has(dtype)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": isa},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["float32"], done.stderr


@pytest.mark.parametrize("scale", [0.0, 1e-4, 1.0, 30.0, 1e30])
@each_cell
def test_saturated_gates_are_finite_and_equal(cell: str, scale: float) -> None:
    recurrent = stack(cell, True)
    frames = scale * torch.randn(5, 9, INPUT)
    fast, slow = recurrent(frames, RAGGED), readable(recurrent, frames, RAGGED)
    if cell == "layernorm" and scale == 1e30:
        pytest.skip("the variance overflows, in torch as here")
    assert fast.isfinite().all()
    assert_near([fast], [slow], 1e-4)


@each_cell
def test_a_weight_that_is_nan_is_not_hidden(cell: str) -> None:
    recurrent = layer(cell, False)
    with torch.no_grad():
        recurrent.cells[0].recurrent.weight[:, 0] = torch.nan
    assert recurrent(torch.randn(1, 3, INPUT), torch.tensor([3]))[0, -1].isnan().any()


def test_the_kernel_for_gpus_equals_the_readable_form_in_tritons_interpreter() -> None:
    pytest.importorskip("triton")
    code = """
import torch
from asr.lstm.layer import RecurrentLayer
from asr.lstm.fast import gpu, recurrence

torch.set_num_threads(1)  # or directions would share the interpreter, which is not made for threads
for name in ("peephole", "lstm1997"):
    layer = RecurrentLayer(name, 5, 7, True)
    frames = [torch.randn(3, 6, 5, requires_grad=True) for _ in range(2)]
    fast = recurrence.unroll(gpu.LSTM, layer.cells, frames)
    slow = [cell.unroll(each).hidden for cell, each in zip(layer.cells, frames)]
    weights = [torch.randn_like(hidden) for hidden in slow]
    wanted = [*frames, *layer.parameters()]
    gradients = [torch.autograd.grad(each, wanted, weights) for each in (fast, slow)]
    torch.testing.assert_close([*fast, *gradients[0]], [*slow, *gradients[1]], rtol=1e-5, atol=1e-5)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


# ── torch ────────────────────────────────────────────────────────────────────────────────────


def oracle(recurrent: RecurrentLayer) -> nn.RNNBase:
    """Torch's network with the same weights, and zeros for its second bias."""
    ahead = recurrent.cells[0]
    assert isinstance(ahead, TorchCell)
    kind = {"tanh": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[ahead.kernel]
    projection = ahead.output_size if ahead.output_size != HIDDEN else 0
    sizes = {"proj_size": projection} if projection else {}
    made = kind(INPUT, HIDDEN, batch_first=True, bidirectional=len(recurrent.cells) == 2, **sizes)
    names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"]
    for suffix, cell in zip(["", "_reverse"], recurrent.cells, strict=False):
        assert isinstance(cell, TorchCell)
        for name, weight in zip(names, cell.torch_weights(), strict=False):
            getattr(made, f"{name}_l0{suffix}").data.copy_(weight)
    return made


@each_direction
@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm", "projected"])
def test_a_layer_equals_torch_with_packed_sequences(cell: str, bidirectional: bool) -> None:
    recurrent = layer(cell, bidirectional).double()
    theirs = oracle(recurrent).double()
    lengths = torch.tensor([4, 9, 1])

    def packed(frames: Tensor) -> Tensor:
        sequence = nn.utils.rnn.pack_padded_sequence(
            frames, lengths, batch_first=True, enforce_sorted=False
        )
        result: Tensor = nn.utils.rnn.pad_packed_sequence(theirs(sequence)[0], batch_first=True)[0]
        return result

    frames = torch.randn(3, 9, INPUT, dtype=torch.float64)
    ours, expected = (
        outcome(module, run, frames)
        for module, run in ((recurrent, lambda f: recurrent(f, lengths)), (theirs, packed))
    )
    assert_near(ours[:2], expected[:2], 1e-12)
    gradients = dict(
        zip([name for name, _ in theirs.named_parameters()], expected[2:], strict=True)
    )
    for name, gradient in zip(
        [name for name, _ in recurrent.named_parameters()], ours[2:], strict=True
    ):
        _, direction, part = name.split(".", maxsplit=2)
        torchs = {
            "inputs.weight": "weight_ih",
            "inputs.bias": "bias_ih",
            "recurrent.weight": "weight_hh",
            "projection.weight": "weight_hr",
            "candidate_bias": "bias_hh",
        }[part] + ("_l0_reverse" if direction == "1" else "_l0")
        assert_near([gradient], [gradients[torchs][-len(gradient) :]], 1e-12)


@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm", "projected"])
def test_what_torch_computes_as_a_whole_equals_the_steps(cell: str) -> None:
    (only,) = layer(cell, False).double().cells
    assert isinstance(only, TorchCell)
    frames = torch.randn(3, 9, INPUT, dtype=torch.float64)
    fused = outcome(only, only.fused, frames)
    assert_near(fused, outcome(only, lambda f: only.unroll(f).hidden, frames), 1e-12)


# ── equations ────────────────────────────────────────────────────────────────────────────────


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def normalized(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5)


def by_hand(cell: str, w: dict[str, np.ndarray], frames: np.ndarray) -> Iterator[np.ndarray]:
    """One direction of one utterance, one gate after the other, from the papers' equations."""
    h = c = np.zeros(HIDDEN)
    block = [slice(k * HIDDEN, (k + 1) * HIDDEN) for k in range(4)]
    for x in frames:
        seen, recalled, b = w["inputs.weight"] @ x, w["recurrent.weight"] @ h, w["inputs.bias"]
        if cell == "peephole":
            i = sigmoid(seen[block[0]] + recalled[block[0]] + w["peepholes"][0] * c + b[block[0]])
            f = sigmoid(seen[block[1]] + recalled[block[1]] + w["peepholes"][1] * c + b[block[1]])
            c = f * c + i * np.tanh(seen[block[2]] + recalled[block[2]] + b[block[2]])
            o = sigmoid(seen[block[3]] + recalled[block[3]] + w["peepholes"][2] * c + b[block[3]])
            h = o * np.tanh(c)
        elif cell == "lstm1997":
            i, g, o = (seen[part] + recalled[part] + b[part] for part in block[:3])
            c = c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        elif cell == "layernorm":
            gain = w["recurrent_gain"].flatten()
            rows = w["inputs.gain"] * normalized(seen) + gain * normalized(recalled) + b
            i, f, g, o = (rows[part] for part in block)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(w["cell_gain"] * normalized(c) + w["cell_shift"])
        else:
            z, g = ((w["inputs.gain"] * normalized(seen) + recalled + b)[p] for p in block[:2])
            h = sigmoid(z) * h + (1 - sigmoid(z)) * np.maximum(g, 0)
        yield h


@pytest.mark.parametrize("cell", ["peephole", "lstm1997", "layernorm", "ligru"])
def test_cells_that_torch_has_not_follow_their_papers(cell: str) -> None:
    recurrent = layer(cell, True).double()
    frames = torch.randn(1, 9, INPUT, dtype=torch.float64)
    expected = []
    for direction, order in zip(recurrent.cells, (1, -1), strict=True):
        weights = {name: weight.numpy() for name, weight in direction.state_dict().items()}
        hidden = list(by_hand(cell, weights, frames[0].numpy()[::order]))[::order]
        expected.append(torch.tensor(np.array(hidden)))
    result = recurrent(frames, torch.tensor([9]))
    assert_near([result.detach()[0]], [torch.cat(expected, 1)], 1e-12)


def test_an_lstm_whose_peepholes_are_shut_is_an_lstm() -> None:
    peephole, plain = layer("peephole", True), layer("lstm", True)
    peephole.load_state_dict(plain.state_dict(), strict=False)
    for cell in peephole.cells:
        nn.init.zeros_(cell.get_parameter("peepholes"))
    frames = torch.randn(5, 9, INPUT)
    torch.testing.assert_close(peephole(frames, RAGGED), plain(frames, RAGGED))


def test_an_lstm_that_never_forgets_is_that_of_1997() -> None:
    plain, old = layer("lstm", False), layer("lstm1997", False)
    rest = [*range(HIDDEN), *range(2 * HIDDEN, 4 * HIDDEN)]
    with torch.no_grad():
        for name, weight in old.named_parameters():
            theirs = plain.get_parameter(name)
            weight.copy_(theirs[rest])
            theirs[HIDDEN : 2 * HIDDEN] = 50.0 if name.endswith("bias") else 0.0
    frames = torch.randn(5, 9, INPUT)
    torch.testing.assert_close(plain(frames, RAGGED), old(frames, RAGGED))


# ── padding ──────────────────────────────────────────────────────────────────────────────────


@each_direction
@each_cell
def test_a_padded_batch_equals_one_by_one(cell: str, bidirectional: bool) -> None:
    recurrent = stack(cell, bidirectional)
    frames = torch.randn(5, 9, INPUT)
    torch.manual_seed(3)
    weights = torch.randn(5, 9, recurrent.output_size)
    weights *= length_mask(RAGGED, 9).unsqueeze(2)
    result = recurrent(frames, RAGGED)
    together = torch.autograd.grad((result * weights).sum(), recurrent.parameters())
    apart = [torch.zeros_like(gradient) for gradient in together]
    for n, length in enumerate(RAGGED.tolist()):
        if length:
            alone = recurrent(frames[n : n + 1, :length], torch.tensor([length]))
            assert_near([result[n : n + 1, :length]], [alone], 1e-5)
            loss = (alone * weights[n, :length]).sum()
            for total, gradient in zip(
                apart, torch.autograd.grad(loss, recurrent.parameters()), strict=True
            ):
                total += gradient
        assert not result[n, length:].any()
    assert_near(list(together), apart, 1e-5)


@pytest.mark.parametrize("form", ["fast", "readable"])
@each_cell
def test_nothing_in_the_padding_matters_not_even_nan(cell: str, form: str) -> None:
    recurrent = stack(cell, True)
    real = length_mask(RAGGED, 9).unsqueeze(2)

    def run(frames: Tensor, beyond: float) -> list[Tensor]:
        frames = torch.where(real, frames, beyond).requires_grad_()
        result = (
            recurrent(frames, RAGGED) if form == "fast" else readable(recurrent, frames, RAGGED)
        )
        weights = torch.where(real, torch.ones_like(result), beyond)
        return [result, *torch.autograd.grad(result, [frames, *recurrent.parameters()], weights)]

    frames = torch.randn(5, 9, INPUT)
    for result, expected in zip(run(frames, torch.nan), run(frames, 0.0), strict=True):
        assert torch.equal(result, expected)


@each_cell
def test_an_utterance_without_frames_has_no_output_and_no_gradient(cell: str) -> None:
    recurrent = stack(cell, True)
    for steps in (0, 3):
        frames = torch.randn(2, steps, INPUT, requires_grad=True)
        result = recurrent(frames, torch.tensor([0, 0]))
        assert result.shape == (2, steps, recurrent.output_size)
        assert not result.any()
        gradients = torch.autograd.grad(result.sum(), [frames, *recurrent.parameters()])
        assert not any(gradient.any() for gradient in gradients)


@each_cell
def test_one_frame_of_one_utterance(cell: str) -> None:
    recurrent, frames = stack(cell, True), torch.randn(1, 1, INPUT)
    lengths = torch.tensor([1])
    fast = outcome(recurrent, lambda frames: recurrent(frames, lengths), frames)
    slow = outcome(recurrent, lambda frames: readable(recurrent, frames, lengths), frames)
    assert_near(fast, slow, 1e-5)


# ── what a trace shows ───────────────────────────────────────────────────────────────────────


@each_cell
def test_a_trace_shows_what_the_layers_did(cell: str) -> None:
    recurrent, frames = stack(cell, True), torch.randn(5, 9, INPUT)
    traces = recurrent.trace(frames, RAGGED)
    assert [len(directions) for directions in traces] == [2, 2]
    for below, directions in zip([None, *traces], traces, strict=False):
        hidden = torch.cat([trace.hidden for trace in directions], 2)
        given = frames if below is None else torch.cat([trace.hidden for trace in below], 2)
        depth = 0 if below is None else 1
        torch.testing.assert_close(recurrent.layers[depth](given, RAGGED), hidden)
        for trace in directions:
            shown = [trace.hidden, *trace.gates.values()]
            shown += [] if trace.cell is None else [trace.cell]
            assert not any(values[~length_mask(RAGGED, 9)].any() for values in shown)
    assert set(traces[0][0].gates) == set(CELLS[cell].blocks) - {"hidden"}
    assert (traces[0][0].cell is None) == (not CELLS[cell].has_cell_state)


def test_time_runs_forwards_in_the_trace_of_the_backward_direction() -> None:
    (ahead, behind) = layer("lstm", True).trace(torch.randn(5, 9, INPUT), RAGGED)
    for n, length in enumerate(RAGGED.tolist()):
        for trace, step in ((ahead, -1), (behind, 1)):
            assert trace.cell is not None
            for t in range(length):
                before = trace.cell[n, t + step] if 0 <= t + step < length else torch.zeros(HIDDEN)
                gates = {name: gate[n, t] for name, gate in trace.gates.items()}
                expected = gates["forget"] * before + gates["input"] * gates["candidate"]
                torch.testing.assert_close(trace.cell[n, t], expected)


def test_the_encoder_traces_the_frames_that_its_stack_sees() -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(hidden=HIDDEN, layers=2, subsampling=2), INPUT).eval()
    frames = torch.randn(5, 9, INPUT)
    encoded, lengths = encoder(frames, RAGGED)
    traces, traced_lengths = encoder.trace(frames, RAGGED)
    assert torch.equal(lengths, traced_lengths)
    torch.testing.assert_close(torch.cat([trace.hidden for trace in traces[-1]], 2), encoded)


# ── stacks ───────────────────────────────────────────────────────────────────────────────────


@each_cell
def test_dropout_is_between_the_layers_only(cell: str) -> None:
    frames = torch.randn(5, 9, INPUT)
    one = stack(cell, True, layers=1, dropout=0.5)
    assert torch.equal(one.train()(frames, RAGGED), one.eval()(frames, RAGGED))
    two = stack(cell, True, layers=2, dropout=0.5)
    assert not torch.equal(two.train()(frames, RAGGED), two(frames, RAGGED))
    assert torch.equal(two.eval()(frames, RAGGED), two(frames, RAGGED))


@each_cell
def test_the_weights_of_a_stack_can_be_kept(cell: str) -> None:
    frames, kept, other = torch.randn(5, 9, INPUT), stack(cell, True), stack(cell, True)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    other.load_state_dict(kept.state_dict())
    assert torch.equal(other(frames, RAGGED), kept(frames, RAGGED))


@each_cell
def test_weights_begin_within_one_by_the_root_of_the_cells(cell: str) -> None:
    projection = 50 if cell == "projected" else 0
    fresh = RecurrentLayer(cell, INPUT, 100, True, projection)
    for name, weight in fresh.named_parameters():
        if name.endswith("gain"):
            assert (weight == 1).all()
        elif name.endswith("shift"):
            assert (weight == 0).all()
        else:
            assert 0.08 < weight.abs().max() <= 0.1


@pytest.mark.parametrize("cell", ["lstm", "peephole", "projected", "layernorm"])
def test_the_forget_gate_can_begin_open(cell: str) -> None:
    projection = 50 if cell == "projected" else 0
    fresh = RecurrentLayer(cell, INPUT, 100, True, projection, forget_bias=2.0)
    for direction in fresh.cells:
        by_block = direction.inputs.bias.detach().view(4, 100)
        opened = direction.blocks.index("forget")
        assert ((by_block[opened] - 2.0).abs() <= 0.1).all()
        assert sum(float(rows.abs().max()) > 0.1 for rows in by_block) == 1


# ── the networks of 2013 ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "encoder", "weights", "millions"),
    [
        ("CTC-3l-500h-tanh", {"cell": "tanh", "hidden": 500, "layers": 3}, 3_688_062, 3.7),
        ("CTC-1l-250h", {"hidden": 250, "layers": 1}, 780_562, 0.8),
        ("CTC-1l-622h", {"hidden": 622, "layers": 1}, 3_793_018, 3.8),
        ("CTC-2l-250h", {"hidden": 250, "layers": 2}, 2_284_062, 2.3),
        (
            "CTC-3l-421h-uni",
            {"hidden": 421, "layers": 3, "bidirectional": False},
            3_786_957,
            3.8,
        ),
        ("CTC-3l-250h", {"hidden": 250, "layers": 3}, 3_787_562, 3.8),
        ("CTC-5l-250h", {"hidden": 250, "layers": 5}, 6_794_562, 6.8),
    ],
)
def test_networks_have_the_weights_of_graves_mohamed_and_hinton(
    name: str, encoder: dict[str, object], weights: int, millions: float
) -> None:
    made = Encoder(EncoderConfig(**({"cell": "peephole"} | encoder)), 123)  # type: ignore[arg-type]
    head = CTC(CTCConfig(), made.output_size, 62)
    count = sum(p.numel() for module in (made, head) for p in module.parameters())
    assert count == weights, name
    assert round(count / 1e6, 1) == millions, name


# ── mistakes ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        ({"cell": "lsmt"}, "encoder.cell is 'lsmt', expected tanh, gru, lstm, peephole"),
        ({"cell": "projected"}, "encoder.projection is 0, expected 1 to 249"),
        ({"cell": "projected", "projection": 250}, "encoder.projection is 250, expected 1 to 249"),
        ({"projection": 100}, "encoder.projection is 100, but encoder.cell is 'lstm'"),
        ({"cell": "gru", "forget_bias": 1.0}, "encoder.forget_bias is 1.0, but encoder.cell is"),
    ],
)
def test_an_encoder_that_cannot_be_is_refused(mistake: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        EncoderConfig(**mistake)  # type: ignore[arg-type]


def test_lengths_beyond_the_frames_are_refused() -> None:
    with pytest.raises(IndexError, match="out of bounds"):
        layer("lstm", True)(torch.randn(2, 3, INPUT), torch.tensor([3, 4]))
