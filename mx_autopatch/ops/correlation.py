"""Correlation of two feature maps over displacements, the cost volume of optical flow.

Dosovitskiy et al. 2015, "FlowNet: Learning Optical Flow with Convolutional Networks".
Upstream: ``mmcv.ops.Correlation`` (compiled for CUDA only), mmcv 1.3.5 - 2.2.

For each displacement the maps are multiplied, one shifted, and summed over the channels;
what remains is one channel a displacement, over which the window is summed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pad

from ._check import check_same_device, check_tensor, compute_dtype, pair

__all__ = ["correlation", "correlation_backward", "correlation_forward"]


def correlation(
    input1: Tensor,
    input2: Tensor,
    kernel_size: int | Sequence[int] = 1,
    max_displacement: int = 1,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    dilation_patch: int | Sequence[int] = 1,
) -> Tensor:
    """Inner products of windows of ``input1`` with displaced windows of ``input2``.

    Args:
        input1, input2: (B, C, H, W) floating; both are 0 outside.
        kernel_size: of the window.
        max_displacement: displacements along an axis are ``-max_displacement`` to
            ``max_displacement`` times ``dilation_patch``.
        stride, padding, dilation: of the window, as of a convolution.
        dilation_patch: pixels from one displacement to the next.
        Sizes are of both axes, or (y, x).

    Returns:
        (B, P, P, Ho, Wo) with ``P = 2 * max_displacement + 1``, displacement along y first,
        in the dtype of the inputs, differentiable once. Half precision is calculated in
        float32 and rounded once.

    Raises:
        TypeError: an argument is no tensor, not floating, or of different dtypes.
        ValueError: wrong shape or size, or different devices.
    """
    if max_displacement < 0:
        raise ValueError(
            f"correlation: max_displacement: expected at least 0, got {max_displacement}"
        )
    patch = 2 * int(max_displacement) + 1
    options = kernel_size, patch, stride, padding, dilation, dilation_patch
    return correlation_forward(input1, input2, *options)


def correlation_forward(
    input1: Tensor,
    input2: Tensor,
    kernel_size: int | Sequence[int],
    patch_size: int | Sequence[int],
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
    dilation_patch: int | Sequence[int],
) -> Tensor:
    """``correlation`` with the number of displacements along y and x, both odd."""
    name = "correlation"
    options = _options(name, kernel_size, patch_size, stride, padding, dilation, dilation_patch)
    _check(name, input1, input2, *options)
    return correlation_op(input1, input2, *options)


def correlation_backward(
    grad_output: Tensor,
    input1: Tensor,
    input2: Tensor,
    kernel_size: int | Sequence[int],
    patch_size: int | Sequence[int],
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
    dilation_patch: int | Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Gradients in both inputs; ``patch_size`` counts displacements along y and x."""
    name = "correlation_backward"
    options = _options(name, kernel_size, patch_size, stride, padding, dilation, dilation_patch)
    shape = _check(name, input1, input2, *options)
    check_tensor(name, "grad_output", grad_output, shape, input1.dtype)
    check_same_device(name, input1=input1, grad_output=grad_output)
    return correlation_backward_op(grad_output, input1, input2, *options)


def _options(
    op: str,
    kernel_size: int | Sequence[int],
    patch_size: int | Sequence[int],
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
    dilation_patch: int | Sequence[int],
) -> list[list[int]]:
    patch = pair(op, "patch_size", patch_size, 1)
    if patch[0] % 2 == 0 or patch[1] % 2 == 0:
        raise ValueError(f"{op}: patch_size: expected odd sizes, got {patch_size}")
    return [
        pair(op, "kernel_size", kernel_size, 1),
        patch,
        pair(op, "stride", stride, 1),
        pair(op, "padding", padding, 0),
        pair(op, "dilation", dilation, 1),
        pair(op, "dilation_patch", dilation_patch, 1),
    ]


def _check(op: str, input1: Tensor, input2: Tensor, *options: list[int]) -> tuple[int, ...]:
    """Raise for a bad argument; return the shape of the output."""
    check_tensor(op, "input1", input1, ("B", "C", "H", "W"))
    check_tensor(op, "input2", input2, tuple(input1.shape), input1.dtype)
    check_same_device(op, input1=input1, input2=input2)
    shape = _output_shape(input1, *options)
    if min(shape[3:]) < 1:
        raise ValueError(
            f"{op}: input1: expected a size that the kernel {tuple(options[0])} fits into, "
            f"got {tuple(input1.shape[2:])}"
        )
    return shape


def _output_shape(input1: Tensor, *options: list[int]) -> tuple[int, ...]:
    kernel, patch, stride, padding, dilation, _ = options
    size = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(input1.shape[2:], kernel, stride, padding, dilation)
    )
    return input1.shape[0], *patch, *size


