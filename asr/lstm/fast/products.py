"""Matrix products by oneDNN, with torch's public way where oneDNN has none: the one guard.

oneDNN is called by operators that torch keeps private. torch's public products are MKL's on a CPU,
which does without AVX-512 on AMD.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class Affine(torch.autograd.Function):
    """x Wᵀ + b with `linear`, forwards and backwards: (…, K), (R, K), (R,) → (…, R)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dtype = factor_dtype(x)
        return linear(x, weight.to(ctx.dtype), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        d_rows = d_out.flatten(0, -2)
        return (
            linear(d_out, weight.t().to(ctx.dtype)) if wants_x else None,
            outer(d_rows.to(ctx.dtype), x.flatten(0, -2)) if wants_weight else None,
            d_rows.sum(0) if wants_bias else None,
        )


affine: Callable[[Tensor, Tensor, Tensor | None], Tensor] = Affine.apply


def factor_dtype(x: Tensor) -> torch.dtype:
    """The type of both factors of a product with x: inside `torch.autocast` the reduced one."""
    device = x.device.type
    if x.dtype == torch.float32 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return x.dtype


@cache
def onednn_multiplies(dtype: torch.dtype) -> bool:
    """Whether torch's private operators multiply this type by oneDNN, on this processor.

    They belong to torch's compiler and may change: builds without oneDNN lack them, and they refuse
    bfloat16 on processors that do not compute in it. The first call for a type tries one product.
    """
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    x = torch.tensor([[0, 1, 2], [3, 4, 5]], dtype=dtype, device="cpu")
    try:
        product = _by_onednn(x, _packed(x, count=2), bias=x[:, 0])
    except (AttributeError, RuntimeError):
        return False
    return bool(product.tolist() == [[5, 17], [14, 53]])


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is not None:
        bias = bias.contiguous()  # the operator reads it as contiguous without a check
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _packed(weight: Tensor, count: int) -> Tensor:
    ordered: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, count)
    return ordered


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` by oneDNN where it can: (…, K), (R, K), (R,) → (…, R).

    A weight with fewer bits than x reduces x to its type; the result has the type of x.
    """
    if weight.dtype != x.dtype:
        product = linear(x.to(weight.dtype), weight).to(x.dtype)
        return product if bias is None else product.add_(bias)
    if x.is_cpu and x.numel() and onednn_multiplies(x.dtype):
        return _by_onednn(x, weight, bias)
    return F.linear(x, weight, bias)


def outer(left: Tensor, right: Tensor) -> Tensor:
    """The sum of the outer products of rows, in the type of `left`: (M, L), (M, K) → (L, K)."""
    return linear(right.t(), left.contiguous().t()).t()  # oneDNN is very slow where rows have gaps


def packed(weight: Tensor, count: int) -> Tensor:
    """The weight reordered so that repeated `linear` of `count` rows of x is fastest."""
    return _packed(weight, count) if weight.is_cpu and onednn_multiplies(weight.dtype) else weight
