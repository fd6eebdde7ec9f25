"""Overlaps of boxes pair by pair, and suppression of one box after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Callable

import numpy as np
import torch
from torch import Tensor

from . import polygons
from .polygons import Array

__all__ = [
    "bbox_overlaps",
    "box_iou_quadri",
    "box_iou_rotated",
    "boxes_overlap_bev",
    "convex_iou",
    "generalised_iou",
    "greedy",
    "min_area_polygons",
    "nms",
    "nms3d",
    "nms3d_normal",
    "nms_match",
    "nms_quadri",
    "nms_rotated",
    "soft_nms",
]


def overlap(a: Sequence[float], b: Sequence[float], mode: str = "iou", offset: int = 0) -> float:
    """IoU of corners ``x1, y1, x2, y2``, or the share of ``a``; NaN for 0/0."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + offset
    height = min(a[3], b[3]) - max(a[1], b[1]) + offset
    if any(map(math.isnan, (*a, *b))):
        return math.nan
    shared = max(width, 0.0) * max(height, 0.0)
    own, other = ((c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b))
    whole = own if mode == "iof" else own + other - shared
    return shared / whole if whole else math.nan if shared == 0 else math.inf


def polygon_overlap(a: Array, b: Array, mode: str = "iou") -> float:
    """Likewise of convex polygons; 0 where one has no area."""
    own, other = polygons.area(a), polygons.area(b)
    if min(own, other) < 1e-14:
        return 0.0
    shared = polygons.intersection(a, b)
    return shared / (own if mode == "iof" else own + other - shared)


def _pairs(
    a: list[Array], b: list[Array], aligned: bool, one: Callable[[Array, Array], float]
) -> Tensor:
    if aligned:
        return torch.tensor([one(p, q) for p, q in zip(a, b)], dtype=torch.float64)
    table = [[one(p, q) for q in b] for p in a]
    return torch.tensor(table, dtype=torch.float64).view(len(a), len(b))


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, mode: str = "iou", aligned: bool = False, offset: int = 0
) -> Tensor:
    """Of straight boxes."""
    return _pairs(
        bboxes1.tolist(), bboxes2.tolist(), aligned, lambda a, b: overlap(a, b, mode, offset)
    )


def _rectangles(boxes: Tensor) -> list[Array]:
    return [polygons.rectangle(box) for box in boxes.tolist()]


def _quadrilaterals(boxes: Tensor) -> list[Array]:
    return list(boxes.numpy().reshape(-1, 4, 2))


def _from_above(boxes: Tensor) -> list[Array]:
    return _rectangles(boxes[:, [0, 1, 3, 4, 6]])


def box_iou_rotated(
    bboxes1: Tensor, bboxes2: Tensor, mode: str = "iou", aligned: bool = False
) -> Tensor:
    """Of turned boxes."""
    a, b = _rectangles(bboxes1), _rectangles(bboxes2)
    return _pairs(a, b, aligned, lambda p, q: polygon_overlap(p, q, mode))


def box_iou_quadri(
    bboxes1: Tensor, bboxes2: Tensor, mode: str = "iou", aligned: bool = False
) -> Tensor:
    """Of convex quadrilaterals."""
    a, b = _quadrilaterals(bboxes1), _quadrilaterals(bboxes2)
    return _pairs(a, b, aligned, lambda p, q: polygon_overlap(p, q, mode))


