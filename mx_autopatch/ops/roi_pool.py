"""RoI pooling: the largest pixel of each bin.

Girshick 2015, "Fast R-CNN".
Upstream: ``mmcv.ops.roi_pool`` (compiled for CUDA only), mmcv 1.3 - 2.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ._bilinear import pixel_rows
from ._check import check_same_device, check_tensor, compute_dtype
from ._pooling import check_pooling, check_pooling_backward, roi_images
from ._roi_grid import split

__all__ = ["roi_pool", "roi_pool_backward", "roi_pool_forward"]


def roi_pool(
    input: Tensor, rois: Tensor, output_size: int | Sequence[int], spatial_scale: float = 1.0
) -> Tensor:
    """The largest of the pixels that each bin touches.

    Args:
        input: (B, C, H, W) floating.
        rois: (R, 5) floating, ``image index, x1, y1, x2, y2`` in image coordinates, of
            whole pixels: x2 and y2 belong to the RoI.
        output_size: bins ``(height, width)``, or one number for both.
        spatial_scale: factor from image to ``input`` coordinates.

    Returns:
        (R, C, height, width) in the dtype of ``input``, differentiable once, in ``input``
        only. A bin reaches from the floor of its beginning to the ceiling of its end, cut
        to the image. A bin without pixels is 0; so is a RoI that ends before it begins.
        NaN never wins; where nothing else is, the lowest number of the dtype does.

    Raises:
        TypeError: an argument is no tensor or not floating.
        ValueError: wrong shape or size, different devices, or (found on the CPU only,
            elsewhere undefined) an image index out of range.
    """
    return roi_pool_forward(input, rois, output_size, spatial_scale)[0]


def roi_pool_forward(
    input: Tensor, rois: Tensor, output_size: int | Sequence[int], spatial_scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """``roi_pool``, and the number of the pixel that won (the first of equals), -1 if none.

    The latter is int32, shaped as the output; pixels count along the rows of a channel.
    """
    bins = check_pooling("roi_pool", input, rois, 5, output_size)
    return roi_pool_op(input, rois, bins, float(spatial_scale))


def roi_pool_backward(
    grad_output: Tensor, rois: Tensor, argmax: Tensor, input_shape: Sequence[int]
) -> Tensor:
    """Gradient in ``input`` of shape ``input_shape``."""
    name = "roi_pool_backward"
    shape = check_pooling_backward(name, grad_output, rois, 5, input_shape)
    check_tensor(name, "argmax", argmax, tuple(grad_output.shape), torch.int32)
    check_same_device(name, grad_output=grad_output, argmax=argmax)
    return roi_pool_backward_op(grad_output, rois, argmax, shape)


class _Spans:
    """Pixels of each bin along one axis: from ``begin`` (R, bins), ``length`` many."""

    def __init__(self, low: Tensor, high: Tensor, bins: int, size: int) -> None:
        step = ((high - low) / bins)[:, None]
        number = torch.arange(bins, device=low.device)
        low = low[:, None]
        edges = torch.stack(((number * step + low).floor(), ((number + 1) * step + low).ceil()))
        self.begin, end = edges.nan_to_num(0.0).clamp(0, size).long()
        self.length = (end - self.begin).clamp(min=0)
        self.longest = self.length.amax(1)
        self.size = size

    def pixels(self, rois: Tensor) -> tuple[Tensor, Tensor]:
        """(r, bins, longest) numbers of pixels, and which of them count."""
        number = torch.arange(int(self.longest[rois].amax()), device=rois.device)
        pixel = (self.begin[rois, :, None] + number).clamp(max=self.size - 1)
        return pixel, number < self.length[rois, :, None]


def _parts(y: _Spans, x: _Spans, each: Tensor) -> Iterator[Tensor]:
    """RoIs of similar bins together, so that padding stays small; those of none left out."""
    cost = y.longest * x.longest
    order = cost.argsort()
    order = order[(cost * each)[order] > 0]
    if order.numel():
        for part in split((cost * each)[order] * y.begin.shape[1] * x.begin.shape[1]):
            yield order[part]


@torch.library.custom_op(
    "mx_autopatch::roi_pool",
    mutates_args=(),
    schema="(Tensor input, Tensor rois, SymInt[] output_size, float spatial_scale)"
    " -> (Tensor output, Tensor argmax)",
)
def roi_pool_op(
    input: Tensor, rois: Tensor, output_size: list[int], spatial_scale: float
) -> tuple[Tensor, Tensor]:
    images, channels, height, width = input.shape
    shape = (rois.shape[0], *output_size, channels)
    output = input.new_zeros(shape)
    argmax = output.new_full(shape, -1, dtype=torch.int32)
    image = roi_images("roi_pool", rois, images)
    if output.numel() and input.numel():
        corners = rois[:, 1:].to(compute_dtype(rois.dtype))
        x1, y1 = (corners[:, :2] * spatial_scale).unbind(1)
        x2, y2 = ((corners[:, 2:] + 1) * spatial_scale).unbind(1)
        y = _Spans(y1, y2, output_size[0], height)
        x = _Spans(x1, x2, output_size[1], width)
        # A row that loses stands for padding, and NaN loses too.
        rows = pixel_rows(input)
        rows = torch.cat((rows, rows.new_full((1, channels), float("-inf"))))
        rows = torch.where(rows.isnan(), float("-inf"), rows)
        lowest = torch.finfo(input.dtype).min
        for part in _parts(y, x, ((x2 > x1) & (y2 > y1)) * channels):
            (y_pixel, y_counts), (x_pixel, x_counts) = y.pixels(part), x.pixels(part)
            # RoI, bin y, bin x, pixel y, pixel x
            pixel = y_pixel[:, :, None, :, None] * width + x_pixel[:, None, :, None, :]
            counts = y_counts[:, :, None, :, None] & x_counts[:, None, :, None, :]
            pixel, counts = pixel.flatten(3), counts.flatten(3)
            row = pixel + (image[part] * (height * width))[:, None, None, None]
            row = torch.where(counts, row, rows.shape[0] - 1).flatten()
            best, winner = rows.index_select(0, row).view(*pixel.shape, channels).max(3)
            winner = pixel.gather(3, winner).int()
            known = counts.any(3)[..., None]
            output[part] = torch.where(known, best.clamp(min=lowest), 0)
            argmax[part] = torch.where(known & (best > lowest), winner, -1)
    output, argmax = (
        t.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format) for t in (output, argmax)
    )
    return output, argmax


@torch.library.custom_op(
    "mx_autopatch::roi_pool_backward",
    mutates_args=(),
    schema="(Tensor grad_output, Tensor rois, Tensor argmax, SymInt[] input_shape) -> Tensor",
)
def roi_pool_backward_op(
    grad_output: Tensor, rois: Tensor, argmax: Tensor, input_shape: list[int]
) -> Tensor:
    images, channels, height, width = input_shape
    dtype = compute_dtype(grad_output.dtype)
    grad_input = grad_output.new_zeros(input_shape, dtype=dtype)
    if grad_output.numel() and grad_input.numel():
        image = roi_images("roi_pool_backward", rois, images)
        channel = torch.arange(channels, device=rois.device)
        plane = (image[:, None] * channels + channel)[:, :, None, None] * (height * width)
        won = argmax >= 0
        grad = (grad_output.to(dtype) * won).flatten()
        pixel = (plane + argmax.clamp(min=0)).flatten()
        grad_input.view(-1).scatter_add_(0, pixel, grad)
    return grad_input.to(grad_output.dtype)


@roi_pool_op.register_fake
def _(
    input: Tensor, rois: Tensor, output_size: list[int], spatial_scale: float
) -> tuple[Tensor, Tensor]:
    output = input.new_empty((rois.shape[0], input.shape[1], *output_size))
    return output, output.new_empty(output.shape, dtype=torch.int32)


@roi_pool_backward_op.register_fake
def _(grad_output: Tensor, rois: Tensor, argmax: Tensor, input_shape: list[int]) -> Tensor:
    return grad_output.new_empty(input_shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    input, rois, _, _ = inputs
    ctx.input_shape = input.shape
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(rois, output[1])


def _backward(ctx: Any, grad: Tensor | None, unused: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is not None:
        grad = roi_pool_backward_op(grad, *ctx.saved_tensors, ctx.input_shape)
    return grad, None, None, None


roi_pool_op.register_autograd(_backward, setup_context=_setup_context)
