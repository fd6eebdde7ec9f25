"""Products of matrices and convolutions that torch has for GPUs alone, or is slow at."""

from __future__ import annotations

from typing import Any, Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mx_autopatch.softnpu.aten.outputs import into_out

__all__ = ["FUNCTIONS"]

_aten = torch.ops.aten
_HALF = (torch.float16, torch.bfloat16)


def _checked(tensor: Tensor, out_dtype: torch.dtype) -> None:
    """As on a GPU: the result is of the operands' dtype, or float32 of half precision."""
    if out_dtype == tensor.dtype or (out_dtype == torch.float32 and tensor.dtype in _HALF):
        return
    raise RuntimeError(
        "out_dtype must be the same as input dtype or fp32 for fp16/bf16 inputs, "
        f"but found {out_dtype} for {tensor.dtype}"
    )


def mm(self: Tensor, mat2: Tensor, out_dtype: torch.dtype) -> Tensor:
    _checked(self, out_dtype)
    return torch.mm(self.to(out_dtype), mat2.to(out_dtype))


def bmm(self: Tensor, mat2: Tensor, out_dtype: torch.dtype) -> Tensor:
    _checked(self, out_dtype)
    return torch.bmm(self.to(out_dtype), mat2.to(out_dtype))


def addmm(
    self: Tensor, mat1: Tensor, mat2: Tensor, out_dtype: torch.dtype, **scales: Any
) -> Tensor:
    _checked(mat1, out_dtype)
    operands = (self.to(out_dtype), mat1.to(out_dtype), mat2.to(out_dtype))
    return torch.addmm(*operands, **scales)


def baddbmm(
    self: Tensor, batch1: Tensor, batch2: Tensor, out_dtype: torch.dtype, **scales: Any
) -> Tensor:
    _checked(batch1, out_dtype)
    operands = (self.to(out_dtype), batch1.to(out_dtype), batch2.to(out_dtype))
    return torch.baddbmm(*operands, **scales)


def matmul_backward(
    grad: Tensor, self: Tensor, other: Tensor, mask: list[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of ``torch.matmul(self, other)``; a vector is a row or a column."""
    row, column = self.dim() == 1, other.dim() == 1
    left = self.unsqueeze(0) if row else self
    right = other.unsqueeze(1) if column else other
    if column:
        grad = grad.unsqueeze(-1)
    if row:
        grad = grad.unsqueeze(-2)
    to_left = (grad @ right.mT).sum_to_size(left.size()).view(self.size()) if mask[0] else None
    to_right = (left.mT @ grad).sum_to_size(right.size()).view(other.size()) if mask[1] else None
    return to_left, to_right


def conv_depthwise2d(
    self: Tensor,
    weight: Tensor,
    kernel_size: list[int],
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
) -> Tensor:
    """``conv2d`` with a group for each channel."""
    return F.conv2d(self, weight, bias, stride, padding, dilation, groups=self.size(-3))


def _in_float32(*tensors: Tensor | None) -> list[Tensor | None]:
    """Of float16 in float32, in which NPUs sum up and the CPU convolves 50 times as fast."""
    return [t if t is None or t.dtype != torch.float16 else t.float() for t in tensors]


def convolution(input: Tensor, weight: Tensor, bias: Tensor | None, *shape: Any) -> Tensor:
    """Any convolution; ``shape`` is what aten.convolution takes after its tensors."""
    output: Tensor = _aten.convolution(*_in_float32(input, weight, bias), *shape)
    return output.to(input.dtype)


def convolution_backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    bias_sizes: list[int] | None,
    *shape: Any,
) -> tuple[Tensor | None, ...]:
    """The gradients of input, weight and bias of any convolution."""
    operands = _in_float32(grad_output, input, weight)
    gradients = _aten.convolution_backward(*operands, bias_sizes, *shape)
    return tuple(g if g is None else g.to(input.dtype) for g in gradients)


def convolution_backward_overrideable(
    grad_output: Tensor, input: Tensor, weight: Tensor, *shape: Any
) -> tuple[Tensor | None, ...]:
    """The same, with the sizes of the bias known by the gradient."""
    return convolution_backward(grad_output, input, weight, [grad_output.size(1)], *shape)


def masked_scale(self: Tensor, mask: Tensor, scale: float) -> Tensor:
    """The backward of a dropout that kept ``mask`` and scaled by ``scale``."""
    return self * mask.to(self.dtype) * scale


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "aten::mm.dtype": mm,
    "aten::mm.dtype_out": into_out(mm),
    "aten::bmm.dtype": bmm,
    "aten::bmm.dtype_out": into_out(bmm),
    "aten::addmm.dtype": addmm,
    "aten::addmm.dtype_out": into_out(addmm),
    "aten::baddbmm.dtype": baddbmm,
    "aten::baddbmm.dtype_out": into_out(baddbmm),
    "aten::matmul_backward": matmul_backward,
    "aten::_conv_depthwise2d": conv_depthwise2d,
    "aten::_conv_depthwise2d.out": into_out(conv_depthwise2d),
    "aten::convolution": convolution,
    "aten::convolution_overrideable": convolution,
    "aten::convolution_backward": convolution_backward,
    "aten::convolution_backward_overrideable": convolution_backward_overrideable,
    "aten::_masked_scale": masked_scale,
}
