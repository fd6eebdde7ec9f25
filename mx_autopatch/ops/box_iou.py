"""Overlaps of boxes: axis-aligned, turned, quadrilateral, and seen from above.

Upstream: ``mmcv.ops.bbox_overlaps``, ``box_iou_rotated``, ``box_iou_quadri`` and
``boxes_overlap_bev`` (iou3d), mmcv 1.3 - 2.2. The turned ones clip one polygon by the
sides of the other, for pairs whose bounding boxes meet only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._autograd import no_gradient
from ._check import check_same_device, check_tensor, compute_dtype
from ._polygons import (
    Polygon,
    area,
    candidate_pairs,
    counter_clockwise,
    intersection_area,
    rectangles,
)

__all__ = ["bbox_overlaps", "box_iou_quadri", "box_iou_rotated", "boxes_overlap_bev"]

_MODES = ("iou", "iof")
_NO_AREA = 1e-14  # what upstream counts as no area


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, mode: str = "iou", aligned: bool = False, offset: int = 0
) -> Tensor:
    """Overlaps of axis-aligned boxes.

    Args:
        bboxes1: (N, 4) floating, corners ``x1, y1, x2, y2``.
        bboxes2: (M, 4) in the dtype of ``bboxes1``.
        mode: "iou", intersection over union, or "iof", over the area of ``bboxes1``.
        aligned: overlap of each row with the same row; then N = M.
        offset: 0, or 1 for boxes of whole pixels, whose width is ``x2 - x1 + 1``.

    Returns:
        (N, M), or (N,) if aligned; 0/0 is NaN, as upstream. Not differentiable.
        Half precision is calculated in float32 and rounded once.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape, different devices, unknown mode or offset.
    """
    _check("bbox_overlaps", bboxes1, bboxes2, 4, mode, aligned)
    if offset not in (0, 1):
        raise ValueError(f"bbox_overlaps: offset: expected 0 or 1, got {offset!r}")
    return bbox_overlaps_op(bboxes1, bboxes2, mode, aligned, offset)


def box_iou_rotated(
    bboxes1: Tensor, bboxes2: Tensor, mode: str = "iou", aligned: bool = False
) -> Tensor:
    """Overlaps of boxes that are turned.

    Args:
        bboxes1: (N, 5) floating, ``x, y, w, h, angle``: centre, size, and the angle
            in radians by which it is turned from the x to the y axis.
        bboxes2: (M, 5) in the dtype of ``bboxes1``.
        mode, aligned: as in bbox_overlaps.

    Returns:
        (N, M), or (N,) if aligned; 0 where a box has an area below 1e-14. Not
        differentiable. Half precision is calculated in float32 and rounded once.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape, different devices, or unknown mode.
    """
    _check("box_iou_rotated", bboxes1, bboxes2, 5, mode, aligned)
    return box_iou_rotated_op(bboxes1, bboxes2, mode, aligned)


def box_iou_quadri(
    bboxes1: Tensor, bboxes2: Tensor, mode: str = "iou", aligned: bool = False
) -> Tensor:
    """Overlaps of convex quadrilaterals (N, 8), (M, 8) ``x1, y1, ..., x4, y4``.

    Otherwise as box_iou_rotated. The corners go around in either direction. Upstream's
    test of which corners lie inside holds for rectangles only; this one is exact for
    all convex quadrilaterals.
    """
    _check("box_iou_quadri", bboxes1, bboxes2, 8, mode, aligned)
    return box_iou_quadri_op(bboxes1, bboxes2, mode, aligned)


def boxes_overlap_bev(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Areas that 3D boxes share, seen from above.

    Args:
        boxes_a: (N, 7) floating, ``x, y, z, dx, dy, dz, heading``; the heading, in
            radians, turns from the x to the y axis.
        boxes_b: (M, 7) in the dtype of ``boxes_a``.

    Returns:
        (N, M) areas. Upstream adds corners up to 0.01 outside; these are exact. Not
        differentiable. Half precision is calculated in float32 and rounded once.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape or different devices.
    """
    op = "boxes_overlap_bev"
    check_tensor(op, "boxes_a", boxes_a, ("N", 7))
    check_tensor(op, "boxes_b", boxes_b, ("M", 7), boxes_a.dtype)
    check_same_device(op, boxes_a=boxes_a, boxes_b=boxes_b)
    return boxes_overlap_bev_op(boxes_a, boxes_b)


def _check(op: str, a: Tensor, b: Tensor, size: int, mode: str, aligned: bool) -> None:
    check_tensor(op, "bboxes1", a, ("N", size))
    check_tensor(op, "bboxes2", b, (a.shape[0] if aligned else "M", size), a.dtype)
    check_same_device(op, bboxes1=a, bboxes2=b)
    if mode not in _MODES:
        raise ValueError(f"{op}: mode: expected one of {_MODES}, got {mode!r}")


def pairwise_intersection(a: Polygon, b: Polygon, i: Tensor, j: Tensor) -> Tensor:
    """Areas shared by polygons i of ``a`` and j of ``b``, the latter counter-clockwise."""
    (ax, ay), (bx, by) = (
        (x[0].index_select(0, k), x[1].index_select(0, k)) for x, k in ((a, i), (b, j))
    )
    # Coordinates from the middle of the pair: far from the origin they would cancel.
    x, y = (
        (s.mean(1, keepdim=True) + t.mean(1, keepdim=True)) / 2 for s, t in ((ax, bx), (ay, by))
    )
    return intersection_area((ax - x, ay - y), (bx - x, by - y))


