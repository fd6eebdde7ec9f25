"""Points into voxels by mx_driving; torch_npu has no operator for it.

mx_driving numbers an axis in 11 bits, that of z in 8, and sorts numbers of points as float32;
both are in its code, not in its documentation. It multiplies by the reciprocal of a size, so
that a point within rounding of two voxels' border may fall into the other one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._check import compute_dtype
from ..voxelize import dynamic_voxelize_op, grid_of, hard_voxelize_op
from ._binding import bind
from ._mx_driving import mx_driving

__all__: list[str] = []

_MOST_POINTS_IN_VOXEL = 1000  # as mx_driving documents
_MOST_POINTS, _GRID = 2**24, (2048, 2048, 256)


def _covered(points: Tensor) -> bool:
    return compute_dtype(points.dtype) == torch.float32 and points.shape[0] > 0


def _dynamic(points: Tensor, voxel_size: list[float], coors_range: list[float]) -> Tensor | None:
    function = mx_driving("voxelization")
    if function is None or not _covered(points):
        return None
    # Its result is along z, y and x.
    numbers: Tensor = function(points.float().contiguous(), voxel_size, coors_range, -1, -1)
    return numbers.contiguous()


def _hard(
    points: Tensor,
    voxel_size: list[float],
    coors_range: list[float],
    max_points: int,
    max_voxels: int,
) -> tuple[Tensor, Tensor, Tensor] | None:
    function = mx_driving("voxelization")
    covered = (
        _covered(points)
        and points.shape[0] <= _MOST_POINTS
        and max_points <= _MOST_POINTS_IN_VOXEL
        and max_voxels > 0
        and all(n <= most for n, most in zip(grid_of(voxel_size, coors_range), _GRID))
    )
    if function is None or not covered:
        return None
    limits = voxel_size, coors_range, max_points, max_voxels
    _, voxels, coors, count = function(points.float().contiguous(), *limits)
    # Along x, y and z unless told otherwise, which releases differ in.
    return voxels.to(points.dtype), coors.flip(1), count


bind(dynamic_voxelize_op, _dynamic)
bind(hard_voxelize_op, _hard)
