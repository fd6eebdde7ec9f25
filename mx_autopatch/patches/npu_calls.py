"""Calls of torch_npu's fused operators, and which tensors they are documented for.

Source: the operators' pages in op-plugin's docs (custom_APIs), Atlas A2 and A3 training.
Imported with torch and torch_npu, at the first call on an NPU.
"""

from __future__ import annotations

import torch
import torch_npu
from torch import Tensor

__all__ = ["can_rms_norm", "can_rotary", "can_swiglu", "rms_norm", "rotary", "swiglu"]

_HALVES = (torch.float16, torch.bfloat16)
_FLOATS = (torch.float32, *_HALVES)


def can_rms_norm(x: Tensor, weight: Tensor) -> bool:
    """Whether npu_rms_norm takes them: the weight is of the last dimensions, but not of all."""
    return (
        x.device.type == "npu"
        and weight.device == x.device
        and x.dtype in _FLOATS
        and (weight.dtype is x.dtype or (x.dtype in _HALVES and weight.dtype is torch.float32))
        and 2 <= x.dim() <= 8
        and 1 <= weight.dim() < x.dim()
        and x.shape[-weight.dim() :] == weight.shape
        and x.numel() > 0
    )


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``x / sqrt(mean(x^2) + eps) * weight``, in float32 inside; shape and dtype of x."""
    result: Tensor = torch_npu.npu_rms_norm(x, weight, eps)[0]
    return result


def can_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> bool:
    """Whether npu_rotary_mul takes ``(batch, heads, length, width)`` and what broadcasts to it.

    Not so where a gradient of the angles is asked for, which has limits of its own.
    """
    return (
        x.device.type == "npu"
        and x.dim() == cos.dim() == 4
        and cos.shape == sin.shape
        and x.dtype is cos.dtype is sin.dtype
        and x.dtype in _FLOATS
        and x.size(3) < 896
        and x.size(3) % 2 == 0
        and x.size(3) * x.element_size() % 32 == 0  # else it is slower than the parts
        and x.size(0) < 1000
        and x.size(1) < 1000
        and x.numel() > 0
        and cos.shape[2:] == x.shape[2:]
        and cos.size(1) in (1, x.size(1))
        and (cos.size(0) == x.size(0) or (cos.size(0) == cos.size(1) == 1))
        and not (cos.requires_grad or sin.requires_grad)
    )


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """``x * cos + rotate_half(x) * sin``."""
    result: Tensor = torch_npu.npu_rotary_mul(x, cos, sin)
    return result


def can_swiglu(x: Tensor) -> bool:
    """Whether npu_swiglu takes it; it halves the last dimension."""
    return (
        x.device.type == "npu"
        and x.dtype in _FLOATS
        and 1 <= x.dim() <= 8
        and x.size(-1) % 2 == 0
        and x.numel() > 0
    )


def swiglu(x: Tensor) -> Tensor:
    """``silu(a) * b`` of the halves a and b of the last dimension."""
    result: Tensor = torch_npu.npu_swiglu(x.contiguous(), dim=-1)
    return result
