"""RoIAlign by torch_npu: ``npu_roi_align`` and ``npu_roi_alignbk``, op-plugin's documentation.

The mode of the ends of a RoI is the one that mmcv's own kernel for NPUs passes to CANN: 2 for
aligned, 0 for not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._check import compute_dtype
from ..roi_align import roi_align_backward_op, roi_align_op
from ._binding import bind

__all__: list[str] = []


def _covered(input: Tensor, rois: Tensor, pool_mode: str) -> bool:
    """Maxima are not its business; of empty tensors and float64 nothing is said."""
    return (
        pool_mode == "avg"
        and compute_dtype(input.dtype) == compute_dtype(rois.dtype) == torch.float32
        and min(input.numel(), rois.numel()) > 0
    )


def _without_samples(rois: Tensor, sampling_ratio: int, aligned: bool) -> Tensor | None:
    """(R, 1, 1, 1): RoIs that have as many samples as pixels, which is none.

    What torch_npu makes of them it does not say.
    """
    if sampling_ratio > 0 or not aligned:
        return None
    return (rois[:, 3:] <= rois[:, 1:3]).any(1)[:, None, None, None]


def _end_mode(aligned: bool) -> int:
    return 2 if aligned else 0


def _forward(
    input: Tensor,
    rois: Tensor,
    output_size: list[int],
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: str,
    aligned: bool,
) -> tuple[Tensor, Tensor, Tensor] | None:
    if not _covered(input, rois, pool_mode):
        return None
    output = torch.ops.npu.npu_roi_align(
        input.float(),
        rois.float(),
        spatial_scale,
        *output_size,
        max(sampling_ratio, 0),
        _end_mode(aligned),
    )
    blank = _without_samples(rois, sampling_ratio, aligned)
    if blank is not None:
        output = output.masked_fill(blank, 0)
    none = input.new_empty(0, dtype=torch.float32)
    return output.to(input.dtype), none, none.clone()


def _backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    input_shape: list[int],
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: str,
    aligned: bool,
) -> Tensor | None:
    if not _covered(grad_output, rois, pool_mode) or min(input_shape) == 0:
        return None
    height, width = grad_output.shape[2:]
    blank = _without_samples(rois, sampling_ratio, aligned)
    if blank is not None:
        grad_output = grad_output.masked_fill(blank, 0)
    grad: Any = torch.ops.npu.npu_roi_alignbk(
        grad_output.float(),
        rois.float(),
        list(input_shape),
        width,  # before the height, other than forward
        height,
        spatial_scale,
        max(sampling_ratio, 0),
        _end_mode(aligned),
    )
    return grad.to(grad_output.dtype)


bind(roi_align_op, _forward)
bind(roi_align_backward_op, _backward)
