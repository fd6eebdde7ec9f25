"""Which points lie in which 3D boxes.

Upstream: ``mmcv.ops.points_in_boxes_cpu``, ``_part`` and ``_all``, mmcv 1.3 - 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def local_coordinates(
    point: Sequence[Tensor], box: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Of ``x, y, z`` in boxes, seven tensors: along length and width, and above the bottom."""
    x, y, z = (p - b for p, b in zip(point, box))
    cos, sin = box[6].cos(), box[6].sin()
    return x * cos + y * sin, y * cos - x * sin, z


def _inside(point: Sequence[Tensor], box: Sequence[Tensor]) -> Tensor:
    """Which points lie in which boxes, of tensors that broadcast; in upstream's roundings."""
    x, y, _ = local_coordinates(point, box)
    half_x, half_y, half_z = (size / 2 for size in box[3:6])
    within = (point[2] - (box[2] + half_z)).abs_() <= half_z
    return within & (x.abs_() < half_x) & (y.abs_() < half_y)


def inside_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """(B, M, T) bool, of points (B, M, 3) and boxes (B, T, 7), some points at a time."""
    dtype = compute_dtype(points.dtype)
    # Axis by axis, each contiguous.
    point = points.to(dtype).movedim(2, 0).contiguous()
    box = boxes.to(dtype).movedim(2, 0).contiguous()[:, :, None].unbind(0)
    rows = max(1, _PAIRS // max(1, boxes.shape[0] * boxes.shape[1]))
    return torch.cat([_inside(part[..., None], box) for part in point.split(rows, 2)], 1)


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
