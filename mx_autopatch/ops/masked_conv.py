"""The two halves of a convolution at chosen pixels only.

Upstream: ``mmcv.ops.masked_conv2d`` (compiled for CUDA only), mmcv 1.3 - 2.2: it multiplies
the weights with the columns of ``masked_im2col``, and ``masked_col2im`` puts the result back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._bilinear import pixel_rows
from ._check import check_same_device, check_tensor, compute_dtype, pair
from ._sampling import scattered, with_zero_row

__all__ = ["masked_col2im", "masked_im2col"]


def masked_im2col(
    image: Tensor,
    y: Tensor,
    x: Tensor,
    kernel_size: int | Sequence[int],
    padding: int | Sequence[int] = 0,
) -> Tensor:
    """The windows of a convolution with stride 1 at M of its output pixels.

    Args:
        image: (1, C, H, W) floating; 0 outside.
        y, x: (M,) int64, output pixels.
        kernel_size, padding: of both axes, or (y, x).

    Returns:
        (C * kh * kw, M) in the dtype of ``image``, differentiable.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape or size, or different devices.
    """
    name = "masked_im2col"
    check_tensor(name, "image", image, (1, "C", "H", "W"))
    _check_pixels(name, image, y, x)
    kernel = pair(name, "kernel_size", kernel_size, 1)
    return masked_im2col_op(image, y, x, kernel, pair(name, "padding", padding, 0))


def masked_col2im(columns: Tensor, y: Tensor, x: Tensor, size: Sequence[int]) -> Tensor:
    """Write columns into an image of zeros.

    Args:
        columns: (C, M) floating.
        y, x: (M,) int64, the pixels; different ones, within the image.
        size: (H, W) of the image.

    Returns:
        (1, C, H, W) in the dtype of ``columns``, differentiable.

    Raises:
        TypeError, ValueError: as ``masked_im2col``.
    """
    name = "masked_col2im"
    check_tensor(name, "columns", columns, ("C", "M"))
    _check_pixels(name, columns, y, x)
    check_tensor(name, "y", y, (columns.shape[1],), torch.int64)
    return masked_col2im_op(columns, y, x, pair(name, "size", size, 0))


def _check_pixels(op: str, values: Tensor, y: Tensor, x: Tensor) -> None:
    check_tensor(op, "y", y, ("M",), torch.int64)
    check_tensor(op, "x", x, (y.shape[0],), torch.int64)
    check_same_device(op, values=values, y=y, x=x)


def _window(
    y: Tensor, x: Tensor, kernel_size: list[int], padding: list[int], height: int, width: int
) -> Tensor:
    """(M, kh * kw) pixels, -1 outside."""
    lines = [
        at[:, None] + torch.arange(kernel, device=at.device) - p
        for at, kernel, p in zip((y, x), kernel_size, padding)
    ]
    inside = [(line >= 0) & (line < size) for line, size in zip(lines, (height, width))]
    pixel = (lines[0] * width)[:, :, None] + lines[1][:, None]
    return pixel.masked_fill_(~(inside[0][:, :, None] & inside[1][:, None]), -1).flatten(1)


@torch.library.custom_op(
    "mx_autopatch::masked_im2col",
    mutates_args=(),
    schema="(Tensor image, Tensor y, Tensor x, SymInt[] kernel_size, SymInt[] padding) -> Tensor",
)
def masked_im2col_op(
    image: Tensor, y: Tensor, x: Tensor, kernel_size: list[int], padding: list[int]
) -> Tensor:
    if not image.numel():
        return image.new_zeros((image.shape[1] * kernel_size[0] * kernel_size[1], y.shape[0]))
    window = _window(y, x, kernel_size, padding, *image.shape[2:])
    # -1 is the row of zeros, at the end.
    return with_zero_row(pixel_rows(image))[window].permute(2, 1, 0).flatten(0, 1)


@torch.library.custom_op(
    "mx_autopatch::masked_im2col_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor y, Tensor x, SymInt[] kernel_size, SymInt[] padding, "
    "SymInt[] image_shape) -> Tensor",
)
def masked_im2col_backward_op(
    grad: Tensor,
    y: Tensor,
    x: Tensor,
    kernel_size: list[int],
    padding: list[int],
    image_shape: list[int],
) -> Tensor:
    _, channels, height, width = image_shape
    if not grad.numel():
        return grad.new_zeros(image_shape)
    window = _window(y, x, kernel_size, padding, height, width)
    rows = grad.to(compute_dtype(grad.dtype)).unflatten(0, (channels, -1)).permute(2, 1, 0)
    rows = rows.reshape(-1, channels)
    rows = scattered(rows, window, torch.ones_like(window), height * width, 1)
    grad_image = grad.new_empty(image_shape)
    grad_image.flatten(2)[0].copy_(rows.T)
    return grad_image


@torch.library.custom_op(
    "mx_autopatch::masked_col2im",
    mutates_args=(),
    schema="(Tensor columns, Tensor y, Tensor x, SymInt[] size) -> Tensor",
)
def masked_col2im_op(columns: Tensor, y: Tensor, x: Tensor, size: list[int]) -> Tensor:
    image = columns.new_zeros((1, columns.shape[0], *size))
    image[0, :, y, x] = columns
    return image


@torch.library.custom_op(
    "mx_autopatch::masked_col2im_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor y, Tensor x) -> Tensor",
)
def masked_col2im_backward_op(grad: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return grad[0, :, y, x]


@masked_im2col_op.register_fake
def _(image: Tensor, y: Tensor, x: Tensor, kernel_size: list[int], padding: list[int]) -> Tensor:
    return image.new_empty((image.shape[1] * kernel_size[0] * kernel_size[1], y.shape[0]))


@masked_im2col_backward_op.register_fake
def _(
    grad: Tensor,
    y: Tensor,
    x: Tensor,
    kernel_size: list[int],
    padding: list[int],
    image_shape: list[int],
) -> Tensor:
    return grad.new_empty(image_shape)


@masked_col2im_op.register_fake
def _(columns: Tensor, y: Tensor, x: Tensor, size: list[int]) -> Tensor:
    return columns.new_empty((1, columns.shape[0], *size))


@masked_col2im_backward_op.register_fake
def _(grad: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return grad.new_empty((grad.shape[1], y.shape[0]))


def _setup_im2col(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    image, y, x, *ctx.options = inputs
    ctx.image_shape = image.shape
    ctx.save_for_backward(y, x)


def _im2col_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad = masked_im2col_backward_op(grad, *ctx.saved_tensors, *ctx.options, ctx.image_shape)
    return grad, None, None, None, None


def _setup_col2im(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1:3])


def _col2im_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return masked_col2im_backward_op(grad, *ctx.saved_tensors), None, None, None


masked_im2col_op.register_autograd(_im2col_backward, setup_context=_setup_im2col)
masked_col2im_op.register_autograd(_col2im_backward, setup_context=_setup_col2im)
