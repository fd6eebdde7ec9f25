"""Boxes, polygons and their suppression, in the extension's calling convention.

The order of boxes, or boxes in that order, which some functions are handed as well,
is worked out anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "bbox_overlaps",
    "box_iou_quadri",
    "box_iou_rotated",
    "convex_giou",
    "convex_iou",
    "diff_iou_rotated_sort_vertices_forward",
    "min_area_polygons",
    "nms_match",
    "nms_quadri",
    "nms_rotated",
    "points_in_polygons_forward",
    "softnms",
]

_OVERLAPS = ("iou", "iof")  # as mmcv numbers them
_SOFT_NMS = ("naive", "linear", "gaussian")
_DEGREES = 57.29578  # in a radian; with this factor mmcv converts for NPUs


def _in_radians(boxes: Tensor) -> Tensor:
    """Turned boxes as given elsewhere: on NPUs mmcv's Python passes degrees."""
    if boxes.device.type != "npu":
        return boxes[:, :5]
    return boxes[:, :5] / boxes.new_tensor([1, 1, 1, 1, _DEGREES])


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Fill in ``ious``."""
    from mx_autopatch.ops.box_iou import bbox_overlaps

    ious.copy_(bbox_overlaps(bboxes1, bboxes2, _OVERLAPS[mode], bool(aligned), offset))


def box_iou_rotated(
    boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool
) -> None:
    """Fill in ``ious``, which may be flat."""
    from mx_autopatch.ops.box_iou import box_iou_rotated

    boxes1, boxes2 = _in_radians(boxes1), _in_radians(boxes2)
    result = box_iou_rotated(boxes1, boxes2, _OVERLAPS[mode_flag], bool(aligned))
    ious.copy_(result.view(ious.shape))


def box_iou_quadri(
    boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool
) -> None:
    """Fill in ``ious``, which may be flat."""
    from mx_autopatch.ops.box_iou import box_iou_quadri

    result = box_iou_quadri(boxes1, boxes2, _OVERLAPS[mode_flag], bool(aligned))
    ious.copy_(result.view(ious.shape))


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Fill in the first rows of ``dets``; the indices of their boxes."""
    from mx_autopatch.ops.soft_nms import soft_nms

    options = iou_threshold, sigma, min_score, _SOFT_NMS[method], offset
    kept, indices = soft_nms(boxes, scores, *options)
    dets[: len(kept)] = kept
    return indices


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    from mx_autopatch.ops.nms_match import nms_match

    members, sizes = nms_match(dets, iou_threshold)
    return [group.tolist() for group in members.split(sizes.tolist())] if len(dets) else []


def nms_rotated(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    labels: Any = None,
    iou_threshold: Any = None,
    multi_label: bool = False,
) -> Tensor:
    """The boxes kept. Labels do not matter, as in mmcv's compiled kernels."""
    from mx_autopatch.ops.nms_rotated import nms_rotated

    if isinstance(labels, float):  # before 1.7.2 and 2.0.0 there were none
        iou_threshold = labels
    return nms_rotated(_in_radians(dets), scores, iou_threshold)


def nms_quadri(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    iou_threshold: float,
    multi_label: bool,
) -> Tensor:
    """The boxes kept. A label in a ninth column does not matter, as in mmcv's own kernels."""
    from mx_autopatch.ops.nms_rotated import nms_quadri

    return nms_quadri(dets[:, :8], scores, iou_threshold)


def convex_iou(pointsets: Tensor, polygons: Tensor, ious: Tensor) -> None:
    """Fill in ``ious``."""
    from mx_autopatch.ops.point_sets import convex_iou

    ious.copy_(convex_iou(pointsets, polygons))


def convex_giou(pointsets: Tensor, polygons: Tensor, output: Tensor) -> None:
    """Fill in ``output`` (N, 19): the gradients, and the GIoU last."""
    from mx_autopatch.ops.point_sets import convex_giou

    output[:, 18], output[:, :18] = convex_giou(pointsets, polygons)


def min_area_polygons(pointsets: Tensor, polygons: Tensor) -> None:
    """Fill in ``polygons``."""
    from mx_autopatch.ops.point_sets import min_area_polygons

    polygons.copy_(min_area_polygons(pointsets))


def points_in_polygons_forward(points: Tensor, polygons: Tensor, output: Tensor) -> None:
    """Fill in ``output``."""
    from mx_autopatch.ops.polygon_points import points_in_polygons

    output.copy_(points_in_polygons(points, polygons))


def diff_iou_rotated_sort_vertices_forward(
    vertices: Tensor, mask: Tensor, num_valid: Tensor
) -> Tensor:
    from mx_autopatch.ops.polygon_points import sort_vertices

    return sort_vertices(vertices, mask, num_valid)
