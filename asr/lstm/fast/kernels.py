"""The gates of one time step on a CPU, compiled: the same equations as the steps in `cells`.

The products with W and U are not here. The loops are short on purpose: LLVM vectorises a loop only
while it has few arrays to tell apart.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import methodcaller
from typing import Any, NamedTuple

import numba
import numpy as np
from numba.extending import overload

from asr.processor.compiled import compiled

# A product and a sum may round once, sums may be reordered; NaN and infinity stay.
fast = compiled(fastmath={"contract", "reassoc"}, error_model="numpy")


class Arrays(NamedTuple):
    """The operands of the compiled steps of one direction.

    `[step + 1]` of `hidden` and `memory` belongs to the step, `[step]` to the one before it.
    """

    rows: Any  # (T, N, R): W x_t + b, which the forward step overwrites with the gates
    hidden: Any  # (T+1, N, H): h_t
    memory: Any  # (T+1, N, M): other values that the next step or the gradient needs
    vectors: Any  # (K, H): weights that are applied element by element


class Gradients(NamedTuple):
    """The operands of the backward steps, which write all of them but `hidden`."""

    hidden: Any  # (T, N, H): of h_t as the layer's output
    carried: Any  # (N, H): from the step after, without its product with U
    rows: Any  # (T, N, R): of W x_t + b
    product: Any  # (T, N, R): of U h_{t−1}; the memory of `rows` where the two are equal
    vectors: Any  # (N, K, H): of the weights, for each utterance


@dataclass(frozen=True)
class Kernel:
    """The compiled form of a step, forwards and backwards.

    forward(step, product, arrays): `product` (N, R) is U h_{t−1}. run(matrix, arrays) does all
    steps of one utterance; `matrix` is Uᵀ (H, R). backward(step, later, arrays,
    gradients): `later` (N, H) is the gradient of h_t through the product of the step after it.
    """

    forward: Callable[..., None]
    backward: Callable[..., None]
    memory: Callable[[int], int]  # M for H
    run: Callable[[Any, Arrays], None] | None = None  # on a CPU
    scales_product: bool = False  # then the gradients of the product and the rows differ
    view: Callable[[Any], Any] = methodcaller("numpy")  # a tensor as the two functions take it


# ── functions ────────────────────────────────────────────────────────────────────────────────

ODD = (4.89352455891786e-03, 6.37261928875436e-04, 1.48572235717979e-05, 5.12229709037114e-08,
       -8.60467152213735e-11, 2.00018790482477e-13, -2.76076847742355e-16)  # fmt: skip
EVEN = (4.89352518554385e-03, 2.26843463243900e-03, 1.18534705686654e-04, 1.19825839466702e-06)


def tanh(x: Any) -> Any:
    """Hyperbolic tangent: libm's for float64, a formula that LLVM vectorises for float32.

    The formula is the quotient of polynomials of the library Eigen, exact to 3e-7.
    """


@overload(tanh)
def _tanh(x: Any) -> Any:
    def exact(x: Any) -> Any:
        return math.tanh(x)

    limit = np.float32(7.90531110763549805)
    p1, p3, p5, p7, p9, p11, p13 = (np.float32(p) for p in ODD)
    q0, q2, q4, q6 = (np.float32(q) for q in EVEN)

    def quotient(x: Any) -> Any:
        x = limit if x > limit else x  # NaN passes both
        x = -limit if x < -limit else x
        y = x * x
        p = (((((p13 * y + p11) * y + p9) * y + p7) * y + p5) * y + p3) * y + p1
        return x * p / (((q6 * y + q4) * y + q2) * y + q0)

    return quotient if x == numba.float32 else exact


def sigmoid(x: Any) -> Any:
    """The logistic function."""


@overload(sigmoid)
def _sigmoid(x: Any) -> Any:
    half = np.float32(0.5) if x == numba.float32 else 0.5

    def by_tanh(x: Any) -> Any:
        return half + half * tanh(half * x)

    return by_tanh


@fast
def normalize(values: Any) -> Any:
    """Normalise a vector to mean 0 and variance 1, in place; returns 1 / its standard deviation."""
    real = values.dtype.type
    mean = real(0)
    for j in range(len(values)):
        mean += values[j]
    mean /= real(len(values))
    variance = real(0)
    for j in range(len(values)):
        values[j] -= mean
        variance += values[j] * values[j]
    scale = real(1) / np.sqrt(variance / real(len(values)) + real(1e-5))
    for j in range(len(values)):
        values[j] *= scale
    return scale


@fast
def normalize_backward(gradient: Any, normalized: Any, scale: Any) -> None:
    """From the gradient of the output of `normalize` to that of its input, in place."""
    mean = slope = gradient.dtype.type(0)
    for j in range(len(gradient)):
        mean += gradient[j]
        slope += gradient[j] * normalized[j]
    mean /= gradient.dtype.type(len(gradient))
    slope /= gradient.dtype.type(len(gradient))
    for j in range(len(gradient)):
        gradient[j] = scale * (gradient[j] - mean - slope * normalized[j])


# ── tanh ─────────────────────────────────────────────────────────────────────────────────────


@fast
def elman_forward(step: int, product: Any, a: Arrays) -> None:
    for n in range(len(product)):
        row, u, h = a.rows[step, n], product[n], a.hidden[step + 1, n]
        for j in range(len(h)):
            h[j] = tanh(row[j] + u[j])


@fast
def elman_backward(step: int, later: Any, a: Arrays, d: Gradients) -> None:
    one = later.dtype.type(1)
    for n in range(len(later)):
        h, d_h, d_later, d_row = a.hidden[step + 1, n], d.hidden[step, n], later[n], d.rows[step, n]
        for j in range(len(h)):
            d_row[j] = (d_h[j] + d_later[j]) * (one - h[j] * h[j])


# ── GRU and Li-GRU ───────────────────────────────────────────────────────────────────────────


@fast
def gru_forward(step: int, product: Any, a: Arrays) -> None:
    one, size = product.dtype.type(1), a.hidden.shape[2]
    bias = a.vectors[0]
    for n in range(len(product)):
        row, u, m = a.rows[step, n], product[n], a.memory[step + 1, n]
        r, z, g = row[:size], row[size : 2 * size], row[2 * size :]
        u_r, u_z, u_g = u[:size], u[size : 2 * size], u[2 * size :]
        before, h = a.hidden[step, n], a.hidden[step + 1, n]
        for j in range(size):
            r[j] = sigmoid(r[j] + u_r[j])
        for j in range(size):
            z[j] = sigmoid(z[j] + u_z[j])
        for j in range(size):
            m[j] = u_g[j] + bias[j]
        for j in range(size):
            g[j] = tanh(g[j] + r[j] * m[j])
        for j in range(size):
            h[j] = (one - z[j]) * g[j] + z[j] * before[j]


@fast
def gru_backward(step: int, later: Any, a: Arrays, d: Gradients) -> None:
    one, size = later.dtype.type(1), a.hidden.shape[2]
    for n in range(len(later)):
        d_bias = d.vectors[n, 0]
        row, m, before = a.rows[step, n], a.memory[step + 1, n], a.hidden[step, n]
        r, z, g = row[:size], row[size : 2 * size], row[2 * size :]
        d_row, d_u, d_h = d.rows[step, n], d.product[step, n], d.carried[n]
        d_r, d_z, d_g = d_row[:size], d_row[size : 2 * size], d_row[2 * size :]
        d_m, d_above, d_later = d_u[2 * size :], d.hidden[step, n], later[n]
        for j in range(size):
            d_h[j] += d_above[j] + d_later[j]
        for j in range(size):
            d_g[j] = d_h[j] * (one - z[j]) * (one - g[j] * g[j])
        for j in range(size):
            d_z[j] = d_h[j] * (before[j] - g[j]) * z[j] * (one - z[j])
        for j in range(size):
            d_r[j] = d_g[j] * m[j] * r[j] * (one - r[j])
        for j in range(2 * size):
            d_u[j] = d_row[j]
        for j in range(size):
            d_m[j] = d_g[j] * r[j]
        for j in range(size):
            d_bias[j] += d_m[j]
        for j in range(size):
            d_h[j] *= z[j]


@fast
def ligru_forward(step: int, product: Any, a: Arrays) -> None:
    real, size = product.dtype.type, a.hidden.shape[2]
    for n in range(len(product)):
        row, u = a.rows[step, n], product[n]
        z, g, u_z, u_g = row[:size], row[size:], u[:size], u[size:]
        before, h = a.hidden[step, n], a.hidden[step + 1, n]
        for j in range(size):
            z[j] = sigmoid(z[j] + u_z[j])
        for j in range(size):
            candidate = g[j] + u_g[j]
            g[j] = real(0) if candidate < real(0) else candidate  # NaN stays
        for j in range(size):
            h[j] = z[j] * before[j] + (real(1) - z[j]) * g[j]


@fast
def ligru_backward(step: int, later: Any, a: Arrays, d: Gradients) -> None:
    real, size = later.dtype.type, a.hidden.shape[2]
    for n in range(len(later)):
        row, before, d_row, d_h = a.rows[step, n], a.hidden[step, n], d.rows[step, n], d.carried[n]
        z, g, d_z, d_g = row[:size], row[size:], d_row[:size], d_row[size:]
        d_above, d_later = d.hidden[step, n], later[n]
        for j in range(size):
            d_h[j] += d_above[j] + d_later[j]
        for j in range(size):
            d_z[j] = d_h[j] * (before[j] - g[j]) * z[j] * (real(1) - z[j])
        for j in range(size):
            d_g[j] = d_h[j] * (real(1) - z[j]) if g[j] > real(0) else real(0)
        for j in range(size):
            d_h[j] *= z[j]


# ── LSTM with peepholes, with or without a forget gate ───────────────────────────────────────


@fast
def lstm_forward(step: int, product: Any, a: Arrays) -> None:
    size = a.hidden.shape[2]
    forgets = product.shape[1] == 4 * size
    p_i, p_f, p_o = a.vectors[0], a.vectors[1], a.vectors[2]
    for n in range(len(product)):
        row, u = a.rows[step, n], product[n]
        i, f, g, o = row[:size], row[size : 2 * size], row[-2 * size : -size], row[-size:]
        before, c, h = a.memory[step, n], a.memory[step + 1, n], a.hidden[step + 1, n]
        for j in range(len(row)):
            row[j] += u[j]
        for j in range(size):
            i[j] = sigmoid(i[j] + p_i[j] * before[j])
        if forgets:
            for j in range(size):
                f[j] = sigmoid(f[j] + p_f[j] * before[j])
            for j in range(size):
                c[j] = f[j] * before[j]
        else:
            for j in range(size):
                c[j] = before[j]
        for j in range(size):
            g[j] = tanh(g[j])
        for j in range(size):
            c[j] += i[j] * g[j]
        for j in range(size):
            o[j] = sigmoid(o[j] + p_o[j] * c[j])
        for j in range(size):
            h[j] = o[j] * tanh(c[j])


@fast
def lstm_backward(step: int, later: Any, a: Arrays, d: Gradients) -> None:
    one, size = later.dtype.type(1), a.hidden.shape[2]
    forgets = a.rows.shape[2] == 4 * size
    p_i, p_f, p_o = a.vectors[0], a.vectors[1], a.vectors[2]
    for n in range(len(later)):
        d_pi, d_pf, d_po = d.vectors[n, 0], d.vectors[n, 1], d.vectors[n, 2]
        row, before, c = a.rows[step, n], a.memory[step, n], a.memory[step + 1, n]
        i, f, g, o = row[:size], row[size : 2 * size], row[-2 * size : -size], row[-size:]
        d_row, d_c, d_h, d_above = d.rows[step, n], d.carried[n], later[n], d.hidden[step, n]
        d_i, d_f = d_row[:size], d_row[size : 2 * size]
        d_g, d_o = d_row[-2 * size : -size], d_row[-size:]
        for j in range(size):
            d_h[j] += d_above[j]
        for j in range(size):
            d_o[j] = tanh(c[j])
        for j in range(size):
            d_c[j] += d_h[j] * o[j] * (one - d_o[j] * d_o[j])
        for j in range(size):
            d_o[j] *= d_h[j] * o[j] * (one - o[j])
        for j in range(size):
            d_c[j] += p_o[j] * d_o[j]
        for j in range(size):
            d_i[j] = d_c[j] * g[j] * i[j] * (one - i[j])
        for j in range(size):
            d_g[j] = d_c[j] * i[j] * (one - g[j] * g[j])
        for j in range(size):
            d_pi[j] += d_i[j] * before[j]
        for j in range(size):
            d_po[j] += d_o[j] * c[j]
        if forgets:
            for j in range(size):
                d_f[j] = d_c[j] * before[j] * f[j] * (one - f[j])
            for j in range(size):
                d_pf[j] += d_f[j] * before[j]
            for j in range(size):
                d_c[j] = d_c[j] * f[j] + p_f[j] * d_f[j]
        for j in range(size):
            d_c[j] += p_i[j] * d_i[j]


# ── LSTM with layer normalisation ────────────────────────────────────────────────────────────
# `memory` of a step: c_t, the normalised product, the normalised c_t, and the scales of both.


@fast
def layernorm_forward(step: int, product: Any, a: Arrays) -> None:
    size = a.hidden.shape[2]
    gain, cell_gain, cell_shift = a.vectors[:4].reshape(-1), a.vectors[4], a.vectors[5]
    for n in range(len(product)):
        row, h = a.rows[step, n], a.hidden[step + 1, n]
        i, f, g, o = row[:size], row[size : 2 * size], row[-2 * size : -size], row[-size:]
        before, m = a.memory[step, n], a.memory[step + 1, n]
        c, u, normal = m[:size], m[size : 5 * size], m[5 * size : 6 * size]
        u[:] = product[n]
        m[6 * size] = normalize(u)
        for j in range(len(row)):
            row[j] += gain[j] * u[j]
        for j in range(2 * size):
            row[j] = sigmoid(row[j])
        for j in range(size):
            g[j] = tanh(g[j])
        for j in range(size):
            o[j] = sigmoid(o[j])
        for j in range(size):
            c[j] = f[j] * before[j]
        for j in range(size):
            c[j] += i[j] * g[j]
        normal[:] = c
        m[6 * size + 1] = normalize(normal)
        for j in range(size):
            h[j] = o[j] * tanh(cell_gain[j] * normal[j] + cell_shift[j])


@fast
def layernorm_backward(step: int, later: Any, a: Arrays, d: Gradients) -> None:
    one, size = later.dtype.type(1), a.hidden.shape[2]
    gain, cell_gain, cell_shift = a.vectors[:4].reshape(-1), a.vectors[4], a.vectors[5]
    for n in range(len(later)):
        d_gain, d_cell_gain = d.vectors[n, :4].reshape(-1), d.vectors[n, 4]
        d_cell_shift = d.vectors[n, 5]
        row, before, m = a.rows[step, n], a.memory[step, n], a.memory[step + 1, n]
        i, f, g, o = row[:size], row[size : 2 * size], row[-2 * size : -size], row[-size:]
        u, normal = m[size : 5 * size], m[5 * size : 6 * size]
        d_row, d_u, d_h, d_c = d.rows[step, n], d.product[step, n], later[n], d.carried[n]
        d_i, d_f = d_row[:size], d_row[size : 2 * size]
        d_g, d_o = d_row[-2 * size : -size], d_row[-size:]
        d_above = d.hidden[step, n]
        for j in range(size):
            d_h[j] += d_above[j]
        for j in range(size):
            d_o[j] = tanh(cell_gain[j] * normal[j] + cell_shift[j])
        for j in range(size):
            d_i[j] = d_h[j] * o[j] * (one - d_o[j] * d_o[j])  # of the argument of tanh
        for j in range(size):
            d_o[j] *= d_h[j] * o[j] * (one - o[j])
        for j in range(size):
            d_cell_gain[j] += d_i[j] * normal[j]
        for j in range(size):
            d_cell_shift[j] += d_i[j]
        for j in range(size):
            d_i[j] *= cell_gain[j]
        normalize_backward(d_i, normal, m[6 * size + 1])
        for j in range(size):
            d_c[j] += d_i[j]
        for j in range(size):
            d_i[j] = d_c[j] * g[j] * i[j] * (one - i[j])
        for j in range(size):
            d_f[j] = d_c[j] * before[j] * f[j] * (one - f[j])
        for j in range(size):
            d_g[j] = d_c[j] * i[j] * (one - g[j] * g[j])
        for j in range(size):
            d_c[j] *= f[j]
        for j in range(4 * size):
            d_gain[j] += d_row[j] * u[j]
        for j in range(4 * size):
            d_u[j] = d_row[j] * gain[j]
        normalize_backward(d_u, u, m[6 * size])


# ── one utterance ────────────────────────────────────────────────────────────────────────────


@fast
def recurrent_product(matrix: Any, hidden: Any, product: Any) -> None:
    """U h: (H, R), (H,) → (R,); eight rows of Uᵀ at a time, so that the sums stay in registers."""
    product[:] = 0
    whole = len(hidden) // 8 * 8
    for k in range(0, whole, 8):
        a, b, c, d = hidden[k], hidden[k + 1], hidden[k + 2], hidden[k + 3]
        e, f, g, h = hidden[k + 4], hidden[k + 5], hidden[k + 6], hidden[k + 7]
        m0, m1, m2, m3 = matrix[k], matrix[k + 1], matrix[k + 2], matrix[k + 3]
        m4, m5, m6, m7 = matrix[k + 4], matrix[k + 5], matrix[k + 6], matrix[k + 7]
        for r in range(len(product)):
            product[r] += (a * m0[r] + b * m1[r] + c * m2[r] + d * m3[r]) + (
                e * m4[r] + f * m5[r] + g * m6[r] + h * m7[r]
            )
    for k in range(whole, len(hidden)):
        a, m0 = hidden[k], matrix[k]
        for r in range(len(product)):
            product[r] += a * m0[r]


@fast
def elman_run(matrix: Any, a: Arrays) -> None:
    product = np.empty_like(a.rows[0])
    for step in range(len(a.rows)):
        recurrent_product(matrix, a.hidden[step, 0], product[0])
        elman_forward(step, product, a)


@fast
def gru_run(matrix: Any, a: Arrays) -> None:
    product = np.empty_like(a.rows[0])
    for step in range(len(a.rows)):
        recurrent_product(matrix, a.hidden[step, 0], product[0])
        gru_forward(step, product, a)


@fast
def lstm_run(matrix: Any, a: Arrays) -> None:
    product = np.empty_like(a.rows[0])
    for step in range(len(a.rows)):
        recurrent_product(matrix, a.hidden[step, 0], product[0])
        lstm_forward(step, product, a)


@fast
def layernorm_run(matrix: Any, a: Arrays) -> None:
    product = np.empty_like(a.rows[0])
    for step in range(len(a.rows)):
        recurrent_product(matrix, a.hidden[step, 0], product[0])
        layernorm_forward(step, product, a)


@fast
def ligru_run(matrix: Any, a: Arrays) -> None:
    product = np.empty_like(a.rows[0])
    for step in range(len(a.rows)):
        recurrent_product(matrix, a.hidden[step, 0], product[0])
        ligru_forward(step, product, a)


KERNELS = {
    "tanh": Kernel(elman_forward, elman_backward, lambda size: 0, elman_run),
    "gru": Kernel(gru_forward, gru_backward, lambda size: size, gru_run, scales_product=True),
    "lstm": Kernel(lstm_forward, lstm_backward, lambda size: size, lstm_run),
    "layernorm": Kernel(
        *(layernorm_forward, layernorm_backward, lambda size: 6 * size + 2, layernorm_run),
        scales_product=True,
    ),
    "ligru": Kernel(ligru_forward, ligru_backward, lambda size: 0, ligru_run),
}