def intersections(a: Polygon, b: Polygon, aligned: bool) -> Tensor:
    """(N, M), or (N,) if aligned: areas shared by convex polygons."""
    b = counter_clockwise(b)
    if aligned:
        every = torch.arange(len(a[0]), device=a[0].device)
        return pairwise_intersection(a, b, every, every)
    result = a[0].new_zeros(len(a[0]), len(b[0]))
    for i, j in candidate_pairs(a, b):
        result[i, j] = pairwise_intersection(a, b, i, j)
    return result


def ratio(inter: Tensor, a: Tensor, b: Tensor, mode: str) -> Tensor:
    """Intersections over union, or over ``a``; 0 where an area is none."""
    over = a + b - inter if mode == "iou" else a.expand_as(inter)
    return torch.where((a < _NO_AREA) | (b < _NO_AREA), 0.0, inter / over)


def _polygon_overlaps(
    a: Polygon, b: Polygon, area_a: Tensor, area_b: Tensor, mode: str, aligned: bool
) -> Tensor:
    if not aligned:
        area_a, area_b = area_a[:, None], area_b[None]
    return ratio(intersections(a, b, aligned), area_a, area_b, mode)


def corners(boxes: Tensor) -> Polygon:
    """Of quadrilaterals (P, 8)."""
    return boxes[:, 0::2], boxes[:, 1::2]


_SCHEMA = "(Tensor bboxes1, Tensor bboxes2, str mode, bool aligned) -> Tensor"


@torch.library.custom_op(
    "mx_autopatch::bbox_overlaps",
    mutates_args=(),
    schema=_SCHEMA.replace(")", ", int offset)", 1),
)
def bbox_overlaps_op(
    bboxes1: Tensor, bboxes2: Tensor, mode: str, aligned: bool, offset: int
) -> Tensor:
    a, b = (t.to(compute_dtype(t.dtype)) for t in (bboxes1, bboxes2))
    if not aligned:
        a, b = a[:, None], b[None]
    size_a, size_b = (t[..., 2:] - t[..., :2] + offset for t in (a, b))
    shared = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    inter = (shared + offset).clamp_(min=0).prod(-1)
    area_a = size_a.prod(-1)
    over = area_a + size_b.prod(-1) - inter if mode == "iou" else area_a
    return (inter / over).to(bboxes1.dtype)


@torch.library.custom_op("mx_autopatch::box_iou_rotated", mutates_args=(), schema=_SCHEMA)
def box_iou_rotated_op(bboxes1: Tensor, bboxes2: Tensor, mode: str, aligned: bool) -> Tensor:
    a, b = (t.to(compute_dtype(t.dtype)) for t in (bboxes1, bboxes2))
    areas = a[:, 2] * a[:, 3], b[:, 2] * b[:, 3]
    return _polygon_overlaps(rectangles(a), rectangles(b), *areas, mode, aligned).to(bboxes1.dtype)


@torch.library.custom_op("mx_autopatch::box_iou_quadri", mutates_args=(), schema=_SCHEMA)
def box_iou_quadri_op(bboxes1: Tensor, bboxes2: Tensor, mode: str, aligned: bool) -> Tensor:
    a, b = (corners(t.to(compute_dtype(t.dtype))) for t in (bboxes1, bboxes2))
    return _polygon_overlaps(a, b, area(a), area(b), mode, aligned).to(bboxes1.dtype)


@torch.library.custom_op(
    "mx_autopatch::boxes_overlap_bev",
    mutates_args=(),
    schema="(Tensor boxes_a, Tensor boxes_b) -> Tensor",
)
def boxes_overlap_bev_op(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    a, b = (rectangles(bev(t.to(compute_dtype(t.dtype)))) for t in (boxes_a, boxes_b))
    return intersections(a, b, aligned=False).to(boxes_a.dtype)


def bev(boxes: Tensor) -> Tensor:
    """Boxes (P, 7), from above, as (P, 5) ``x, y, dx, dy, heading``."""
    return boxes[:, [0, 1, 3, 4, 6]]


@box_iou_rotated_op.register_fake
@box_iou_quadri_op.register_fake
def _fake(bboxes1: Tensor, bboxes2: Tensor, mode: str, aligned: bool) -> Tensor:
    rows, columns = bboxes1.shape[0], bboxes2.shape[0]
    return bboxes1.new_empty((rows,) if aligned else (rows, columns))


@bbox_overlaps_op.register_fake
def _(bboxes1: Tensor, bboxes2: Tensor, mode: str, aligned: bool, offset: int) -> Tensor:
    return _fake(bboxes1, bboxes2, mode, aligned)


@boxes_overlap_bev_op.register_fake
def _(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    return boxes_a.new_empty(boxes_a.shape[0], boxes_b.shape[0])


for _op in (bbox_overlaps_op, box_iou_rotated_op, box_iou_quadri_op, boxes_overlap_bev_op):
    no_gradient(_op)
