"""Points in polygons, and the corners of intersections in order.

Upstream: ``mmcv.ops.points_in_polygons`` and the sorting inside
``mmcv.ops.diff_iou_rotated_2d`` and ``_3d`` (both CUDA only), mmcv 1.3 - 2.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._autograd import no_gradient
from ._check import check_same_device, check_tensor, compute_dtype

__all__ = ["points_in_polygons", "sort_vertices"]

_CORNERS = 8  # two convex quadrilaterals share a polygon of no more
_SAME_ANGLE = 1e-6


def points_in_polygons(points: Tensor, polygons: Tensor) -> Tensor:
    """Which points lie in which quadrilaterals.

    Args:
        points: (B, 2) floating, ``x, y``.
        polygons: (M, 8) in the dtype of ``points``, ``x1, y1, ..., x4, y4``; need not
            be convex.

    Returns:
        (B, M) float32, 1 inside, 0 outside (even-odd rule). For a point exactly on
        the boundary upstream stops counting there; so does this one, and its answer
        is 1 or 0 by which side comes first. Half precision is calculated in float32.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape or different devices.
    """
    op = "points_in_polygons"
    check_tensor(op, "points", points, ("B", 2))
    check_tensor(op, "polygons", polygons, ("M", 8), points.dtype)
    check_same_device(op, points=points, polygons=polygons)
    return points_in_polygons_op(points, polygons)


def sort_vertices(vertices: Tensor, mask: Tensor, num_valid: Tensor) -> Tensor:
    """Order of the corners of convex polygons around the origin.

    Args:
        vertices: (B, N, M, 2) floating, candidates relative to a point inside the
            polygon; M >= 9, and of those from the ninth on at least one is not valid.
        mask: (B, N, M) bool, which candidates are corners.
        num_valid: (B, N) int32 or int64, how many.

    Returns:
        (B, N, 9) int32: indices of the corners by angle, counter-clockwise from the
        x axis, then the first again, then padding: the first candidate from the
        ninth on that is not valid. Corners in the same direction are taken once.
        Fewer than 3 corners: padding only.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape or different devices.
    """
    op = "sort_vertices"
    check_tensor(op, "vertices", vertices, ("B", "N", "M", 2))
    check_tensor(op, "mask", mask, tuple(vertices.shape[:3]), torch.bool)
    if isinstance(num_valid, Tensor) and num_valid.dtype == torch.int32:
        num_valid = num_valid.long()
    check_tensor(op, "num_valid", num_valid, tuple(vertices.shape[:2]), torch.int64)
    check_same_device(op, vertices=vertices, mask=mask, num_valid=num_valid)
    if vertices.shape[2] <= _CORNERS:
        raise ValueError(
            f"{op}: vertices: expected at least {_CORNERS + 1} candidates, "
            f"got shape {tuple(vertices.shape)}"
        )
    return sort_vertices_op(vertices, mask, num_valid)


@torch.library.custom_op(
    "mx_autopatch::points_in_polygons",
    mutates_args=(),
    schema="(Tensor points, Tensor polygons) -> Tensor",
)
def points_in_polygons_op(points: Tensor, polygons: Tensor) -> Tensor:
    dtype = compute_dtype(points.dtype)
    px, py = points.to(dtype).T[:, :, None, None]
    sx, sy = polygons.to(dtype).view(-1, 4, 2).unbind(2)
    tx, ty = sx.roll(1, 1), sy.roll(1, 1)
    spans = (py >= torch.minimum(sy, ty)) & (py <= torch.maximum(sy, ty))
    crosses = (sy < py) != (ty < py)
    x = torch.where(crosses, sx + (py - sy) * (tx - sx) / (ty - sy), torch.nan)
    at_corner = ((sx == px) & (sy == py)) | ((tx == px) & (ty == py))
    on_boundary = spans & (at_corner | (x == px))
    before = on_boundary.cumsum(2) == 0
    return ((before & crosses & (x > px)).sum(2) % 2).float()


@torch.library.custom_op(
    "mx_autopatch::sort_vertices",
    mutates_args=(),
    schema="(Tensor vertices, Tensor mask, Tensor num_valid) -> Tensor",
)
def sort_vertices_op(vertices: Tensor, mask: Tensor, num_valid: Tensor) -> Tensor:
    x, y = vertices.to(compute_dtype(vertices.dtype)).unbind(3)
    angle = torch.atan2(y, x)
    angle = torch.where(angle < 0, angle + 2 * torch.pi, angle)
    angle, order = torch.where(mask, angle, torch.inf).sort(dim=2, stable=True)
    # Seen from inside, a convex polygon has one boundary point in every direction. Of
    # two boxes that agree but for rounding every corner comes several times.
    distinct = torch.ones_like(mask)
    distinct[..., 1:] = angle[..., 1:] - angle[..., :-1] > _SAME_ANGLE
    distinct &= torch.isfinite(angle)
    count = distinct.sum(2, keepdim=True).clamp(max=_CORNERS)
    order = order.gather(2, (~distinct).to(torch.uint8).argsort(dim=2, stable=True))
    order = order[..., : _CORNERS + 1]
    padding = mask[..., _CORNERS:].to(torch.int32).argmin(2, keepdim=True) + _CORNERS
    place = torch.arange(_CORNERS + 1, device=order.device)
    order = torch.where(place < count, order, torch.where(place == count, order[..., :1], padding))
    return torch.where((count < 3) | (num_valid[..., None] < 3), padding, order).int()


@points_in_polygons_op.register_fake
def _(points: Tensor, polygons: Tensor) -> Tensor:
    return points.new_empty((points.shape[0], polygons.shape[0]), dtype=torch.float32)


@sort_vertices_op.register_fake
def _(vertices: Tensor, mask: Tensor, num_valid: Tensor) -> Tensor:
    return vertices.new_empty((*vertices.shape[:2], _CORNERS + 1), dtype=torch.int32)


no_gradient(points_in_polygons_op)
no_gradient(sort_vertices_op)
