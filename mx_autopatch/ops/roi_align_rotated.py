"""RoIAlign of rotated boxes.

Ding et al. 2019, "Learning RoI Transformer for Oriented Object Detection in Aerial Images".
Upstream: ``mmcv.ops.roi_align_rotated`` (compiled), mmcv 1.3 - 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence

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

__all__ = ["roi_align_rotated", "roi_align_rotated_backward", "rotated_bags"]


def roi_align_rotated(
    input: Tensor,
    rois: Tensor,
    output_size: int | Sequence[int],
    spatial_scale: float,
    sampling_ratio: int = 0,
    aligned: bool = True,
    clockwise: bool = False,
) -> Tensor:
    """Average bilinear samples in each bin of rotated RoIs.

    Args:
        input: (B, C, H, W) floating.
        rois: (R, 6) floating, ``image index, centre x, centre y, width, height, angle``
            in image coordinates and radians.
        output_size: bins ``(height, width)``, or one number for both.
        spatial_scale: factor from image to ``input`` coordinates.
        sampling_ratio: samples a bin along each axis; 0 (or less) takes
            ``ceil(RoI size / bins)``, for each RoI and axis on its own.
        aligned: pixel centres lie at half-integers (True), or at integers, and RoIs
            are at least one pixel wide (False).
        clockwise: the sense of the angle in the image.

    Returns:
        (R, C, height, width) in the dtype of ``input``, differentiable once, in
        ``input`` only. A sample more than a pixel outside the image is 0; a bin
        without samples is 0. Half precision is calculated in float32 and rounded once.
        An adaptive grid has a sample for each pixel of a RoI, those beyond the image too,
        and takes time and memory for all of them.

    Raises:
        TypeError: an argument is no tensor or not floating.
        ValueError: wrong shape or size, different devices, or (found on the CPU only,
            elsewhere undefined) an image index out of range.
    """
    bins = check_pooling("roi_align_rotated", input, rois, 6, output_size)
    return roi_align_rotated_op(
        input,
        rois,
        bins,
        float(spatial_scale),
        int(sampling_ratio),
        bool(aligned),
        bool(clockwise),
    )


def roi_align_rotated_backward(
    grad_output: Tensor,
    rois: Tensor,
    input_shape: Sequence[int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    clockwise: bool,
) -> Tensor:
    """Gradient in ``input`` of shape ``input_shape``; the other arguments as forward had them."""
    name = "roi_align_rotated_backward"
    shape = check_pooling_backward(name, grad_output, rois, 6, input_shape)
    return roi_align_rotated_backward_op(
        grad_output,
        rois,
        shape,
        float(spatial_scale),
        int(sampling_ratio),
        bool(aligned),
        bool(clockwise),
    )


def rotated_bags(
    op: str,
    rois: Tensor,
    bins: list[int],
    input_shape: Sequence[int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    clockwise: bool,
) -> Bags:
    images, _, height, width = input_shape
    image = roi_images(op, rois, images)
    rois = rois.to(compute_dtype(rois.dtype))
    centre_x, centre_y, roi_width, roi_height = (rois[:, 1:5] * spatial_scale).unbind(1)
    if aligned:
        centre_x, centre_y = centre_x - 0.5, centre_y - 0.5
    else:
        roi_width, roi_height = roi_width.clamp(min=1), roi_height.clamp(min=1)
    angle = -rois[:, 5] if clockwise else rois[:, 5]
    sin, cos = angle.sin(), angle.cos()
    grid_y = adaptive_grid(roi_height, bins[0], sampling_ratio)
    grid_x = adaptive_grid(roi_width, bins[1], sampling_ratio)
    for part in split(4 * bins[0] * bins[1] * grid_y * grid_x + 1):
        samples = RoiSamples(grid_y[part], grid_x[part], bins)
        along_y = samples.y(-roi_height[part] / 2, roi_height[part] / bins[0])
        along_x = samples.x(-roi_width[part] / 2, roi_width[part] / bins[1])
        s, c = sin[part][samples.roi], cos[part][samples.roi]
        y = along_y * c - along_x * s + centre_y[part][samples.roi]
        x = along_y * s + along_x * c + centre_x[part][samples.roi]
        first = image[part][samples.roi] * (height * width)
        taps = border_taps(y, x, height, width, first)
        yield part, taps.row, taps.weight() / samples.each(), 4 * samples.count


roi_align_rotated_op, roi_align_rotated_backward_op = define_pooling(
    "roi_align_rotated",
    "float spatial_scale, int sampling_ratio, bool aligned, bool clockwise",
    rotated_bags,
)