def boxes_overlap_bev(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Areas that boxes share, seen from above."""
    return _pairs(_from_above(boxes_a), _from_above(boxes_b), False, polygons.intersection)


def greedy(
    scores: Sequence[float], iou: Callable[[int, int], float], drops: Callable[[float], bool]
) -> list[list[int]]:
    """Each box that is kept, best first and the first of equals, with those that it drops."""
    left = sorted(range(len(scores)), key=lambda i: -scores[i])  # stable
    groups = []
    while left:
        best, *left = left
        dropped = [j for j in left if drops(iou(best, j))]
        groups.append([best, *dropped])
        left = [j for j in left if j not in dropped]
    return groups


def _kept(
    scores: Tensor, iou: Callable[[int, int], float], drops: Callable[[float], bool]
) -> Tensor:
    groups = greedy(scores.tolist(), iou, drops)
    return torch.tensor([group[0] for group in groups], dtype=torch.int64)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Of straight boxes."""
    rows = boxes.tolist()
    return _kept(
        scores,
        lambda i, j: overlap(rows[i], rows[j], offset=offset),
        lambda u: u > iou_threshold,
    )


def nms_rotated(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Of turned boxes; on the threshold they are dropped, as by the compiled CPU operator."""
    return _kept_polygons(_rectangles(dets), scores, lambda u: u >= iou_threshold)


def nms_quadri(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Of convex quadrilaterals, likewise."""
    return _kept_polygons(_quadrilaterals(dets), scores, lambda u: u >= iou_threshold)


def nms3d(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Of boxes seen from above; on the threshold they are kept."""
    return _kept_polygons(_from_above(boxes), scores, lambda u: u > iou_threshold)


def nms3d_normal(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """The same, not turned."""
    return nms3d(torch.cat((boxes[:, :6], boxes[:, 6:] * 0), 1), scores, iou_threshold)


def _kept_polygons(rows: list[Array], scores: Tensor, drops: Callable[[float], bool]) -> Tensor:
    return _kept(scores, lambda i, j: polygon_overlap(rows[i], rows[j]), drops)


def nms_match(dets: Tensor, iou_threshold: float) -> tuple[Tensor, Tensor]:
    """What is kept with what it drops: members, and sizes of the groups."""
    rows = dets[:, :4].tolist()
    groups = greedy(
        dets[:, 4].tolist(),
        lambda i, j: overlap(rows[i], rows[j]),
        lambda u: u >= iou_threshold,
    )
    members = torch.tensor([i for group in groups for i in group], dtype=torch.int64)
    return members, torch.tensor([len(group) for group in groups], dtype=torch.int64)


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = "linear",
    offset: int = 0,
) -> tuple[Tensor, Tensor]:
    """The best box, time and again, lowers the scores of those that it overlaps."""
    rows, left = boxes.tolist(), dict(enumerate(scores.tolist()))
    taken = []
    while left:
        best = min(left, key=lambda i: (-left[i], i))
        taken.append((best, left.pop(best)))
        for j in list(left):
            u = overlap(rows[best], rows[j], offset=offset)
            u = 0.0 if math.isnan(u) else u
            if method == "gaussian":
                left[j] *= math.exp(-u * u / sigma)
            elif u >= iou_threshold:
                left[j] *= 0.0 if method == "naive" else 1 - u
            if left[j] < min_score:
                del left[j]
    indices = torch.tensor([i for i, _ in taken], dtype=torch.int64)
    values = torch.tensor([[value] for _, value in taken], dtype=torch.float64)
    return torch.cat((boxes[indices], values.view(-1, 1)), 1), indices


def convex_iou(pointsets: Tensor, polygons: Tensor) -> Tensor:
    """Of hulls of point sets with quadrilaterals; NaN for 0/0."""
    hulls = list(pointsets.numpy().reshape(-1, 9, 2))
    return _pairs(hulls, _quadrilaterals(polygons), False, lambda p, q: generalised_iou(p, q)[0])


def generalised_iou(points: Array, polygon: Array) -> tuple[float, float]:
    """IoU of the hull of points with a polygon, and the generalised one."""
    own = polygons.convex_hull(points)
    around = polygons.convex_hull(np.concatenate((points, polygon)))
    shared = polygons.intersection(own, polygon) if len(own) > 2 else 0.0
    union = (polygons.area(own) if len(own) > 2 else 0.0) + polygons.area(polygon) - shared
    iou = shared / union if union else math.nan
    return iou, iou - 1 + union / polygons.area(around)


def min_area_polygons(pointsets: Tensor) -> Tensor:
    """Of each point set."""
    corners = [polygons.smallest_rectangle(p) for p in pointsets.numpy().reshape(-1, 9, 2)]
    return torch.tensor(np.array(corners), dtype=torch.float64).view(-1, 8)
