"""Precise RoI pooling.

Jiang et al. 2018, "Acquisition of Localization Confidence for Accurate Object Detection".
Upstream: ``mmcv.ops.prroi_pool`` (compiled for CUDA only), mmcv 1.6 - 2.2.

The image is taken as a function of the plane, a sum of one hat a pixel, and averaged over
the bin exactly. Hats are products, and so are their averages: a pixel's share in a bin is
its share along y times that along x. That makes bins bags as those of ``roi_align``; and
the derivative by an edge of the bin is a bag too, of the hats' values on that edge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ._bilinear import pixel_rows
from ._check import check_same_device, check_tensor, compute_dtype
from ._pooling import (
    Bags,
    check_pooling,
    check_pooling_backward,
    pool,
    pool_backward,
    roi_images,
)
from ._roi_grid import bags, split
from ._sampling import sampled, with_zero_row

__all__ = ["prroi_pool", "prroi_pool_backward", "prroi_pool_coor_backward"]


def prroi_pool(
    input: Tensor, rois: Tensor, output_size: int | Sequence[int], spatial_scale: float = 1.0
) -> Tensor:
    """Average the image, interpolated, over each bin exactly.

    Args:
        input: (B, C, H, W) floating; 0 outside.
        rois: (R, 5) floating, ``image index, x1, y1, x2, y2`` in image coordinates.
        output_size: bins ``(height, width)``, or one number for both.
        spatial_scale: factor from image to ``input`` coordinates.

    Returns:
        (R, C, height, width) in the dtype of ``input``, differentiable once, in ``input``
        and ``rois``. A RoI of no area gives 0. Half precision is calculated in float32 and
        rounded once.

    Raises:
        TypeError: an argument is no tensor or not floating.
        ValueError: wrong shape or size, different devices, or (found on the CPU only,
            elsewhere undefined) an image index out of range.
    """
    bins = check_pooling("prroi_pool", input, rois, 5, output_size)
    return prroi_pool_op(input, rois, bins, float(spatial_scale))


def prroi_pool_backward(
    grad_output: Tensor, rois: Tensor, input_shape: Sequence[int], spatial_scale: float
) -> Tensor:
    """Gradient in ``input`` of shape ``input_shape``; the other arguments as forward had them."""
    shape = check_pooling_backward("prroi_pool_backward", grad_output, rois, 5, input_shape)
    return prroi_pool_backward_op(grad_output, rois, shape, float(spatial_scale))


def prroi_pool_coor_backward(
    grad_output: Tensor, input: Tensor, rois: Tensor, spatial_scale: float
) -> Tensor:
    """Gradient in ``rois``; 0 in their image index."""
    name = "prroi_pool_coor_backward"
    check_tensor(name, "grad_output", grad_output, ("R", "C", "height", "width"))
    bins = check_pooling(name, input, rois, 5, grad_output.shape[2:])
    check_tensor(name, "grad_output", grad_output, (rois.shape[0], input.shape[1], *bins))
    check_same_device(name, input=input, grad_output=grad_output)
    return prroi_pool_coor_backward_op(grad_output, input, rois, float(spatial_scale))


@dataclass(frozen=True)
class _Axis:
    """The hats of pixel lines, averaged over the bins of R RoIs along one axis."""

    start: Tensor  # (R,)
    step: Tensor  # (R,) length of a bin; 0 has no average
    bins: int
    size: int  # pixels of the image
    corner: int | None = None  # whose derivative the shares are: 0 lower, 1 upper, None none

    def __getitem__(self, part: slice) -> _Axis:
        return _Axis(self.start[part], self.step[part], self.bins, self.size, self.corner)

    def by_corner(self, corner: int) -> _Axis:
        return _Axis(self.start, self.step, self.bins, self.size, corner)

    def shares(self) -> Tensor:
        """(R, bins, size)"""
        number = torch.arange(self.bins, device=self.start.device, dtype=self.start.dtype)
        number = number[:, None]
        line = torch.arange(self.size, device=self.start.device)
        step = self.step[:, None, None]
        begin = self.start[:, None, None] + number * step
        end = begin + step
        low, high = begin - line, end - line
        # What the rounded edges are apart, which is not quite a small step.
        step = end - begin
        known = step > 0
        step = torch.where(known, step, 1)
        average = _hat_integral(low, high) / step
        if self.corner is not None:
            by_low = (average - _hat(low)) / step
            by_high = (_hat(high) - average) / step
            # How far an edge goes with the corner.
            if self.corner == 0:
                average = by_low * (1 - number / self.bins)
                average += by_high * (1 - (number + 1) / self.bins)
            else:
                average = (by_low * number + by_high * (number + 1)) / self.bins
        return average * known

    def lines(self) -> Tensor:
        """(R,) about how many pixel lines a bin touches, never many fewer."""
        return self.step.nan_to_num(0.0).clamp(0, self.size).long() + 3


def _hat(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp(min=0)


def _hat_integral(low: Tensor, high: Tensor) -> Tensor:
    """The integral of the hat from ``low`` to ``high``, both clamped to where it is not 0.

    Either side of the hat on its own, length times height in the middle: a difference of
    antiderivatives would lose the digits of a short bin.
    """
    a, b = low.clamp(-1, 0), high.clamp(-1, 0)
    left = (b - a) * (1 + (a + b) / 2)
    a, b = low.clamp(0, 1), high.clamp(0, 1)
    return left + (b - a) * (1 - (a + b) / 2)


def _axes(
    rois: Tensor, bins: list[int], size: Sequence[int], spatial_scale: float
) -> tuple[_Axis, _Axis]:
    """The y and x axis."""
    corners = rois[:, 1:].to(compute_dtype(rois.dtype)) * spatial_scale
    start = corners[:, :2]
    x, y = (
        _Axis(start[:, i], (corners[:, i + 2] - start[:, i]).clamp(min=0) / n, n, pixels)
        for i, (n, pixels) in enumerate(((bins[1], size[1]), (bins[0], size[0])))
    )
    return y, x


def _parts(y: _Axis, x: _Axis) -> Iterator[slice]:
    shares = y.bins * y.size + x.bins * x.size
    return split(y.bins * x.bins * y.lines() * x.lines() + shares)


def _bags(image: Tensor, y: _Axis, x: _Axis) -> Bags:
    for part in _parts(y, x):
        _, row, weight, count = bags(image[part], y[part], x[part])
        yield part, row, weight, count


@torch.library.custom_op(
    "mx_autopatch::prroi_pool",
    mutates_args=(),
    schema="(Tensor input, Tensor rois, SymInt[] output_size, float spatial_scale) -> Tensor",
)
def prroi_pool_op(
    input: Tensor, rois: Tensor, output_size: list[int], spatial_scale: float
) -> Tensor:
    image = roi_images("prroi_pool", rois, input.shape[0])
    y, x = _axes(rois, output_size, input.shape[2:], spatial_scale)
    return pool(input, _bags(image, y, x), rois.shape[0], output_size)


@torch.library.custom_op(
    "mx_autopatch::prroi_pool_backward",
    mutates_args=(),
    schema="(Tensor grad_output, Tensor rois, SymInt[] input_shape, float spatial_scale) -> Tensor",
)
def prroi_pool_backward_op(
    grad_output: Tensor, rois: Tensor, input_shape: list[int], spatial_scale: float
) -> Tensor:
    image = roi_images("prroi_pool_backward", rois, input_shape[0])
    y, x = _axes(rois, list(grad_output.shape[2:]), input_shape[2:], spatial_scale)
    return pool_backward(grad_output, _bags(image, y, x), input_shape)


@torch.library.custom_op(
    "mx_autopatch::prroi_pool_coor_backward",
    mutates_args=(),
    schema="(Tensor grad_output, Tensor input, Tensor rois, float spatial_scale) -> Tensor",
)
def prroi_pool_coor_backward_op(
    grad_output: Tensor, input: Tensor, rois: Tensor, spatial_scale: float
) -> Tensor:
    grad_rois = rois.new_zeros(rois.shape)
    if not (grad_output.numel() and input.numel()):
        return grad_rois
    image = roi_images("prroi_pool_coor_backward", rois, input.shape[0])
    y, x = _axes(rois, list(grad_output.shape[2:]), input.shape[2:], spatial_scale)
    dtype = compute_dtype(input.dtype)
    rows = with_zero_row(pixel_rows(input).to(dtype))
    grads = pixel_rows(grad_output).to(dtype).reshape(rois.shape[0], -1, input.shape[1])
    for part in _parts(y, x):
        for corner in (0, 1):
            for column, axes in (
                (1 + 2 * corner, (y[part], x[part].by_corner(corner))),
                (2 + 2 * corner, (y[part].by_corner(corner), x[part])),
            ):
                _, row, weight, count = bags(image[part], *axes)
                slope = sampled(rows, row, weight, count).view(grads[part].shape)
                grad_rois[part, column] = slope.mul_(grads[part]).sum((1, 2)).to(rois.dtype)
    return grad_rois.mul_(spatial_scale)


@prroi_pool_op.register_fake
def _(input: Tensor, rois: Tensor, output_size: list[int], spatial_scale: float) -> Tensor:
    return input.new_empty((rois.shape[0], input.shape[1], *output_size))


@prroi_pool_backward_op.register_fake
def _(grad_output: Tensor, rois: Tensor, input_shape: list[int], spatial_scale: float) -> Tensor:
    return grad_output.new_empty(input_shape)


@prroi_pool_coor_backward_op.register_fake
def _(grad_output: Tensor, input: Tensor, rois: Tensor, spatial_scale: float) -> Tensor:
    return rois.new_empty(rois.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, rois, _, ctx.spatial_scale = inputs
    ctx.save_for_backward(input, rois)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    input, rois = ctx.saved_tensors
    grad_input = grad_rois = None
    if ctx.needs_input_grad[0]:
        grad_input = prroi_pool_backward_op(grad, rois, input.shape, ctx.spatial_scale)
    if ctx.needs_input_grad[1]:
        grad_rois = prroi_pool_coor_backward_op(grad, input, rois, ctx.spatial_scale)
    return grad_input, grad_rois, None, None


prroi_pool_op.register_autograd(_backward, setup_context=_setup_context)
