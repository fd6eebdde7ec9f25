"""Activations, and the gated ones: gelu, silu, mish, swiglu, geglu.

Gates take two halves of a dimension; which half is activated differs between them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mx_autopatch.softnpu.npu.reference import reference, vjp, widened

__all__: list[str] = []


@reference("fast_gelu", "npu_fast_gelu")
def npu_fast_gelu(input: Tensor) -> Tensor:
    """``x * sigmoid(1.702 x)``."""
    x = widened(input)
    return (x * torch.sigmoid(1.702 * x)).to(input.dtype)


@reference("npu_fast_gelu_backward")
def npu_fast_gelu_backward(grad: Tensor, input: Tensor) -> Any:
    return vjp(npu_fast_gelu, [input], [grad])[0]


@reference("npu_gelu")
def npu_gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    return F.gelu(input, approximate=approximate)


@reference("npu_gelu_backward")
def npu_gelu_backward(grad_output: Tensor, input: Tensor, *, approximate: str = "none") -> Any:
    return vjp(lambda x: F.gelu(x, approximate=approximate), [input], [grad_output])[0]


@reference("npu_gelu_mul")
def npu_gelu_mul(input: Tensor, *, approximate: str = "none") -> Tensor:
    """``gelu(first half) * second half`` of the last dimension."""
    left, right = widened(input).chunk(2, -1)
    return (F.gelu(left, approximate=approximate) * right).to(input.dtype)


@reference("npu_silu")
def npu_silu(input: Tensor) -> Tensor:
    return F.silu(input)


@reference("npu_silu_")
def npu_silu_(input: Tensor) -> Tensor:
    F.silu(input, inplace=True)
    return input


@reference("npu_silu_backward")
def npu_silu_backward(grad_output: Tensor, x0: Tensor, x1: Tensor) -> Any:
    """``x0`` is the input, ``x1`` the result."""
    return vjp(F.silu, [x0], [grad_output])[0]


@reference("npu_mish")
def npu_mish(input: Tensor) -> Tensor:
    return F.mish(input)


@reference("npu_mish_backward")
def npu_mish_backward(grad: Tensor, input: Tensor) -> Any:
    return vjp(F.mish, [input], [grad])[0]


@reference("npu_swiglu")
def npu_swiglu(input: Tensor, dim: int = -1) -> Tensor:
    """``silu(first half) * second half``."""
    left, right = widened(input).chunk(2, dim)
    return (F.silu(left) * right).to(input.dtype)


@reference("npu_swiglu_backward")
def npu_swiglu_backward(grad_output: Tensor, input: Tensor, dim: int = -1) -> Any:
    return vjp(lambda x: npu_swiglu(x, dim), [input], [grad_output])[0]


@reference("npu_geglu")
def npu_geglu(
    input: Tensor, dim: int = -1, approximate: int = 1, activate_left: bool = False
) -> tuple[Tensor, Tensor]:
    """One half times the gelu of the other, and that gelu.

    Args:
        approximate: 0 for erf, 1 for tanh.
        activate_left: Whether the first half is the one that is activated.
    """
    left, right = widened(input).chunk(2, dim)
    active, plain = (left, right) if activate_left else (right, left)
    gelu = F.gelu(active, approximate="tanh" if approximate else "none")
    return (plain * gelu).to(input.dtype), gelu.to(input.dtype)


@reference("npu_geglu_grad")
def npu_geglu_grad(
    grad_output: Tensor,
    input: Tensor,
    gelu: Tensor,
    dim: int = -1,
    approximate: int = 1,
    activate_left: bool = False,
) -> Any:
    def forward(x: Tensor) -> Tensor:
        return npu_geglu(x, dim, approximate, activate_left)[0]

    return vjp(forward, [input], [grad_output])[0]


@reference("npu_clipped_swiglu")
def npu_clipped_swiglu(
    x: Tensor,
    *,
    group_index: Tensor | None = None,
    dim: int = -1,
    alpha: float = 1.702,
    limit: float = 7.0,
    bias: float = 1.0,
    interleaved: bool = True,
) -> Tensor:
    """``a * sigmoid(alpha * a) * (b + bias)``, both bounded by ``limit``, ``b`` on both sides.

    Args:
        group_index: Sizes of groups; rows (everything before ``dim``) after their sum are
            zeros.
        interleaved: Whether a and b are the even and the odd elements of a row (from ``dim``
            on, taken as one), or its halves.
    """
    dim = dim % x.dim()
    shape = list(x.shape)
    shape[dim] //= 2
    rows = widened(x).reshape(x.shape[:dim].numel(), -1)
    a, b = (rows[:, ::2], rows[:, 1::2]) if interleaved else rows.chunk(2, 1)
    a = a.clamp(max=limit)
    result = a * torch.sigmoid(alpha * a) * (b.clamp(-limit, limit) + bias)
    if group_index is not None:
        kept = torch.arange(len(rows), device=x.device) < group_index.sum()
        result = torch.where(kept.unsqueeze(1), result, 0.0)
    return result.to(x.dtype).reshape(shape)
