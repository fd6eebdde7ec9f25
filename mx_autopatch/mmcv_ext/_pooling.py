"""Poolings of RoIs of the extension, in its calling convention."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "bezier_align_backward",
    "bezier_align_forward",
    "border_align_backward",
    "border_align_forward",
    "deform_roi_pool_backward",
    "deform_roi_pool_forward",
    "prroi_pool_backward",
    "prroi_pool_coor_backward",
    "prroi_pool_forward",
    "riroi_align_rotated_backward",
    "riroi_align_rotated_forward",
    "roi_align_rotated_backward",
    "roi_align_rotated_forward",
    "roi_pool_backward",
    "roi_pool_forward",
]


def roi_align_rotated_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int = 0,
    aligned: bool = True,
    clockwise: bool = False,
    sample_num: int | None = None,
) -> None:
    """Fill in ``output``. ``sample_num`` is the name of the ratio before mmcv 1.4.6."""
    from mx_autopatch.ops.roi_align_rotated import roi_align_rotated

    ratio = sampling_ratio if sample_num is None else sample_num
    options = spatial_scale, ratio, aligned, clockwise
    output.copy_(roi_align_rotated(input, rois, (pooled_height, pooled_width), *options))


def roi_align_rotated_backward(
    grad_output: Tensor,
    rois: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int = 0,
    aligned: bool = True,
    clockwise: bool = False,
    sample_num: int | None = None,
) -> None:
    """Fill in ``grad_input``. Called by position: upstream mixes up the tensors' names."""
    from mx_autopatch.ops.roi_align_rotated import roi_align_rotated_backward

    ratio = sampling_ratio if sample_num is None else sample_num
    options = spatial_scale, ratio, aligned, clockwise
    grad_input.copy_(roi_align_rotated_backward(grad_output, rois, grad_input.shape, *options))


def riroi_align_rotated_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    num_samples: int,
    num_orientations: int,
    clockwise: bool,
) -> None:
    """Fill in ``output``."""
    from mx_autopatch.ops.riroi_align_rotated import riroi_align_rotated

    options = spatial_scale, num_samples, num_orientations, clockwise
    output.copy_(riroi_align_rotated(features, rois, (pooled_height, pooled_width), *options))


def riroi_align_rotated_backward(
    top_grad: Tensor,
    rois: Tensor,
    bottom_grad: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    num_samples: int,
    num_orientations: int,
    clockwise: bool,
) -> None:
    """Fill in ``bottom_grad``."""
    from mx_autopatch.ops.riroi_align_rotated import riroi_align_rotated_backward

    options = spatial_scale, num_samples, num_orientations, clockwise
    bottom_grad.copy_(riroi_align_rotated_backward(top_grad, rois, bottom_grad.shape, *options))


def bezier_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> None:
    """Fill in ``output``."""
    from mx_autopatch.ops.bezier_align import bezier_align

    options = spatial_scale, sampling_ratio, aligned
    output.copy_(bezier_align(input, rois, (aligned_height, aligned_width), *options))


def bezier_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> None:
    """Fill in ``grad_input``."""
    from mx_autopatch.ops.bezier_align import bezier_align_backward

    options = spatial_scale, sampling_ratio, aligned
    grad_input.copy_(bezier_align_backward(grad_output, rois, grad_input.shape, *options))


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill in ``output`` and ``argmax``."""
    from mx_autopatch.ops.roi_pool import roi_pool_forward

    results = roi_pool_forward(input, rois, (pooled_height, pooled_width), spatial_scale)
    for target, result in zip((output, argmax), results):
        target.copy_(result)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill in ``grad_input``."""
    from mx_autopatch.ops.roi_pool import roi_pool_backward

    grad_input.copy_(roi_pool_backward(grad_output, rois, argmax, grad_input.shape))


def prroi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill in ``output``."""
    from mx_autopatch.ops.prroi_pool import prroi_pool

    output.copy_(prroi_pool(input, rois, (pooled_height, pooled_width), spatial_scale))


def prroi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill in ``grad_input``."""
    from mx_autopatch.ops.prroi_pool import prroi_pool_backward

    grad_input.copy_(prroi_pool_backward(grad_output, rois, grad_input.shape, spatial_scale))


def prroi_pool_coor_backward(
    output: Tensor,
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    grad_rois: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill in ``grad_rois``."""
    from mx_autopatch.ops.prroi_pool import prroi_pool_coor_backward

    grad_rois.copy_(prroi_pool_coor_backward(grad_output, input, rois, spatial_scale))


def deform_roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Fill in ``output``; an empty ``offset`` is none."""
    from mx_autopatch.ops.deform_roi_pool import deform_roi_pool

    options = (pooled_height, pooled_width), spatial_scale, sampling_ratio, gamma
    output.copy_(deform_roi_pool(input, rois, offset, *options))


def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Fill in ``grad_input`` and ``grad_offset``."""
    from mx_autopatch.ops.deform_roi_pool import deform_roi_pool_backward

    options = spatial_scale, sampling_ratio, gamma
    grads = deform_roi_pool_backward(grad_output, input, rois, offset, *options)
    for target, grad in zip((grad_input, grad_offset), grads):
        target.copy_(grad)


def border_align_forward(
    input: Tensor, boxes: Tensor, output: Tensor, argmax_idx: Tensor, pool_size: int
) -> None:
    """Fill in ``output`` and ``argmax_idx``."""
    from mx_autopatch.ops.border_align import border_align_forward

    results = border_align_forward(input, boxes, pool_size)
    for target, result in zip((output, argmax_idx), results):
        target.copy_(result)


def border_align_backward(
    grad_output: Tensor, boxes: Tensor, argmax_idx: Tensor, grad_input: Tensor, pool_size: int
) -> None:
    """Fill in ``grad_input``."""
    from mx_autopatch.ops.border_align import border_align_backward

    shape = tuple(grad_input.shape)
    grad_input.copy_(border_align_backward(grad_output, boxes, argmax_idx, shape, pool_size))
