"""Deformable convolution, plain and modulated.

Dai et al. 2017, "Deformable Convolutional Networks"; Zhu et al. 2019, "Deformable
ConvNets v2: More Deformable, Better Results".
Upstream: ``mmcv.ops.deform_conv2d`` and ``mmcv.ops.modulated_deform_conv2d``
(compiled), mmcv 1.3 - 2.2.

The image is sampled where each tap of the kernel points, which gives a matrix of
columns, and that is multiplied with the weights. Columns have their channels
innermost: a sample of a whole deformation group is one weighted gather of rows.
Images are taken a few at a time, so that the columns stay small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._check import check_same_device, check_tensor
from ._deform_columns import DeformColumns, by_group, image_parts, weight_matrix
from ._deform_geometry import (
    beginning,
    check_arguments,
    of_beginning,
    options_of,
    output_size,
)

__all__ = [
    "beginning",
    "deform_conv2d",
    "deform_conv2d_backward",
    "modulated_deform_conv2d",
    "of_beginning",
    "options_of",
    "output_size",
]


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """Convolve, with each tap of the kernel moved by an offset of its own.

    Args:
        input: (B, C, H, W) floating.
        offset: (B, deform_groups * kh * kw * 2, Ho, Wo), in pixels; for each group and
            tap first y, then x.
        weight: (O, C / groups, kh, kw).
        stride, padding, dilation: of both axes, or (y, x).
        groups: of the convolution.
        deform_groups: the channels of ``input`` in so many groups, each with offsets
            of its own.

    Returns:
        (B, O, Ho, Wo) in the dtype of ``input``, differentiable once in all tensors.
        ``input`` is 0 outside; an offset of NaN points outside. Half precision is
        calculated in float32 and rounded once.

    Raises:
        TypeError: an argument is no tensor, not floating, or not of the dtype of ``input``.
        ValueError: wrong shape or size, or different devices.
    """
    name = "deform_conv2d"
    options = options_of(name, stride, padding, dilation, groups, deform_groups)
    check_arguments(name, input, offset, None, weight, None, *options)
    return deform_conv2d_op(input, offset, None, weight, None, *options)


def modulated_deform_conv2d(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """``deform_conv2d`` whose samples are multiplied by ``mask``, plus ``bias``.

    Args:
        mask: (B, deform_groups * kh * kw, Ho, Wo).
        bias: (O,) or None.
    """
    name = "modulated_deform_conv2d"
    if mask is None:
        raise TypeError(f"{name}: mask: expected a torch.Tensor, got NoneType")
    options = options_of(name, stride, padding, dilation, groups, deform_groups)
    check_arguments(name, input, offset, mask, weight, bias, *options)
    return deform_conv2d_op(input, offset, mask, weight, bias, *options)


def deform_conv2d_backward(
    grad_output: Tensor,
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
    groups: int,
    deform_groups: int,
    needed: Sequence[bool] = (True, True, True, True),
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients in ``input``, ``offset``, ``mask`` and ``weight``.

    Other arguments as forward had them. What is not ``needed``, and that of a mask
    which is None, is an empty tensor.
    """
    name = "deform_conv2d_backward"
    options = options_of(name, stride, padding, dilation, groups, deform_groups)
    output = check_arguments(name, input, offset, mask, weight, None, *options)
    check_tensor(name, "grad_output", grad_output, output, input.dtype)
    check_same_device(name, input=input, grad_output=grad_output)
    return deform_conv2d_backward_op(
        grad_output, input, offset, mask, weight, *options, [bool(n) for n in needed]
    )


_OPTIONS = (
    "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups, SymInt deform_groups"
)


