"""RoIAlign of regions between two Bezier curves.

Liu et al. 2020, "ABCNet: Real-time Scene Text Spotting with Adaptive Bezier-Curve Network".
Upstream: ``mmcv.ops.bezier_align`` (compiled), mmcv 1.7 - 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._check import compute_dtype
from ._pooling import (
    Bags,
    RoiSamples,
    adaptive_grid,
    check_pooling,
    check_pooling_backward,
    define_pooling,
    roi_images,
)
from ._roi_grid import split
from ._sampling import border_taps

__all__ = ["bezier_align", "bezier_align_backward"]


def bezier_align(
    input: Tensor,
    rois: Tensor,
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """Average bilinear samples in upright bins along two cubic Bezier curves.

    Args:
        input: (B, C, H, W) floating.
        rois: (R, 17) floating: image index, then x, y of four control points of the upper
            curve, from left to right, and of four of the lower one, from right to left.
        output_size: bins ``(height, width)``, or one number for both.
        spatial_scale: factor from image to ``input`` coordinates.
        sampling_ratio: samples a bin along each axis; 0 (or less) takes
            ``ceil(RoI size / bins)``, for each RoI and axis on its own.
        aligned: pixel centres lie at half-integers (True), or at integers, and RoIs
            are at least one pixel wide (False).

    Returns:
        (R, C, height, width) in the dtype of ``input``, differentiable once, in ``input``
        only. Bin (i, j) has its centre on the line between the curves at parameter
        ``j / width``, ``i / height`` of the way down; its size is that of the RoI over the
        number of bins, where the RoI is as wide and as high as the larger distance between
        the ends of a curve. A sample more than a pixel outside the image is 0. Half
        precision is calculated in float32 and rounded once.

    Raises:
        TypeError: an argument is no tensor or not floating.
        ValueError: wrong shape or size, different devices, or (found on the CPU only,
            elsewhere undefined) an image index out of range.
    """
    bins = check_pooling("bezier_align", input, rois, 17, output_size)
    options = float(spatial_scale), int(sampling_ratio), bool(aligned)
    return bezier_align_op(input, rois, bins, *options)


def bezier_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    input_shape: Sequence[int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Gradient in ``input`` of shape ``input_shape``; the other arguments as forward had them."""
    shape = check_pooling_backward("bezier_align_backward", grad_output, rois, 17, input_shape)
    options = float(spatial_scale), int(sampling_ratio), bool(aligned)
    return bezier_align_backward_op(grad_output, rois, shape, *options)


def _curve(points: Tensor, u: Tensor) -> Tensor:
    """Points (R, 4, 2) of cubic curves at the parameters (n,): (R, n, 2)."""
    v = 1 - u
    weight = torch.stack((v * v * v, 3 * u * v * v, 3 * u * u * v, u * u * u), -1)
    return weight @ points


def _bags(
    op: str,
    rois: Tensor,
    bins: list[int],
    input_shape: Sequence[int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Bags:
    images, _, height, width = input_shape
    image = roi_images(op, rois, images)
    rois = rois.to(compute_dtype(rois.dtype))
    points = (rois[:, 1:] * spatial_scale).unflatten(1, (2, 4, 2))
    upper, lower = points[:, 0], points[:, 1].flip(1)
    u, v = (torch.arange(n, device=rois.device, dtype=rois.dtype) / n for n in (bins[1], bins[0]))
    v = v[:, None, None]
    centre = _curve(lower, u)[:, None] * v + _curve(upper, u)[:, None] * (1 - v)
    if aligned:
        centre = centre - 0.5
    size = (points[:, :, 0] - points[:, :, 3]).abs().amax(1)
    if not aligned:
        size = size.clamp(min=1)
    step = size / torch.tensor((bins[1], bins[0]), device=size.device)
    corner_x, corner_y = (centre - step[:, None, None] / 2).unbind(3)
    grid_y = adaptive_grid(size[:, 1], bins[0], sampling_ratio)
    grid_x = adaptive_grid(size[:, 0], bins[1], sampling_ratio)
    for part in split(4 * bins[0] * bins[1] * grid_y * grid_x + 1):
        samples = RoiSamples(grid_y[part], grid_x[part], bins)
        y = corner_y[part].flatten()[samples.bin] + samples.y_in_bin(step[part, 1])
        x = corner_x[part].flatten()[samples.bin] + samples.x_in_bin(step[part, 0])
        first = image[part][samples.roi] * (height * width)
        taps = border_taps(y, x, height, width, first)
        yield part, taps.row, taps.weight() / samples.each(), 4 * samples.count


bezier_align_op, bezier_align_backward_op = define_pooling(
    "bezier_align", "float spatial_scale, int sampling_ratio, bool aligned", _bags
)
