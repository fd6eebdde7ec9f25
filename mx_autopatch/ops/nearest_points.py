"""Nearest and furthest points.

Upstream: ``mmcv.ops.knn``, ``three_nn``, ``furthest_point_sample`` and
``furthest_point_sample_with_dist`` (CUDA only), mmcv 1.3 - 2.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._autograd import no_gradient
from ._check import check_same_device, check_tensor, compute_dtype
from ._neighbours import distances, nearest

__all__ = ["furthest_point_sampling", "furthest_point_sampling_with_dist", "knn", "three_nn"]


def knn(k: int, xyz: Tensor, center_xyz: Tensor) -> tuple[Tensor, Tensor]:
    """The k points nearest to each centre.

    Args:
        k: positive.
        xyz: (B, N, 3) floating.
        center_xyz: (B, M, 3) in the dtype of ``xyz``.

    Returns:
        squared distances (B, M, k) in the dtype of ``xyz``, ascending, and indices
        (B, M, k) int32; infinity and 0 where there are fewer points. Equal distances
        are in order of their indices; which of those at the k-th distance are among
        the k is not defined. Half precision is calculated in float32 and rounded
        once. Not differentiable.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape, different devices, or k not positive.
    """
    check_tensor("knn", "xyz", xyz, ("B", "N", 3))
    check_tensor("knn", "center_xyz", center_xyz, (xyz.shape[0], "M", 3), xyz.dtype)
    check_same_device("knn", xyz=xyz, center_xyz=center_xyz)
    if k < 1:
        raise ValueError(f"knn: k: expected >= 1, got {k}")
    return knn_op(k, xyz, center_xyz)


def three_nn(target: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """The three points of ``source`` (B, M, 3) nearest to each of ``target`` (B, N, 3).

    Returns squared distances and indices (B, N, 3); otherwise as knn.
    """
    op = "three_nn"
    check_tensor(op, "target", target, ("B", "N", 3))
    check_tensor(op, "source", source, (target.shape[0], "M", 3), target.dtype)
    check_same_device(op, target=target, source=source)
    return knn_op(3, source, target)


def furthest_point_sampling(points_xyz: Tensor, num_points: int) -> Tensor:
    """Points far from each other: each is the one furthest from all before it.

    Args:
        points_xyz: (B, N, 3) floating, N positive.
        num_points: M, not negative.

    Returns:
        (B, M) int32 indices; the first is 0, and of points equally far the first is
        taken. Half precision is calculated in float32. Not differentiable.

    Raises:
        TypeError: ``points_xyz`` is no tensor or not floating.
        ValueError: wrong shape, no points, or a negative number.
    """
    op = "furthest_point_sampling"
    check_tensor(op, "points_xyz", points_xyz, ("B", "N", 3))
    _check_sampling(op, "points_xyz", points_xyz, num_points)
    return furthest_point_sampling_op(points_xyz, num_points)


def furthest_point_sampling_with_dist(points_dist: Tensor, num_points: int) -> Tensor:
    """The same, of the distances (B, N, N) between points that are known by them only."""
    op = "furthest_point_sampling_with_dist"
    check_tensor(op, "points_dist", points_dist, ("B", "N", "N"))
    _check_sampling(op, "points_dist", points_dist, num_points)
    if points_dist.shape[1] != points_dist.shape[2]:
        shape = tuple(points_dist.shape)
        raise ValueError(f"{op}: points_dist: expected shape (B, N, N), got {shape}")
    return furthest_point_sampling_with_dist_op(points_dist, num_points)


def _check_sampling(op: str, name: str, points: Tensor, num_points: int) -> None:
    if num_points < 0:
        raise ValueError(f"{op}: num_points: expected >= 0, got {num_points}")
    if num_points and not points.shape[1]:
        raise ValueError(f"{op}: {name}: expected points to sample, got {tuple(points.shape)}")


@torch.library.custom_op(
    "mx_autopatch::knn",
    mutates_args=(),
    schema="(int k, Tensor xyz, Tensor center_xyz) -> (Tensor, Tensor)",
)
def knn_op(k: int, xyz: Tensor, center_xyz: Tensor) -> tuple[Tensor, Tensor]:
    dtype = compute_dtype(xyz.dtype)
    shape = *center_xyz.shape[:2], k
    squares = xyz.new_full(shape, torch.inf)
    indices = xyz.new_zeros(shape, dtype=torch.int32)
    if xyz.shape[1]:
        for part, square in distances(center_xyz.to(dtype), xyz.to(dtype)):
            smallest, index = nearest(square, k)
            squares[:, part], indices[:, part] = smallest.to(xyz.dtype), index.int()
    return squares, indices


# Each sample depends on the one before: the loop over them is the algorithm. The
# distances of all points to all samples so far are never needed, only the least.
@torch.library.custom_op(
    "mx_autopatch::furthest_point_sampling",
    mutates_args=(),
    schema="(Tensor points_xyz, int num_points) -> Tensor",
)
def furthest_point_sampling_op(points_xyz: Tensor, num_points: int) -> Tensor:
    batch, count = points_xyz.shape[:2]
    # Coordinates as rows: a sample is one column of each.
    axes = points_xyz.to(compute_dtype(points_xyz.dtype)).permute(2, 0, 1).contiguous()
    samples = torch.zeros(num_points, batch, 1, dtype=torch.int64, device=axes.device)
    least = axes.new_full((batch, count), torch.inf)
    # One buffer for all steps: a new one each time costs more than the arithmetic.
    work = torch.empty_like(axes)
    for k in range(1, num_points):
        last = axes.gather(2, samples[k - 1].expand(3, -1, -1))
        x, y, z = torch.sub(axes, last, out=work).square_()
        torch.minimum(least, x.add_(y).add_(z), out=least)
        torch.argmax(least, 1, keepdim=True, out=samples[k])
    return samples[..., 0].T.int().contiguous()


@torch.library.custom_op(
    "mx_autopatch::furthest_point_sampling_with_dist",
    mutates_args=(),
    schema="(Tensor points_dist, int num_points) -> Tensor",
)
def furthest_point_sampling_with_dist_op(points_dist: Tensor, num_points: int) -> Tensor:
    batch, count = points_dist.shape[:2]
    samples = torch.zeros(num_points, batch, 1, dtype=torch.int64, device=points_dist.device)
    least = points_dist.new_full((batch, count), torch.inf)
    for k in range(1, num_points):
        row = points_dist.gather(1, samples[k - 1, :, :, None].expand(-1, 1, count))[:, 0]
        torch.minimum(least, row, out=least)
        torch.argmax(least, 1, keepdim=True, out=samples[k])
    return samples[..., 0].T.int().contiguous()


@knn_op.register_fake
def _(k: int, xyz: Tensor, center_xyz: Tensor) -> tuple[Tensor, Tensor]:
    shape = *center_xyz.shape[:2], k
    return xyz.new_empty(shape), xyz.new_empty(shape, dtype=torch.int32)


@furthest_point_sampling_op.register_fake
@furthest_point_sampling_with_dist_op.register_fake
def _(points: Tensor, num_points: int) -> Tensor:
    return points.new_empty((points.shape[0], num_points), dtype=torch.int32)


for _op in (knn_op, furthest_point_sampling_op, furthest_point_sampling_with_dist_op):
    no_gradient(_op)
