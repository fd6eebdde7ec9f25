"""Deformable convolution, modulated or not.

The operator has two results: the convolution, and the sampled input, in which each output
pixel is a block of ``kernel_h x kernel_w`` pixels. The second is what the backward pass is
given, so that a convolution whose stride is its kernel gives the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mx_autopatch.softnpu.npu.reference import narrowed, reference, vjp, widened
from mx_autopatch.softnpu.npu.sampling import bilinear

__all__: list[str] = []

_Sizes = Sequence[int]


def _sampled(
    input: Tensor,
    offset: Tensor,
    kernel_size: _Sizes,
    stride: _Sizes,
    padding: _Sizes,
    dilation: _Sizes,
    deformable_groups: int,
    modulated: bool,
) -> Tensor:
    """``(N, C, out_h * kernel_h, out_w * kernel_w)``: the input where the kernel looks."""
    batch, channels, height, width = input.shape
    kernel_h, kernel_w = kernel_size
    taps = kernel_h * kernel_w
    reach_h, reach_w = (kernel_h - 1) * dilation[2] + 1, (kernel_w - 1) * dilation[3] + 1
    out_h = (height + padding[0] + padding[1] - reach_h) // stride[2] + 1
    out_w = (width + padding[2] + padding[3] - reach_w) // stride[3] + 1
    parts = 3 if modulated else 2
    expected = (batch, parts * deformable_groups * taps, out_h, out_w)
    if tuple(offset.shape) != expected:
        raise RuntimeError(
            f"npu_deformable_conv2d: offset has shape {tuple(offset.shape)}, expected {expected}: "
            f"{'x, y and mask' if modulated else 'x and y'} of {deformable_groups} groups of "
            f"{kernel_h} x {kernel_w} taps"
        )
    # All the x, then all the y, then all the masks.
    split = offset.view(batch, parts, deformable_groups, kernel_h, kernel_w, out_h, out_w)

    def grid(taps: int, step: int, pixels: int, stride: int, before: int) -> Tensor:
        tap = torch.arange(taps, dtype=input.dtype, device=input.device) * step
        pixel = torch.arange(pixels, dtype=input.dtype, device=input.device) * stride - before
        return tap.view(-1, 1) + pixel

    rows = grid(kernel_h, dilation[2], out_h, stride[2], padding[0])
    columns = grid(kernel_w, dilation[3], out_w, stride[3], padding[2])
    x = split[:, 0] + columns.view(1, kernel_w, 1, out_w)
    y = split[:, 1] + rows.view(kernel_h, 1, out_h, 1)
    rows_of_groups = batch * deformable_groups
    values = bilinear(
        input.reshape(rows_of_groups, channels // deformable_groups, height, width),
        y.reshape(rows_of_groups, -1),
        x.reshape(rows_of_groups, -1),
    )
    if modulated:
        values = values * split[:, 2].reshape(rows_of_groups, 1, -1)
    blocks = values.view(batch, channels, kernel_h, kernel_w, out_h, out_w)
    return blocks.permute(0, 1, 4, 2, 5, 3).reshape(
        batch, channels, out_h * kernel_h, out_w * kernel_w
    )


@reference("npu_deformable_conv2d")
def npu_deformable_conv2d(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    bias: Tensor | None,
    kernel_size: _Sizes,
    stride: _Sizes,
    padding: _Sizes,
    dilation: _Sizes = (1, 1, 1, 1),
    groups: int = 1,
    deformable_groups: int = 1,
    modulated: bool = True,
) -> tuple[Tensor, Tensor]:
    """The convolution ``(N, C_out, out_h, out_w)``, and the sampled input.

    Args:
        input: ``(N, C, H, W)``.
        weight: ``(C_out, C / groups, kernel_h, kernel_w)``.
        offset: ``(N, 3 * deformable_groups * kernel_h * kernel_w, out_h, out_w)``: x, y and
            mask, each for every group and tap; without the mask if not ``modulated``.
        stride: Four numbers, of which the last two count; so for ``dilation``.
        padding: Top, bottom, left, right.
    """
    if list(kernel_size) != list(weight.shape[2:]):
        raise RuntimeError(
            f"npu_deformable_conv2d: kernel_size {list(kernel_size)} is not the weight's, "
            f"{list(weight.shape[2:])}"
        )
    x, w, o = (widened(t) for t in (input, weight, offset))
    sampled = _sampled(x, o, kernel_size, stride, padding, dilation, deformable_groups, modulated)
    b = None if bias is None else bias.to(x.dtype)
    result = F.conv2d(sampled, w, b, stride=list(kernel_size), groups=groups)
    return result.to(input.dtype), sampled.to(input.dtype)


@reference("npu_deformable_conv2dbk")
def npu_deformable_conv2dbk(
    input: Tensor,
    grad_output: Tensor,
    offset_out: Tensor,
    weight: Tensor,
    offset: Tensor,
    kernel_size: _Sizes,
    stride: _Sizes,
    padding: _Sizes,
    dilation: _Sizes = (1, 1, 1, 1),
    groups: int = 1,
    deformable_groups: int = 1,
    modulated: bool = True,
) -> tuple[Any, ...]:
    """Gradients of input, weight, offset and bias.

    Args:
        offset_out: The second result of the forward pass.
    """

    def convolve(sampled: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.conv2d(sampled, w, b, stride=list(kernel_size), groups=groups)

    def sample(x: Tensor, o: Tensor) -> Tensor:
        return _sampled(x, o, kernel_size, stride, padding, dilation, deformable_groups, modulated)

    given, sampled, w = (widened(t) for t in (grad_output, offset_out, weight))
    grad_sampled, grad_weight, grad_bias = vjp(
        convolve, [sampled, w, w.new_zeros(w.size(0))], [given]
    )
    grad_input, grad_offset = vjp(sample, [widened(input), widened(offset)], [grad_sampled])
    gradients = (grad_input, grad_weight, grad_offset, grad_bias)
    return narrowed(gradients, (input, weight, offset, weight))
