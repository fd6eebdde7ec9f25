"""Rotary position embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mx_autopatch.softnpu.npu.reference import narrowed, reference, unsupported, vjp, widened

__all__: list[str] = []


def _rotated(x: Tensor, mode: str, operator: str) -> Tensor:
    """Each pair ``(a, b)`` as ``(-b, a)``: pairs of the halves, or of neighbours."""
    if mode == "half":
        a, b = x.chunk(2, -1)
        return torch.cat((-b, a), -1)
    if mode == "interleave":
        pairs = x.unflatten(-1, (-1, 2))
        return torch.stack((-pairs[..., 1], pairs[..., 0]), -1).flatten(-2)
    if mode == "quarter":
        a, b, c, d = x.chunk(4, -1)
        return torch.cat((-b, a, -d, c), -1)
    return unsupported(operator, f"rotary_mode {mode!r}")


def _rotary(x: Tensor, cos: Tensor, sin: Tensor, mode: str, operator: str) -> Tensor:
    return widened(x) * widened(cos) + _rotated(widened(x), mode, operator) * widened(sin)


@reference("npu_rotary_mul")
def npu_rotary_mul(
    input: Tensor,
    r1: Tensor,
    r2: Tensor,
    rotary_mode: str = "half",
    rotate: Tensor | None = None,
) -> Tensor:
    """``input * r1 + rotated(input) * r2``.

    Args:
        input: ``(..., D)``, with r1 and r2 broadcast to it.
        rotary_mode: ``half`` or ``interleave``.
        rotate: A matrix ``(D, D)`` that rotates by multiplication, instead of the mode.
    """
    if rotary_mode not in ("half", "interleave"):
        unsupported("npu_rotary_mul", f"rotary_mode {rotary_mode!r}")
    if rotate is not None:
        x = widened(input)
        turned = x @ widened(rotate)
        return (x * widened(r1) + turned * widened(r2)).to(input.dtype)
    return _rotary(input, r1, r2, rotary_mode, "npu_rotary_mul").to(input.dtype)


@reference("npu_rotary_mul_backward")
def npu_rotary_mul_backward(
    grad: Tensor, input: Tensor, r1: Tensor, r2: Tensor, rotary_mode: str = "half"
) -> tuple[Any, ...]:
    """Gradients of input, r1 and r2, all in the dtype of ``input``.

    torch_npu does not tell this operator of a rotation by matrix, so that its gradient is
    that of the mode.
    """

    def forward(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return _rotary(x, cos, sin, rotary_mode, "npu_rotary_mul_backward")

    return narrowed(vjp(forward, [input, r1, r2], [grad]), (input, input, input))


@reference("npu_apply_rotary_pos_emb")
def npu_apply_rotary_pos_emb(
    query: Tensor,
    key: Tensor,
    cos: Tensor,
    sin: Tensor,
    layout: str = "BSND",
    rotary_mode: str = "half",
) -> tuple[Tensor, Tensor]:
    """Rotary embedding of query and key: the first columns, as many as ``cos`` has.

    Both are changed in place, and returned.

    Args:
        layout: The name of the dimensions; ``cos`` and ``sin`` broadcast to them.
        rotary_mode: ``half``, ``interleave`` or ``quarter``.
    """
    if layout not in ("BSND", "SBND", "BNSD", "TND"):
        unsupported("npu_apply_rotary_pos_emb", f"layout {layout!r}")
    width = cos.size(-1)
    for tensor in (query, key):
        turned = _rotary(tensor[..., :width], cos, sin, rotary_mode, "npu_apply_rotary_pos_emb")
        tensor[..., :width] = turned.to(tensor.dtype)
    return query, key


@reference("npu_interleave_rope")
def npu_interleave_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Neighbours are first sorted into halves, then rotated as halves: ``(B, N, S, D)``."""
    halves = x.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)
    return _rotary(halves, cos, sin, "half", "npu_interleave_rope").to(x.dtype)
