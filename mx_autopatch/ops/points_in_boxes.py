"""Which points lie in which 3D boxes.

Upstream: ``mmcv.ops.points_in_boxes_cpu``, ``_part`` and ``_all``, mmcv 1.3 - 2.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._autograd import no_gradient
from ._check import check_same_device, check_tensor, compute_dtype

__all__ = ["points_in_boxes", "points_in_boxes_part"]

_PAIRS = 1 << 20  # tested at a time: bounds the memory


def points_in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Which points lie in which boxes.

    Args:
        points: (B, M, 3) floating, ``x, y, z``.
        boxes: (B, T, 7) in the dtype of ``points``, ``x, y, z, x_size, y_size,
            z_size, rz``: the centre of the bottom, the sizes, and the heading in
            radians, from the x to the y axis.

    Returns:
        (B, M, T) int32, 1 inside. Top and bottom belong to the box, its sides do not.
        Half precision is calculated in float32. Not differentiable.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape or different devices.
    """
    _check("points_in_boxes", points, boxes)
    return points_in_boxes_op(points, boxes)


def points_in_boxes_part(points: Tensor, boxes: Tensor) -> Tensor:
    """The first box that each point lies in.

    Arguments and errors as for points_in_boxes.

    Returns:
        (B, M) int32, -1 for a point in no box.
    """
    _check("points_in_boxes_part", points, boxes)
    return points_in_boxes_part_op(points, boxes)


def _check(op: str, points: Tensor, boxes: Tensor) -> None:
    check_tensor(op, "points", points, ("B", "M", 3))
    check_tensor(op, "boxes", boxes, (points.shape[0], "T", 7), points.dtype)
    check_same_device(op, points=points, boxes=boxes)


def local_coordinates(points: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of points (..., 3) in boxes (..., 7): along length and width, and above the bottom."""
    x, y, z = (points - boxes[..., :3]).unbind(-1)
    cos, sin = boxes[..., 6].cos(), boxes[..., 6].sin()
    return x * cos + y * sin, y * cos - x * sin, z


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """As points_in_boxes, bool, of tensors that broadcast; in upstream's roundings."""
    x, y, _ = local_coordinates(points, boxes)
    half_x, half_y, half_z = (boxes[..., 3:6] / 2).unbind(-1)
    centre_z = boxes[..., 2] + half_z
    within = (points[..., 2] - centre_z).abs() <= half_z
    return within & (x.abs() < half_x) & (y.abs() < half_y)


def inside_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """(B, M, T) bool, of points (B, M, 3) and boxes (B, T, 7), some points at a time."""
    dtype = compute_dtype(points.dtype)
    points, boxes = points.to(dtype), boxes.to(dtype)
    rows = max(1, _PAIRS // max(1, boxes.shape[0] * boxes.shape[1]))
    parts = [_inside(part[:, :, None], boxes[:, None]) for part in points.split(rows, 1)]
    return torch.cat(parts, 1)


_SCHEMA = "(Tensor points, Tensor boxes) -> Tensor"


@torch.library.custom_op("mx_autopatch::points_in_boxes", mutates_args=(), schema=_SCHEMA)
def points_in_boxes_op(points: Tensor, boxes: Tensor) -> Tensor:
    return inside_boxes(points, boxes).int()


@torch.library.custom_op("mx_autopatch::points_in_boxes_part", mutates_args=(), schema=_SCHEMA)
def points_in_boxes_part_op(points: Tensor, boxes: Tensor) -> Tensor:
    if not boxes.shape[1]:
        return points.new_full(points.shape[:2], -1, dtype=torch.int32)
    inside = inside_boxes(points, boxes)
    first = inside.to(torch.uint8).argmax(2)
    return torch.where(inside.any(2), first, -1).int()


@points_in_boxes_op.register_fake
def _(points: Tensor, boxes: Tensor) -> Tensor:
    return points.new_empty((*points.shape[:2], boxes.shape[1]), dtype=torch.int32)


@points_in_boxes_part_op.register_fake
def _(points: Tensor, boxes: Tensor) -> Tensor:
    return points.new_empty(points.shape[:2], dtype=torch.int32)


no_gradient(points_in_boxes_op)
no_gradient(points_in_boxes_part_op)