@torch.library.custom_op(
    "mx_autopatch::deform_conv2d",
    mutates_args=(),
    schema="(Tensor input, Tensor offset, Tensor? mask, Tensor weight, Tensor? bias, "
    f"{_OPTIONS}) -> Tensor",
)
def deform_conv2d_op(
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    deform_groups: int,
) -> Tensor:
    size = output_size(input, weight, stride, padding, dilation)
    output = input.new_empty((input.shape[0], weight.shape[0], *size))
    if not (output.numel() and input.numel()):
        return output.zero_() if bias is None else output.copy_(bias[:, None, None])
    matrix = weight_matrix(weight, groups)
    for part in image_parts(input.shape[0], size, matrix):
        columns = DeformColumns(
            input[part],
            offset[part],
            None if mask is None else mask[part],
            weight.shape[2:],
            stride,
            padding,
            dilation,
            deform_groups,
        )
        rows = torch.bmm(by_group(columns.values(), groups), matrix.transpose(1, 2))
        # (groups, images * pixels, O / groups)
        rows = rows.view(groups, -1, size[0] * size[1], rows.shape[2])
        target = output[part].view(rows.shape[1], groups, rows.shape[3], rows.shape[2])
        rows = rows.permute(1, 0, 3, 2)
        if bias is None:
            target.copy_(rows)
        else:
            target.copy_(rows + bias.to(rows.dtype).view(groups, -1, 1))
    return output


@torch.library.custom_op(
    "mx_autopatch::deform_conv2d_backward",
    mutates_args=(),
    schema="(Tensor grad_output, Tensor input, Tensor offset, Tensor? mask, Tensor weight, "
    f"{_OPTIONS}, bool[] needed) -> (Tensor, Tensor, Tensor, Tensor)",
)
def deform_conv2d_backward_op(
    grad_output: Tensor,
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    deform_groups: int,
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grads = _gradients(input, offset, mask, weight, needed)
    grad_input, grad_offset, grad_mask, grad_weight = grads
    if not (grad_output.numel() and input.numel()):
        for grad in grads:
            grad.zero_()
        return grads
    matrix = weight_matrix(weight, groups)
    grad_matrix = torch.zeros_like(matrix)
    for part in image_parts(input.shape[0], list(grad_output.shape[2:]), matrix):
        columns = DeformColumns(
            input[part],
            offset[part],
            None if mask is None else mask[part],
            weight.shape[2:],
            stride,
            padding,
            dilation,
            deform_groups,
        )
        grad = grad_output[part].to(matrix.dtype).unflatten(1, (groups, -1)).transpose(0, 1)
        # (groups, images, O / groups, Ho, Wo) as (groups, O / groups, images * pixels)
        grad = grad.transpose(1, 2).flatten(2).contiguous()
        if needed[3]:
            grad_matrix.baddbmm_(grad, by_group(columns.values(), groups))
        if not any(needed[:3]):
            continue
        grad_columns = torch.bmm(grad.transpose(1, 2), matrix)
        grad_columns = grad_columns.view(groups, grad.shape[2], -1, input.shape[1] // groups)
        grad_columns = grad_columns.permute(1, 2, 0, 3).flatten(2)
        if needed[0]:
            grad_input[part] = columns.grad_input(grad_columns)
        if needed[1]:
            grad_offset[part] = columns.grad_offset(grad_columns)
        if needed[2] and mask is not None:
            grad_mask[part] = columns.grad_mask(grad_columns)
    if needed[3]:
        out, per_group, *kernel = weight.shape
        grad_weight.copy_(grad_matrix.view(out, *kernel, per_group).permute(0, 3, 1, 2))
    return grads


def _gradients(
    input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, needed: list[bool]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grads = [
        input.new_empty(t.shape if want and t is not None else (0,))
        for t, want in zip((input, offset, mask, weight), needed)
    ]
    return grads[0], grads[1], grads[2], grads[3]


@deform_conv2d_op.register_fake
def _(
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    deform_groups: int,
) -> Tensor:
    size = output_size(input, weight, stride, padding, dilation)
    return input.new_empty((input.shape[0], weight.shape[0], *size))


@deform_conv2d_backward_op.register_fake
def _(
    grad_output: Tensor,
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    deform_groups: int,
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _gradients(input, offset, mask, weight, needed)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, offset, mask, weight, _, *ctx.options = inputs
    ctx.save_for_backward(input, offset, mask, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needed = list(ctx.needs_input_grad[:4])
    grads: list[Tensor | None] = [None] * 4
    if any(needed):
        results = deform_conv2d_backward_op(grad, *ctx.saved_tensors, *ctx.options, needed)
        grads = [g if want else None for g, want in zip(results, needed)]
    bias = grad.sum((0, 2, 3)) if ctx.needs_input_grad[4] else None
    return *grads, bias, None, None, None, None, None


deform_conv2d_op.register_autograd(_backward, setup_context=_setup_context)
