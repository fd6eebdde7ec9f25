"""Convex hulls of nine points against quadrilaterals, and the rectangle around them.

Upstream: ``mmcv.ops.convex_iou``, ``convex_giou`` and ``min_area_polygons`` (CUDA
only), mmcv 1.3 - 2.2, of Guo et al. 2021, "Beyond Bounding-Box". GIoU is that of
Rezatofighi et al. 2019.

When a vertex of a polygon moves, an area grows by what its sides sweep: side p to q
sweeps along its outward normal, each of its points by the share of p and q there.
Of an intersection only the part of the side inside the other polygon counts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._autograd import no_gradient
from ._check import check_same_device, check_tensor
from ._polygons import (
    Polygon,
    area,
    candidate_pairs,
    counter_clockwise,
    cross,
    exact_dtype,
    hull,
    intersection_area,
)

__all__ = ["convex_giou", "convex_iou", "min_area_polygons"]


def convex_iou(pointsets: Tensor, polygons: Tensor) -> Tensor:
    """IoU of the convex hull of each point set with each polygon.

    Args:
        pointsets: (N, 18) floating, nine points ``x1, y1, ..., x9, y9``.
        polygons: (K, 8) in the dtype of ``pointsets``, the corners of convex
            quadrilaterals, in either direction around.

    Returns:
        (N, K) in the dtype of ``pointsets``, calculated in float64 where the device
        has it. 0/0 is NaN. Not differentiable.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape or different devices.
    """
    _check("convex_iou", pointsets, polygons, "K")
    return convex_iou_op(pointsets, polygons)


def convex_giou(pointsets: Tensor, polygons: Tensor) -> tuple[Tensor, Tensor]:
    """Generalised IoU of the convex hull of each point set with the polygon of its row.

    Args:
        pointsets, polygons: (N, 18) and (N, 8), as for convex_iou.

    Returns:
        The GIoU (N,), and its gradient (N, 18) by the points: 0 for points inside the
        hull; where sides lie on each other, one of several. The outputs carry no
        gradient themselves. Precision and errors as for convex_iou.
    """
    _check("convex_giou", pointsets, polygons, pointsets.shape[0])
    return convex_giou_op(pointsets, polygons)


def min_area_polygons(pointsets: Tensor) -> Tensor:
    """Corners of the smallest rectangle around each point set.

    Args:
        pointsets: (N, 18) floating, nine points ``x1, y1, ..., x9, y9``.

    Returns:
        (N, 8) in the dtype of ``pointsets``. In axes (u, v) turned by the angle of a
        side, in [0, pi/2): u and v of the corners are (max, min), (min, min),
        (min, max), (max, max). Of several smallest, that along the first side of the
        hull, counter-clockwise from its lowest point. Not differentiable.

    Raises:
        TypeError: ``pointsets`` is no tensor or not floating.
        ValueError: wrong shape.
    """
    check_tensor("min_area_polygons", "pointsets", pointsets, ("N", 18))
    return min_area_polygons_op(pointsets)


def _check(op: str, pointsets: Tensor, polygons: Tensor, rows: int | str) -> None:
    check_tensor(op, "pointsets", pointsets, ("N", 18))
    check_tensor(op, "polygons", polygons, (rows, 8), pointsets.dtype)
    check_same_device(op, pointsets=pointsets, polygons=polygons)


def _points(rows: Tensor) -> Polygon:
    rows = rows.to(exact_dtype(rows))
    return rows[:, 0::2], rows[:, 1::2]


def _take(points: Polygon, index: Tensor) -> Polygon:
    return points[0].gather(1, index), points[1].gather(1, index)


def _from_middle(points: Polygon, polygons: Polygon) -> tuple[Polygon, Polygon]:
    x, y = (t.mean(1, keepdim=True) for t in points)
    return (points[0] - x, points[1] - y), (polygons[0] - x, polygons[1] - y)


def _swept(polygon: Polygon, begin: Tensor | float, end: Tensor | float) -> Polygon:
    """Gradient of an area by the vertices, of which side k bounds [begin, end] of it."""
    x, y = polygon
    normal_x, normal_y = y.roll(-1, 1) - y, x - x.roll(-1, 1)
    to_end = (end**2 - begin**2) / 2  # integral of the share of the side's end
    to_begin = (end - begin) - to_end
    return tuple(to_begin * n + (to_end * n).roll(1, 1) for n in (normal_x, normal_y))  # type: ignore[return-value]


def _inside(polygon: Polygon, window: Polygon) -> tuple[Tensor, Tensor]:
    """Begin and end, in [0, 1], of the part of each side inside a convex window."""
    x, y = polygon
    wx, wy = window
    begin, end = torch.zeros_like(x), torch.ones_like(x)
    for side in range(wx.shape[1]):
        ax, ay = wx[:, side, None], wy[:, side, None]
        bx, by = wx.roll(-1, 1)[:, side, None], wy.roll(-1, 1)[:, side, None]
        distance = cross(bx - ax, by - ay, x - ax, y - ay)
        change = distance.roll(-1, 1) - distance
        t = -distance / change
        begin = torch.where(change > 0, begin.maximum(t), begin)
        end = torch.where(change < 0, end.minimum(t), end)
        end = torch.where((change == 0) & (distance < 0), begin, end)
    return begin, end.maximum(begin)


@torch.library.custom_op(
    "mx_autopatch::convex_iou",
    mutates_args=(),
    schema="(Tensor pointsets, Tensor polygons) -> Tensor",
)
def convex_iou_op(pointsets: Tensor, polygons: Tensor) -> Tensor:
    points, quads = _points(pointsets), counter_clockwise(_points(polygons))
    if not pointsets.shape[0]:
        return pointsets.new_zeros(0, polygons.shape[0])
    hulls = _take(points, hull(*points))
    inter = hulls[0].new_zeros(len(pointsets), len(polygons))
    for i, j in candidate_pairs(hulls, quads):
        a, b = _from_middle((hulls[0][i], hulls[1][i]), (quads[0][j], quads[1][j]))
        inter[i, j] = intersection_area(a, b)
    union = area(hulls)[:, None] + area(quads) - inter
    return (inter / union).to(pointsets.dtype)


@torch.library.custom_op(
    "mx_autopatch::convex_giou",
    mutates_args=(),
    schema="(Tensor pointsets, Tensor polygons) -> (Tensor, Tensor)",
)
def convex_giou_op(pointsets: Tensor, polygons: Tensor) -> tuple[Tensor, Tensor]:
    if not pointsets.shape[0]:
        return pointsets.new_zeros(0), torch.zeros_like(pointsets)
    points, quads = _from_middle(_points(pointsets), counter_clockwise(_points(polygons)))
    vertices = hull(*points)
    own = _take(points, vertices)
    inter = intersection_area(own, quads)[:, None]
    own_area = area(own)[:, None]
    union = own_area + area(quads)[:, None] - inter
    everything = torch.cat((points[0], quads[0]), 1), torch.cat((points[1], quads[1]), 1)
    around_vertices = hull(*everything)
    around = _take(everything, around_vertices)
    around_area = area(around)[:, None]
    giou = inter / union - 1 + union / around_area

    grads = []
    of_inter, of_own, of_around = (
        _swept(own, *_inside(own, quads)),
        _swept(own, 0.0, 1.0),
        _swept(around, 0.0, 1.0),
    )
    for d_inter, d_own, d_around in zip(of_inter, of_own, of_around):
        d_union = d_own - d_inter
        by_own = d_inter / union - inter / union**2 * d_union + d_union / around_area
        by_around = -union / around_area**2 * d_around
        grad = by_own.new_zeros(everything[0].shape)
        grad.scatter_add_(1, vertices, by_own).scatter_add_(1, around_vertices, by_around)
        grads.append(grad[:, :9])
    grad = torch.stack(grads, 2).flatten(1)
    return giou[:, 0].to(pointsets.dtype), grad.to(pointsets.dtype)


@torch.library.custom_op(
    "mx_autopatch::min_area_polygons", mutates_args=(), schema="(Tensor pointsets) -> Tensor"
)
def min_area_polygons_op(pointsets: Tensor) -> Tensor:
    x, y = _points(pointsets)
    if not len(x):
        return pointsets.new_zeros(0, 8)
    # The smallest rectangle has a side along one of the hull.
    hull_x, hull_y = _take((x, y), hull(x, y))
    dx, dy = hull_x.roll(-1, 1) - hull_x, hull_y.roll(-1, 1) - hull_y
    length = (dx.square() + dy.square()).sqrt()
    # Nine points in one place have no side: any direction, and a rectangle of no size.
    point = (length == 0).all(1, keepdim=True)
    dx, dy = torch.where(point, 1.0, dx / length), torch.where(point, 0.0, dy / length)
    # Turned by right angles into [0, pi/2).
    for _ in range(3):
        turn = (dx <= 0) | (dy < 0)
        dx, dy = torch.where(turn, -dy, dx), torch.where(turn, dx, dy)
    u = dx[:, :, None] * x[:, None] + dy[:, :, None] * y[:, None]
    v = dx[:, :, None] * y[:, None] - dy[:, :, None] * x[:, None]
    low_u, high_u, low_v, high_v = u.amin(2), u.amax(2), v.amin(2), v.amax(2)
    areas = (high_u - low_u) * (high_v - low_v)
    areas = torch.where((length > 0) | point, areas, torch.inf)
    # Of rectangles equal but for rounding, that of the first side.
    best = (areas <= areas.amin(1, keepdim=True) * (1 + 1e-6)).int().argmax(1, keepdim=True)
    dx, dy, low_u, high_u, low_v, high_v = (
        t.gather(1, best) for t in (dx, dy, low_u, high_u, low_v, high_v)
    )
    u, v = (
        torch.cat((high_u, low_u, low_u, high_u), 1),
        torch.cat((low_v, low_v, high_v, high_v), 1),
    )
    return torch.stack((u * dx - v * dy, u * dy + v * dx), 2).flatten(1).to(pointsets.dtype)


@convex_iou_op.register_fake
def _(pointsets: Tensor, polygons: Tensor) -> Tensor:
    return pointsets.new_empty(pointsets.shape[0], polygons.shape[0])


@convex_giou_op.register_fake
def _(pointsets: Tensor, polygons: Tensor) -> tuple[Tensor, Tensor]:
    return pointsets.new_empty(pointsets.shape[0]), pointsets.new_empty(pointsets.shape)


@min_area_polygons_op.register_fake
def _(pointsets: Tensor) -> Tensor:
    return pointsets.new_empty(pointsets.shape[0], 8)


for _op in (convex_iou_op, convex_giou_op, min_area_polygons_op):
    no_gradient(_op)
