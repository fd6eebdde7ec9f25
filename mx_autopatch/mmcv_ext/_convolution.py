"""Convolutions of the extension, in its calling convention.

Buffers that the compiled functions work in (``columns``, ``ones``) are ignored, and
so are hints on how to divide the work (``im2col_step``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "deform_conv_backward_input",
    "deform_conv_backward_parameters",
    "deform_conv_forward",
    "modulated_deform_conv_backward",
    "modulated_deform_conv_forward",
]


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Fill in ``output``."""
    from mx_autopatch.ops.deform_conv import deform_conv2d

    options = (dH, dW), (padH, padW), (dilationH, dilationW), group, deformable_group
    output.copy_(deform_conv2d(input, offset, weight, *options))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Fill in ``gradInput`` and ``gradOffset``."""
    from mx_autopatch.ops.deform_conv import deform_conv2d_backward

    options = (dH, dW), (padH, padW), (dilationH, dilationW), group, deformable_group
    needed = True, True, False, False
    grads = deform_conv2d_backward(gradOutput, input, offset, None, weight, *options, needed)
    gradInput.copy_(grads[0])
    gradOffset.copy_(grads[1])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradWeight: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Add ``scale`` times the gradient to ``gradWeight``."""
    from mx_autopatch.ops.deform_conv import deform_conv2d_backward

    options = (dH, dW), (padH, padW), (dilationH, dilationW), group, deformable_group
    # Of the weights only their shape matters to their gradient.
    needed = False, False, False, True
    grads = deform_conv2d_backward(gradOutput, input, offset, None, gradWeight, *options, needed)
    gradWeight.add_(grads[3], alpha=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Fill in ``output``."""
    from mx_autopatch.ops.deform_conv import beginning, modulated_deform_conv2d

    options = (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w)
    offset, mask = (beginning(t, output.shape[2:]) for t in (offset, mask))
    tensors = input, offset, mask, weight, bias if with_bias else None
    output.copy_(modulated_deform_conv2d(*tensors, *options, group, deformable_group))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Fill in the gradients of input, offset and mask; add those of the parameters."""
    from mx_autopatch.ops.deform_conv import beginning, deform_conv2d_backward, of_beginning

    options = (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w)
    offset, mask = (beginning(t, grad_output.shape[2:]) for t in (offset, mask))
    tensors = grad_output, input, offset, mask, weight
    grads = deform_conv2d_backward(*tensors, *options, group, deformable_group)
    for target, grad in zip((grad_input, grad_offset, grad_mask), grads):
        target.copy_(of_beginning(grad, target))
    grad_weight.add_(grads[3])
    if with_bias:
        grad_bias.add_(grad_output.sum((0, 2, 3)))
