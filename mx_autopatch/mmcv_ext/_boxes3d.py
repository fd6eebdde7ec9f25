"""Three-dimensional boxes of the extension, in its calling convention.

Functions that suppress are handed boxes in descending score. The retired ones describe
a box seen from above by its corners and heading, ``x1, y1, x2, y2, ry``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "iou3d_boxes_iou3d_forward",
    "iou3d_boxes_iou_bev_forward",
    "iou3d_boxes_overlap_bev_forward",
    "iou3d_nms3d_forward",
    "iou3d_nms3d_normal_forward",
    "iou3d_nms_forward",
    "iou3d_nms_normal_forward",
]


def _from_corners(boxes: Tensor) -> Tensor:
    """Boxes (N, 5) of the retired functions as (N, 7), of no height."""
    import torch

    low, high, heading = boxes[:, :2], boxes[:, 2:4], boxes[:, 4:]
    flat = torch.zeros_like(heading)
    return torch.cat(((low + high) / 2, flat, high - low, flat, heading), 1)


def _fill(keep: Tensor, num_out: Tensor, kept: Tensor) -> None:
    keep[: len(kept)] = kept
    num_out.fill_(len(kept))


def _descending(boxes: Tensor) -> Tensor:
    """Scores for boxes that are in descending score already."""
    import torch

    return -torch.arange(len(boxes), device=boxes.device, dtype=torch.float32)


def iou3d_boxes_overlap_bev_forward(boxes_a: Tensor, boxes_b: Tensor, ans_overlap: Tensor) -> None:
    """Fill in ``ans_overlap``: for boxes (N, 7), or (N, 5) as in mmcv before 1.5.2."""
    from mx_autopatch.ops.box_iou import boxes_overlap_bev

    if boxes_a.shape[1] == 5:
        boxes_a, boxes_b = _from_corners(boxes_a), _from_corners(boxes_b)
    ans_overlap.copy_(boxes_overlap_bev(boxes_a, boxes_b))


def iou3d_nms3d_forward(
    boxes: Tensor, keep: Tensor, num_out: Tensor, nms_overlap_thresh: float
) -> None:
    """Fill in the first elements of ``keep``, and ``num_out``, how many."""
    from mx_autopatch.ops.nms_rotated import nms3d

    _fill(keep, num_out, nms3d(boxes, _descending(boxes), nms_overlap_thresh))


def iou3d_nms3d_normal_forward(
    boxes: Tensor, keep: Tensor, num_out: Tensor, nms_overlap_thresh: float
) -> None:
    """Fill in the first elements of ``keep``, and ``num_out``, how many."""
    from mx_autopatch.ops.nms_rotated import nms3d_normal

    _fill(keep, num_out, nms3d_normal(boxes, _descending(boxes), nms_overlap_thresh))


def iou3d_boxes_iou_bev_forward(boxes_a: Tensor, boxes_b: Tensor, ans_iou: Tensor) -> None:
    """Fill in ``ans_iou``. Until mmcv 1.5.1."""
    from mx_autopatch.ops.box_iou import boxes_overlap_bev

    boxes_a, boxes_b = _from_corners(boxes_a), _from_corners(boxes_b)
    overlap = boxes_overlap_bev(boxes_a, boxes_b)
    area_a, area_b = (b[:, 3] * b[:, 4] for b in (boxes_a, boxes_b))
    ans_iou.copy_(overlap / (area_a[:, None] + area_b - overlap).clamp(min=1e-8))


def iou3d_boxes_iou3d_forward(boxes_a: Tensor, boxes_b: Tensor, ans_iou: Tensor) -> None:
    """Fill in ``ans_iou``, for boxes (N, 7). Only in mmcv 1.5.2, whose kernel left out the
    height; mmcv corrected that in 1.5.3, and so does this."""
    import torch

    from mx_autopatch.ops.box_iou import boxes_overlap_bev

    low = torch.maximum(*(t[..., 2] - t[..., 5] / 2 for t in (boxes_a[:, None], boxes_b)))
    high = torch.minimum(*(t[..., 2] + t[..., 5] / 2 for t in (boxes_a[:, None], boxes_b)))
    overlap = boxes_overlap_bev(boxes_a, boxes_b) * (high - low).clamp(min=0)
    volume_a, volume_b = (b[:, 3:6].prod(1) for b in (boxes_a, boxes_b))
    ans_iou.copy_(overlap / (volume_a[:, None] + volume_b - overlap).clamp(min=1e-6))


def iou3d_nms_forward(
    boxes: Tensor, keep: Tensor, num_out: Any, nms_overlap_thresh: float | None = None
) -> int:
    """As iou3d_nms3d_forward, for boxes (N, 5). Until mmcv 1.5.1.

    Before 1.3.18 there was no ``num_out``; it was returned.
    """
    return _nms_of_corners(iou3d_nms3d_forward, boxes, keep, num_out, nms_overlap_thresh)


def iou3d_nms_normal_forward(
    boxes: Tensor, keep: Tensor, num_out: Any, nms_overlap_thresh: float | None = None
) -> int:
    """As iou3d_nms3d_normal_forward, and called like iou3d_nms_forward."""
    return _nms_of_corners(iou3d_nms3d_normal_forward, boxes, keep, num_out, nms_overlap_thresh)


def _nms_of_corners(
    nms: Callable[..., None], boxes: Tensor, keep: Tensor, num_out: Any, threshold: float | None
) -> int:
    if threshold is None:
        num_out, threshold = keep.new_zeros(()), num_out
    nms(_from_corners(boxes), keep, num_out, threshold)
    return int(num_out)
