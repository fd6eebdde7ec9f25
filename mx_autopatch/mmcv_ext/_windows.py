"""Operators on the surroundings of pixels, in the extension's calling convention.

Buffers that the compiled functions rearrange tensors in are ignored, but for those that
one function hands to the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "carafe_backward",
    "carafe_forward",
    "carafe_naive_backward",
    "carafe_naive_forward",
    "correlation_backward",
    "correlation_forward",
    "masked_col2im_forward",
    "masked_im2col_forward",
    "psamask_backward",
    "psamask_forward",
]

_PSA_TYPES = ("collect", "distribute")  # as mmcv numbers them


def carafe_naive_forward(
    features: Tensor,
    masks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill in ``output``."""
    from mx_autopatch.ops.carafe import carafe

    output.copy_(carafe(features, masks, kernel_size, group_size, scale_factor))


def carafe_naive_backward(
    top_grad: Tensor,
    features: Tensor,
    masks: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill in ``bottom_grad`` and ``mask_grad``."""
    from mx_autopatch.ops.carafe import carafe_backward

    options = kernel_size, group_size, scale_factor
    grads = carafe_backward(top_grad, features, masks, *options)
    for target, grad in zip((bottom_grad, mask_grad), grads):
        target.copy_(grad)


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill in ``output``, and ``rfeatures`` for the backward.

    The compiled function puts channels last there. Nobody else looks at it, and to resize an
    argument would be too much for compilers.
    """
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)


def carafe_backward(
    top_grad: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rtop_grad: Tensor,
    rbottom_grad_hs: Tensor,
    rbottom_grad: Tensor,
    rmask_grad: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill in ``bottom_grad`` and ``mask_grad``."""
    options = kernel_size, group_size, scale_factor
    carafe_naive_backward(top_grad, rfeatures, masks, bottom_grad, mask_grad, *options)


def psamask_forward(
    input: Tensor,
    output: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Fill in ``output``."""
    from mx_autopatch.ops.psa_mask import psa_mask

    output.copy_(psa_mask(input, _PSA_TYPES[psa_type], (h_mask, w_mask)))


def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Fill in ``grad_input``."""
    from mx_autopatch.ops.psa_mask import psa_mask_backward

    grad_input.copy_(psa_mask_backward(grad_output, _PSA_TYPES[psa_type], (h_mask, w_mask)))


def correlation_forward(
    input1: Tensor,
    input2: Tensor,
    output: Tensor,
    kH: int,
    kW: int,
    patchH: int,
    patchW: int,
    padH: int,
    padW: int,
    dilationH: int,
    dilationW: int,
    dilation_patchH: int,
    dilation_patchW: int,
    dH: int,
    dW: int,
) -> None:
    """Fill in ``output``."""
    from mx_autopatch.ops.correlation import correlation_forward

    options = (kH, kW), (patchH, patchW), (dH, dW), (padH, padW), (dilationH, dilationW)
    step = dilation_patchH, dilation_patchW
    output.copy_(correlation_forward(input1, input2, *options, step))


def correlation_backward(
    grad_output: Tensor,
    input1: Tensor,
    input2: Tensor,
    grad_input1: Tensor,
    grad_input2: Tensor,
    kH: int,
    kW: int,
    patchH: int,
    patchW: int,
    padH: int,
    padW: int,
    dilationH: int,
    dilationW: int,
    dilation_patchH: int,
    dilation_patchW: int,
    dH: int,
    dW: int,
) -> None:
    """Fill in ``grad_input1`` and ``grad_input2``."""
    from mx_autopatch.ops.correlation import correlation_backward

    options = (kH, kW), (patchH, patchW), (dH, dW), (padH, padW), (dilationH, dilationW)
    step = dilation_patchH, dilation_patchW
    grads = correlation_backward(grad_output, input1, input2, *options, step)
    for target, grad in zip((grad_input1, grad_input2), grads):
        target.copy_(grad)


def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Fill in ``col``."""
    from mx_autopatch.ops.masked_conv import masked_im2col

    kernel, padding = (kernel_h, kernel_w), (pad_h, pad_w)
    col.copy_(masked_im2col(im, mask_h_idx, mask_w_idx, kernel, padding))


def masked_col2im_forward(
    col: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    im: Tensor,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Write the pixels into ``im``, and leave the others alone."""
    from mx_autopatch.ops.masked_conv import masked_col2im

    values = masked_col2im(col, mask_h_idx, mask_w_idx, (height, width))
    im[0, :, mask_h_idx, mask_w_idx] = values[0, :, mask_h_idx, mask_w_idx]