class _Shifts:
    """``input2`` at all displacements, and sums that undo them."""

    def __init__(self, input2: Tensor, patch: list[int], step: list[int]) -> None:
        self.patch, self.step = patch, step
        self.size = input2.shape[2:]
        self.reach = [(n // 2) * d for n, d in zip(patch, step)]
        y, x = self.reach
        self.padded = pad(input2.to(compute_dtype(input2.dtype)), (x, x, y, y))

    def windows(self, padded: Tensor) -> Iterator[tuple[int, int, Tensor]]:
        """Views of ``padded``, one a displacement."""
        height, width = self.size
        for i in range(self.patch[0]):
            rows = padded[:, :, i * self.step[0] :][:, :, :height]
            for j in range(self.patch[1]):
                yield i, j, rows[:, :, :, j * self.step[1] :][:, :, :, :width]

    def cropped(self, padded: Tensor) -> Tensor:
        (y, x), (height, width) = self.reach, self.size
        return padded[:, :, y : y + height, x : x + width]


def _window(like: Tensor, kernel: list[int]) -> Tensor:
    return like.new_ones(1, 1, *kernel)


_SCHEMA = (
    "Tensor input1, Tensor input2, SymInt[] kernel_size, SymInt[] patch_size, SymInt[] stride, "
    "SymInt[] padding, SymInt[] dilation, SymInt[] dilation_patch"
)


@torch.library.custom_op(
    "mx_autopatch::correlation", mutates_args=(), schema=f"({_SCHEMA}) -> Tensor"
)
def correlation_op(input1: Tensor, input2: Tensor, *options: list[int]) -> Tensor:
    kernel, patch, stride, padding, dilation, step = options
    shifts = _Shifts(input2, patch, step)
    first = input1.to(shifts.padded.dtype)
    product = torch.empty_like(first)
    costs = first.new_empty((first.shape[0], *patch, *first.shape[2:]))
    for i, j, second in shifts.windows(shifts.padded):
        torch.mul(first, second, out=product)
        torch.sum(product, 1, out=costs[:, i, j])
    sums = conv2d(
        costs.view(-1, 1, *first.shape[2:]),
        _window(costs, kernel),
        stride=stride,
        padding=padding,
        dilation=dilation,
    )
    return sums.view(_output_shape(input1, *options)).to(input1.dtype)


@torch.library.custom_op(
    "mx_autopatch::correlation_backward",
    mutates_args=(),
    schema=f"(Tensor grad_output, {_SCHEMA}) -> (Tensor, Tensor)",
)
def correlation_backward_op(
    grad_output: Tensor, input1: Tensor, input2: Tensor, *options: list[int]
) -> tuple[Tensor, Tensor]:
    kernel, patch, stride, padding, dilation, step = options
    shifts = _Shifts(input2, patch, step)
    first = input1.to(shifts.padded.dtype)
    grad = grad_output.to(first.dtype).reshape(-1, 1, *grad_output.shape[3:])
    # Pixels behind the last window, which a stride leaves over.
    over = [
        (n + 2 * p - d * (k - 1) - 1) % s
        for n, k, s, p, d in zip(first.shape[2:], kernel, stride, padding, dilation)
    ]
    costs = conv_transpose2d(
        grad,
        _window(grad, kernel),
        stride=stride,
        padding=padding,
        output_padding=over,
        dilation=dilation,
    ).view(first.shape[0], *patch, *first.shape[2:])
    grad1 = torch.zeros_like(first)
    grad2 = torch.zeros_like(shifts.padded)
    windows = zip(shifts.windows(shifts.padded), shifts.windows(grad2))
    for (i, j, second), (_, _, target) in windows:
        cost = costs[:, i, j, None]
        grad1.addcmul_(cost, second)
        target.addcmul_(cost, first)
    return grad1.to(input1.dtype), shifts.cropped(grad2).to(input2.dtype, copy=True)


@correlation_op.register_fake
def _(input1: Tensor, input2: Tensor, *options: list[int]) -> Tensor:
    return input1.new_empty(_output_shape(input1, *options))


@correlation_backward_op.register_fake
def _(
    grad_output: Tensor, input1: Tensor, input2: Tensor, *options: list[int]
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(input1), torch.empty_like(input2)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input1, input2, *ctx.options = inputs
    ctx.save_for_backward(input1, input2)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = correlation_backward_op(grad, *ctx.saved_tensors, *ctx.options)
    return *grads, *(None for _ in ctx.options)


correlation_op.register_autograd(_backward, setup_context=_setup_context)
