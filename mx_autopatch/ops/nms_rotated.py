"""Non-maximum suppression of boxes that are turned, quadrilateral, or three-dimensional.

Upstream: ``mmcv.ops.nms_rotated``, ``nms_quadri`` (the compiled CPU operators),
``nms3d`` and ``nms3d_normal`` (CUDA only), mmcv 1.3 - 2.2.

Only pairs whose bounding boxes meet are clipped; what is left of them is a sparse
graph, on which greedy suppression settles in a few rounds.
"""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

from ._autograd import no_gradient
from ._check import check_same_device, check_tensor, compute_dtype
from ._greedy import settle
from ._polygons import Polygon, area, candidate_pairs, counter_clockwise, rectangles
from .box_iou import bev, corners, pairwise_intersection, ratio

__all__ = ["nms3d", "nms3d_normal", "nms_quadri", "nms_rotated"]

_LEAST_UNION = 1e-8  # upstream's guard in three dimensions


def nms_rotated(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the turned boxes that greedy non-maximum suppression keeps.

    Args:
        dets: (N, 5) floating, ``x, y, w, h, angle`` in radians from the x to the y axis.
        scores: (N,) floating, on the device of ``dets``.
        iou_threshold: a box is dropped when its IoU with a kept box of higher score
            is equal or greater (the compiled CPU operator; on CUDA: greater).

    Returns:
        (K,) int64, in descending score; equal scores keep the order of the input.
        Half precision is calculated in float32. Not differentiable.

    K depends on the values; for ``torch.compile`` see ``nms``.

    Raises:
        TypeError: an argument is no tensor or not floating.
        ValueError: wrong shape or different devices.
    """
    _check("nms_rotated", "dets", dets, 5, scores)
    return nms_rotated_op(dets, scores, float(iou_threshold))


def nms_quadri(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Of convex quadrilaterals (N, 8) ``x1, y1, ..., x4, y4``; otherwise as nms_rotated."""
    _check("nms_quadri", "dets", dets, 8, scores)
    return nms_quadri_op(dets, scores, float(iou_threshold))


def nms3d(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Of boxes (N, 7) ``x, y, z, dx, dy, dz, heading``, by their IoU seen from above.

    A box is dropped when the IoU is strictly greater. Otherwise as nms_rotated.
    """
    _check("nms3d", "boxes", boxes, 7, scores)
    return nms3d_op(boxes, scores, float(iou_threshold))


def nms3d_normal(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """As nms3d, all headings taken as 0."""
    _check("nms3d_normal", "boxes", boxes, 7, scores)
    return nms3d_normal_op(boxes, scores, float(iou_threshold))


def _check(op: str, name: str, boxes: Tensor, size: int, scores: Tensor) -> None:
    check_tensor(op, name, boxes, ("N", size))
    check_tensor(op, "scores", scores, (boxes.shape[0],))
    check_same_device(op, **{name: boxes, "scores": scores})


def _suppress(
    polygons: Polygon, drops: Callable[[Tensor, Tensor, Tensor], Tensor], scores: Tensor
) -> Tensor:
    """Indices kept; ``drops(inter, i, j)`` says which pairs overlap too much."""
    order = scores.argsort(descending=True, stable=True)
    # Not before they are sorted: an index i < j then means a higher score.
    x, y = counter_clockwise((polygons[0][order], polygons[1][order]))
    pairs = [torch.stack((order[:0], order[:0]))]
    for i, j in candidate_pairs((x, y), (x, y), upper=True):
        inter = pairwise_intersection((x, y), (x, y), i, j)
        pairs.append(torch.stack((i, j))[:, drops(inter, order[i], order[j])])
    i, j = torch.cat(pairs, 1)
    return order[settle(len(order), i, j)]


def _suppress_2d(polygons: Polygon, areas: Tensor, scores: Tensor, threshold: float) -> Tensor:
    if threshold <= 0:  # even boxes apart overlap by that much
        return scores.argsort(descending=True, stable=True)[:1]

    def drops(inter: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return ratio(inter, areas[i], areas[j], "iou") >= threshold

    return _suppress(polygons, drops, scores)


def _suppress_3d(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    boxes = bev(boxes.to(compute_dtype(boxes.dtype)))
    areas = boxes[:, 2] * boxes[:, 3]
    if threshold < 0:
        return scores.argsort(descending=True, stable=True)[:1]

    def drops(inter: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return inter / (areas[i] + areas[j] - inter).clamp(min=_LEAST_UNION) > threshold

    return _suppress(rectangles(boxes), drops, scores)


def _schema(boxes: str) -> str:
    return f"(Tensor {boxes}, Tensor scores, float iou_threshold) -> Tensor"


@torch.library.custom_op("mx_autopatch::nms_rotated", mutates_args=(), schema=_schema("dets"))
def nms_rotated_op(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    boxes = dets.to(compute_dtype(dets.dtype))
    return _suppress_2d(rectangles(boxes), boxes[:, 2] * boxes[:, 3], scores, iou_threshold)


@torch.library.custom_op("mx_autopatch::nms_quadri", mutates_args=(), schema=_schema("dets"))
def nms_quadri_op(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    polygons = corners(dets.to(compute_dtype(dets.dtype)))
    return _suppress_2d(polygons, area(polygons), scores, iou_threshold)


@torch.library.custom_op("mx_autopatch::nms3d", mutates_args=(), schema=_schema("boxes"))
def nms3d_op(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return _suppress_3d(boxes, scores, iou_threshold)


@torch.library.custom_op("mx_autopatch::nms3d_normal", mutates_args=(), schema=_schema("boxes"))
def nms3d_normal_op(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    straight = torch.cat((boxes[:, :6], torch.zeros_like(boxes[:, 6:])), 1)
    return _suppress_3d(straight, scores, iou_threshold)


def _fake(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return boxes.new_empty((torch.library.get_ctx().new_dynamic_size(),), dtype=torch.int64)


for _op in (nms_rotated_op, nms_quadri_op, nms3d_op, nms3d_normal_op):
    _op.register_fake(_fake)
    no_gradient(_op)
