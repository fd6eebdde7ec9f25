"""Deformable convolution by mx_driving or by torch_npu.

torch_npu: ``npu_deformable_conv2d`` and ``npu_deformable_conv2dbk``, op-plugin's
documentation. The image is NCHW and the weights OIHW; one tensor carries all x, then all
y, then all masks. Padding is top, bottom, left, right (mmcv#2805).
"""

from __future__ import annotations

from typing import Any, Callable

import torch
from torch import Tensor

from .._check import compute_dtype
from ..deform_conv import deform_conv2d_backward_op, deform_conv2d_op
from ._binding import bind, bind_differentiable, vjp
from ._mx_driving import mx_driving

__all__: list[str] = []

_Sizes = list[int]

# The limits that op-plugin documents.
_MOST_TAPS, _MOST_WEIGHTS, _MOST_PIXELS = 2048, 65535, 2**31 - 1


def _covered_by_torch_npu(input: Tensor, offset: Tensor, weight: Tensor) -> bool:
    _, per_group, *kernel = weight.shape
    taps = kernel[0] * kernel[1]
    return (
        min(input.numel(), offset.numel(), weight.numel()) > 0
        and taps <= _MOST_TAPS
        and taps * per_group <= _MOST_WEIGHTS
        and input.shape[2] * input.shape[3] <= _MOST_PIXELS
    )


def _packed(offset: Tensor, mask: Tensor | None) -> Tensor:
    """``offset``, which has y and x of each tap in turn, and ``mask`` as torch_npu wants them."""
    y, x = offset[:, 0::2], offset[:, 1::2]
    # CANN describes the kernel for modulated convolution alone: a mask of ones is none.
    return torch.cat((x, y, torch.ones_like(x) if mask is None else mask), 1).float()


def _options(
    weight: Tensor,
    stride: _Sizes,
    padding: _Sizes,
    dilation: _Sizes,
    groups: int,
    deform_groups: int,
) -> dict[str, Any]:
    return {
        "kernel_size": list(weight.shape[2:]),
        "stride": [1, 1, *stride],
        "padding": [padding[0], padding[0], padding[1], padding[1]],
        "dilation": [1, 1, *dilation],
        "groups": groups,
        "deformable_groups": deform_groups,
        "modulated": True,
    }


def _of_mx_driving(
    input: Tensor, mask: Tensor | None, weight: Tensor, options: tuple[Any, ...]
) -> Callable[..., Tensor] | None:
    """Its function of input, offset, (mask,) weight; None if it does not cover the call.

    The size of the kernel and the multiple of 64 filters are in its code, not in its
    documentation.
    """
    function = mx_driving("deform_conv2d" if mask is None else "modulated_deform_conv2d")
    covered = (
        function is not None
        and options[-1] == 1
        and tuple(weight.shape[2:]) == (3, 3)
        and input.shape[1] % 64 == 0
        and weight.shape[0] % 64 == 0
        and input.numel() > 0
    )
    if function is None or not covered:
        return None
    found = function
    if mask is None:
        return lambda *tensors: found(*tensors, *options)
    return lambda *tensors: found(*tensors, None, *options)  # it has no bias


def _forward(
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *options: Any,
) -> Tensor | None:
    if compute_dtype(input.dtype) != torch.float32:
        return None
    tensors = [t.float() for t in (input, offset, mask, weight) if t is not None]
    wide = None if bias is None else bias.float()
    function = _of_mx_driving(input, mask, weight, options)
    if function is not None:
        output = function(*tensors)
        output = output if wide is None else output + wide[:, None, None]
        return output.to(input.dtype)
    if not _covered_by_torch_npu(input, offset, weight):
        return None
    output, _ = torch.ops.npu.npu_deformable_conv2d(
        *(tensors[0], tensors[-1], _packed(offset, mask), wide), **_options(weight, *options)
    )
    return output.to(input.dtype)


def _backward(
    grad_output: Tensor,
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """For who calls the operator ``deform_conv2d_backward``: it has kept nothing."""
    if compute_dtype(input.dtype) != torch.float32:
        return None
    *options, needed = options  # type: ignore[assignment]
    grad = grad_output.float()
    tensors = tuple(t.float() for t in (input, offset, mask, weight) if t is not None)
    function = _of_mx_driving(input, mask, weight, tuple(options))
    if function is not None:
        grads: list[Tensor | None] = list(vjp(function, tensors, grad))
        if mask is None:
            grads.insert(2, None)
    elif _covered_by_torch_npu(input, offset, weight):
        named = _options(weight, *options)
        packed = _packed(offset, mask)
        image, filters = tensors[0], tensors[-1]
        _, sampled = torch.ops.npu.npu_deformable_conv2d(image, filters, packed, None, **named)
        grad_input, grad_weight, grad_packed, _ = torch.ops.npu.npu_deformable_conv2dbk(
            image, grad, sampled, filters, packed, **named
        )
        grad_x, grad_y, grad_mask = grad_packed.chunk(3, 1)
        grad_offset = torch.stack((grad_y, grad_x), 2).flatten(1, 2)
        # Outputs of an operator must not share memory.
        grads = [grad_input, grad_offset, grad_mask.clone(), grad_weight]
    else:
        return None
    wanted = (
        g.to(input.dtype) if want and t is not None and g is not None else input.new_empty(0)
        for g, t, want in zip(grads, (input, offset, mask, weight), needed)
    )
    first, second, third, fourth = wanted
    return first, second, third, fourth


bind_differentiable(deform_conv2d_op, _forward)
bind(deform_conv2d_backward_op, _backward)
