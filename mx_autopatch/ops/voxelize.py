"""Points into voxels, hard (at most so many points and voxels) or dynamic (all).

Upstream: ``mmcv.ops.voxelization`` (the compiled CPU operators, deterministic on all
devices), mmcv 1.3 - 2.2. Sorting takes the place of upstream's dense table of voxels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._autograd import no_gradient
from ._check import check_tensor, compute_dtype

__all__ = ["dynamic_voxelize", "hard_voxelize"]


def dynamic_voxelize(
    points: Tensor, voxel_size: Sequence[float], coors_range: Sequence[float]
) -> Tensor:
    """Voxel of each point.

    Args:
        points: (N, C) floating, C >= 3, ``x, y, z`` first.
        voxel_size: size of a voxel along x, y and z, positive.
        coors_range: ``x_min, y_min, z_min, x_max, y_max, z_max``.

    Returns:
        (N, 3) int32, numbers of the voxel along z, y and x; -1 three times for a point
        out of range, or NaN. Half precision is calculated in float32. Not differentiable.

    Raises:
        TypeError: ``points`` is no tensor or not floating.
        ValueError: wrong shape, voxels of no size, or not six limits.
    """
    _check("dynamic_voxelize", points, voxel_size, coors_range)
    return dynamic_voxelize_op(points, list(voxel_size), list(coors_range))


def hard_voxelize(
    points: Tensor,
    voxel_size: Sequence[float],
    coors_range: Sequence[float],
    max_points: int,
    max_voxels: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Voxels, in order of their first points, with their first points.

    Args:
        points, voxel_size, coors_range: as in dynamic_voxelize.
        max_points: points kept in a voxel, positive.
        max_voxels: voxels kept, not negative; points elsewhere are dropped.

    Returns:
        voxels (M, max_points, C) in the dtype of ``points``, zeros after the last
        point; coordinates (M, 3) int32 along z, y and x; and the number of points
        (M,) int32. Not differentiable.

    M depends on the values; for ``torch.compile`` see ``nms``.

    Raises:
        TypeError, ValueError: as dynamic_voxelize, and for limits out of range.
    """
    op = "hard_voxelize"
    _check(op, points, voxel_size, coors_range)
    for name, value, least in (("max_points", max_points, 1), ("max_voxels", max_voxels, 0)):
        if value < least:
            raise ValueError(f"{op}: {name}: expected a number >= {least}, got {value}")
    options = list(voxel_size), list(coors_range), int(max_points), int(max_voxels)
    return hard_voxelize_op(points, *options)


def _check(
    op: str, points: Tensor, voxel_size: Sequence[float], coors_range: Sequence[float]
) -> None:
    check_tensor(op, "points", points, ("N", "C"))
    if points.shape[1] < 3:
        raise ValueError(f"{op}: points: expected shape (N, >= 3), got {tuple(points.shape)}")
    if len(voxel_size) != 3 or not min(voxel_size) > 0:
        raise ValueError(f"{op}: voxel_size: expected three positive sizes, got {voxel_size}")
    if len(coors_range) != 6:
        raise ValueError(f"{op}: coors_range: expected six limits, got {coors_range}")


def _voxels(
    points: Tensor, voxel_size: list[float], coors_range: list[float]
) -> tuple[Tensor, Tensor, list[int]]:
    """Voxels (N, 3) along x, y and z, not yet integer, which points are in range, and the grid."""
    points = points[:, :3].to(compute_dtype(points.dtype))
    grid = grid_of(voxel_size, coors_range)
    # float32, like upstream's, whatever the dtype of the points.
    size, begin = (torch.tensor(v, dtype=torch.float32) for v in (voxel_size, coors_range[:3]))
    number = ((points - begin.to(points)) / size.to(points)).floor_()
    inside = ((number >= 0) & (number < points.new_tensor(grid))).all(1)
    return number, inside, grid


def grid_of(voxel_size: list[float], coors_range: list[float]) -> list[int]:
    """Numbers of voxels along x, y and z."""
    # float32, like upstream's.
    size, limits = (torch.tensor(v, dtype=torch.float32) for v in (voxel_size, coors_range))
    numbers = ((limits[3:] - limits[:3]) / size).round().tolist()
    return [max(int(n), 0) for n in numbers]


@torch.library.custom_op(
    "mx_autopatch::dynamic_voxelize",
    mutates_args=(),
    schema="(Tensor points, float[] voxel_size, float[] coors_range) -> Tensor",
)
def dynamic_voxelize_op(
    points: Tensor, voxel_size: list[float], coors_range: list[float]
) -> Tensor:
    number, inside, _ = _voxels(points, voxel_size, coors_range)
    return torch.where(inside[:, None], number, -1.0).int().flip(1)


@torch.library.custom_op(
    "mx_autopatch::hard_voxelize",
    mutates_args=(),
    schema="(Tensor points, float[] voxel_size, float[] coors_range, int max_points, "
    "int max_voxels) -> (Tensor, Tensor, Tensor)",
)
def hard_voxelize_op(
    points: Tensor,
    voxel_size: list[float],
    coors_range: list[float],
    max_points: int,
    max_voxels: int,
) -> tuple[Tensor, Tensor, Tensor]:
    number, inside, (size_x, size_y, size_z) = _voxels(points, voxel_size, coors_range)
    source = inside.nonzero()[:, 0]
    # int32 sorts in half the time.
    narrow = size_x * size_y * size_z < 1 << 31
    x, y, z = number.index_select(0, source).to(torch.int32 if narrow else torch.int64).unbind(1)
    cell, order = ((z * size_y + y) * size_x + x).sort(stable=True)
    _, group, count = cell.unique_consecutive(return_inverse=True, return_counts=True)
    begin = count.cumsum(0) - count
    # Voxels in order of their first points, as many as may be.
    first = order[begin]
    opens = torch.zeros_like(order).scatter_(0, first, 1)
    voxel = (opens.cumsum(0) - 1)[first]
    place = torch.arange(len(order), device=order.device) - begin[group]
    slot = voxel[group] * max_points + place
    total = min(len(count), max_voxels)
    kept = ((place < max_points) & (slot < total * max_points)).nonzero()[:, 0]
    voxels = points.new_zeros(total * max_points, points.shape[1])
    voxels.index_copy_(0, slot[kept], points.index_select(0, source[order[kept]]))
    leading = torch.empty_like(first).scatter_(0, voxel, first)[:total]
    coors = torch.stack([t[leading].int() for t in (z, y, x)], 1)
    sizes = torch.empty_like(count).scatter_(0, voxel, count)[:total]
    return (
        voxels.view(total, max_points, points.shape[1]),
        coors,
        sizes.clamp_(max=max_points).int(),
    )


@dynamic_voxelize_op.register_fake
def _(points: Tensor, voxel_size: list[float], coors_range: list[float]) -> Tensor:
    return points.new_empty((points.shape[0], 3), dtype=torch.int32)


@hard_voxelize_op.register_fake
def _(
    points: Tensor,
    voxel_size: list[float],
    coors_range: list[float],
    max_points: int,
    max_voxels: int,
) -> tuple[Tensor, Tensor, Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    return (
        points.new_empty((count, max_points, points.shape[1])),
        points.new_empty((count, 3), dtype=torch.int32),
        points.new_empty((count,), dtype=torch.int32),
    )


no_gradient(dynamic_voxelize_op)
no_gradient(hard_voxelize_op)
