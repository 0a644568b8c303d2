"""The gates of the LSTM with peepholes on a GPU, in Triton, where cuDNN has no such cell.

The same steps as `lstm_forward` and `lstm_backward` in `asr.lstm.fast.kernels`, with or without
forget gate. One program computes the cells of one utterance at one step; the loop over time is
Python's.
"""

# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"
# Triton reads annotations as code, so its functions have none.

import triton
import triton.language as tl
from torch import Tensor

from asr.lstm.fast.kernels import Arrays, Gradients, Kernel


@triton.jit
def _tanh(x):
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def _forward(
    step, product, rows, hidden, memory, vectors, size, blocks: tl.constexpr, width: tl.constexpr
):
    # blocks are 4: i, f, g, o; 3: without f
    n, count = tl.program_id(0), tl.num_programs(0)
    j = tl.arange(0, width)
    real = j < size
    row = rows + (step * count + n) * blocks * size + j
    u = product + n * blocks * size + j
    g_at, o_at = (blocks - 2) * size, (blocks - 1) * size
    at = (step * count + n) * size + j
    before = tl.load(memory + at, real)

    a = tl.load(row, real) + tl.load(u, real)
    i = tl.sigmoid(a + tl.load(vectors + j, real) * before)
    g = _tanh(tl.load(row + g_at, real) + tl.load(u + g_at, real))
    if blocks == 4:
        a = tl.load(row + size, real) + tl.load(u + size, real)
        f = tl.sigmoid(a + tl.load(vectors + size + j, real) * before)
        tl.store(row + size, f, real)
        before = f * before
    c = before + i * g
    a = tl.load(row + o_at, real) + tl.load(u + o_at, real)
    o = tl.sigmoid(a + tl.load(vectors + 2 * size + j, real) * c)

    tl.store(row, i, real)
    tl.store(row + g_at, g, real)
    tl.store(row + o_at, o, real)
    tl.store(memory + at + count * size, c, real)
    tl.store(hidden + at + count * size, o * _tanh(c), real)


@triton.jit
def _backward(
    step,
    later,
    rows,
    memory,
    vectors,
    d_hidden,
    carried,
    d_rows,
    d_vectors,
    size,
    blocks: tl.constexpr,
    width: tl.constexpr,
):
    n, count = tl.program_id(0), tl.num_programs(0)
    j = tl.arange(0, width)
    real = j < size
    row = rows + (step * count + n) * blocks * size + j
    d_row = d_rows + (step * count + n) * blocks * size + j
    d_vector = d_vectors + n * 3 * size + j
    g_at, o_at = (blocks - 2) * size, (blocks - 1) * size
    at = (step * count + n) * size + j
    before, c = tl.load(memory + at, real), tl.load(memory + at + count * size, real)
    i, g, o = tl.load(row, real), tl.load(row + g_at, real), tl.load(row + o_at, real)

    d_h = tl.load(later + n * size + j, real) + tl.load(d_hidden + at, real)
    shown = _tanh(c)
    d_o = d_h * shown * o * (1 - o)
    d_c = tl.load(carried + n * size + j, real) + d_h * o * (1 - shown * shown)
    d_c += tl.load(vectors + 2 * size + j, real) * d_o
    d_i = d_c * g * i * (1 - i)
    tl.store(d_row, d_i, real)
    tl.store(d_row + g_at, d_c * i * (1 - g * g), real)
    tl.store(d_row + o_at, d_o, real)
    tl.store(d_vector, tl.load(d_vector, real) + d_i * before, real)
    tl.store(d_vector + 2 * size, tl.load(d_vector + 2 * size, real) + d_o * c, real)
    if blocks == 4:
        f = tl.load(row + size, real)
        d_f = d_c * before * f * (1 - f)
        tl.store(d_row + size, d_f, real)
        tl.store(d_vector + size, tl.load(d_vector + size, real) + d_f * before, real)
        d_c = d_c * f + tl.load(vectors + size + j, real) * d_f
    tl.store(carried + n * size + j, d_c + tl.load(vectors + j, real) * d_i, real)


def forward(step: int, product: Tensor, arrays: Arrays) -> None:
    count, size = arrays.hidden.shape[1:]
    shape = {"blocks": product.shape[1] // size, "width": triton.next_power_of_2(size)}
    _forward[(count,)](step, product, *arrays, size, **shape)


def backward(step: int, later: Tensor, arrays: Arrays, gradients: Gradients) -> None:
    count, size = later.shape
    shape = {"blocks": arrays.rows.shape[2] // size, "width": triton.next_power_of_2(size)}
    operands = arrays.rows, arrays.memory, arrays.vectors
    results = gradients.hidden, gradients.carried, gradients.rows, gradients.vectors
    _backward[(count,)](step, later, *operands, *results, size, **shape)


LSTM = Kernel(forward, backward, memory=lambda size: size, view=lambda tensor: tensor)
