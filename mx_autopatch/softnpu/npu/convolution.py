"""Convolutions, transposed and not, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mx_autopatch.softnpu.npu.reference import reference, vjp

__all__: list[str] = []

_Sizes = Sequence[int]


def _convolve(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: _Sizes,
    padding: _Sizes,
    dilation: _Sizes,
    groups: int,
) -> Tensor:
    spatial = input.dim() - 2
    if spatial == 2 and len(padding) == 4:  # top, bottom, left and right
        top, bottom, left, right = padding
        input, padding = F.pad(input, (left, right, top, bottom)), (0, 0)
    settings = [stride, padding, dilation]
    stride, padding, dilation = (list(s) * spatial if len(s) == 1 else list(s) for s in settings)
    result: Tensor = torch.ops.aten.convolution(
        input, weight, bias, stride, padding, dilation, False, [0] * spatial, groups
    )
    return result


def _transposed(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: _Sizes,
    output_padding: _Sizes,
    stride: _Sizes,
    dilation: _Sizes,
    groups: int,
) -> Tensor:
    result: Tensor = torch.ops.aten.convolution(
        input, weight, bias, stride, padding, dilation, True, output_padding, groups
    )
    return result


@reference("npu_conv2d", "npu_conv2d.out", "npu_conv3d", "npu_conv3d.out", "npu_convolution")
def npu_convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: _Sizes,
    padding: _Sizes,
    dilation: _Sizes,
    groups: int,
) -> Tensor:
    """torch's convolution; in two dimensions ``padding`` may give each side."""
    return _convolve(input, weight, bias, stride, padding, dilation, groups)


@reference("npu_conv_transpose2d", "npu_convolution_transpose")
def npu_convolution_transpose(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: _Sizes,
    output_padding: _Sizes,
    stride: _Sizes,
    dilation: _Sizes,
    groups: int,
) -> Tensor:
    return _transposed(input, weight, bias, padding, output_padding, stride, dilation, groups)


def _gradients(
    forward: Any, input: Tensor, grad: Tensor, weight: Tensor, mask: Sequence[bool], outputs: int
) -> tuple[Any, ...]:
    """Of input, weight and bias, as far as ``mask`` asks for them."""
    bias = weight.new_zeros(outputs)
    found = vjp(forward, [input, weight, bias], [grad])
    return tuple(g if wanted else None for g, wanted in zip(found, mask))


def _convolution_backward(
    input: Tensor,
    grad_output: Tensor,
    weight: Tensor,
    stride: _Sizes,
    padding: _Sizes,
    dilation: _Sizes,
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Any, ...]:
    def forward(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return _convolve(x, w, b, stride, padding, dilation, groups)

    return _gradients(forward, input, grad_output, weight, output_mask, weight.size(0))


def _transposed_backward(
    input: Tensor,
    grad_output: Tensor,
    weight: Tensor,
    padding: _Sizes,
    output_padding: _Sizes,
    stride: _Sizes,
    dilation: _Sizes,
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Any, ...]:
    def forward(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return _transposed(x, w, b, padding, output_padding, stride, dilation, groups)

    outputs = weight.size(1) * groups
    return _gradients(forward, input, grad_output, weight, output_mask, outputs)


@reference("npu_conv2d_backward", "npu_convolution_backward")
def npu_convolution_backward(
    input: Tensor,
    grad_output: Tensor,
    weight: Tensor,
    stride: _Sizes,
    padding: _Sizes,
    dilation: _Sizes,
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Any, ...]:
    """Gradients of input, weight and bias, None where ``output_mask`` says so."""
    return _convolution_backward(
        input, grad_output, weight, stride, padding, dilation, groups, output_mask
    )


@reference("npu_conv3d_backward")
def npu_conv3d_backward(
    input: Tensor,
    grad: Tensor,
    weight: Tensor,
    stride: _Sizes,
    padding: _Sizes,
    dilation: _Sizes,
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Any, ...]:
    return _convolution_backward(
        input, grad, weight, stride, padding, dilation, groups, output_mask
    )


@reference("npu_conv_transpose2d_backward", "npu_conv_transpose3d_backward")
def npu_conv_transpose_backward(
    input: Tensor,
    grad_output: Tensor,
    weight: Tensor,
    padding: _Sizes,
    output_padding: _Sizes,
    stride: _Sizes,
    dilation: _Sizes,
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Any, ...]:
    return _transposed_backward(
        input, grad_output, weight, padding, output_padding, stride, dilation, groups, output_mask
    )


@reference("npu_convolution_transpose_backward")
def npu_convolution_transpose_backward(
    input: Tensor,
    grad: Tensor,
    weight: Tensor,
    padding: _Sizes,
    output_padding: _Sizes,
    stride: _Sizes,
    dilation: _Sizes,
    groups: int,
    grad_input_mask: Sequence[bool],
) -> tuple[Any, ...]:
    return _transposed_backward(
        input, grad, weight, padding, output_padding, stride, dilation, groups, grad_input_mask
    )


# These three are called by torch_npu for torch's own operators of similar names.


@reference("slow_conv_dilated2d_backward")
def slow_conv_dilated2d_backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    kernel_size: _Sizes,
    stride: _Sizes,
    padding: _Sizes,
    dilation: _Sizes,
    output_mask: Sequence[bool],
) -> tuple[Any, ...]:
    return _convolution_backward(
        input, grad_output, weight, stride, padding, dilation, 1, output_mask
    )


@reference("slow_conv_transpose2d_backward")
def slow_conv_transpose2d_backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    kernel_size: _Sizes,
    stride: _Sizes,
    padding: _Sizes,
    output_padding: _Sizes,
    dilation: _Sizes,
    output_mask: Sequence[bool],
) -> tuple[Any, ...]:
    return _transposed_backward(
        input, grad_output, weight, padding, output_padding, stride, dilation, 1, output_mask
    )


@reference("_conv_depthwise2d_backward")
def _conv_depthwise2d_backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    kernel_size: _Sizes,
    stride: _Sizes,
    padding: _Sizes,
    dilation: _Sizes,
    output_mask: Sequence[bool],
) -> tuple[Any, ...]:
    """Gradients of input and weight; every channel is a group."""
    mask = [*output_mask, False]
    groups = input.size(1)
    return _convolution_backward(
        input, grad_output, weight, stride, padding, dilation, groups, mask
    )[:2]
