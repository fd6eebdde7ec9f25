"""Points in balls around centres (Qi et al. 2017, PointNet++).

Upstream: ``mmcv.ops.ball_query`` (CUDA only), mmcv 1.3 - 2.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._autograd import no_gradient
from ._check import check_same_device, check_tensor, compute_dtype
from ._neighbours import distances, first_in_rows

__all__ = ["ball_query", "stack_ball_query"]


def ball_query(
    center_xyz: Tensor, xyz: Tensor, min_radius: float, max_radius: float, sample_num: int
) -> Tensor:
    """The first points in each ball, or shell.

    Args:
        center_xyz: (B, M, 3) floating.
        xyz: (B, N, 3) in the dtype of ``center_xyz``.
        min_radius, max_radius: a point counts if its distance d is 0, or
            min_radius <= d < max_radius.
        sample_num: S, points of a ball, positive.

    Returns:
        (B, M, S) int32 indices, in ascending order. What is missing is the first one;
        in a ball without points, 0. Half precision is calculated in float32. Not
        differentiable.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape, different devices, or no points to sample.
    """
    op = "ball_query"
    check_tensor(op, "center_xyz", center_xyz, ("B", "M", 3))
    check_tensor(op, "xyz", xyz, (center_xyz.shape[0], "N", 3), center_xyz.dtype)
    check_same_device(op, center_xyz=center_xyz, xyz=xyz)
    _check_samples(op, sample_num)
    return ball_query_op(center_xyz, xyz, float(min_radius), float(max_radius), sample_num)


def stack_ball_query(
    center_xyz: Tensor,
    center_xyz_batch_cnt: Tensor,
    xyz: Tensor,
    xyz_batch_cnt: Tensor,
    max_radius: float,
    sample_num: int,
) -> Tensor:
    """The same for batches of different sizes, one after the other.

    Args:
        center_xyz: (M, 3) floating; ``center_xyz_batch_cnt``: (B,) int32, how many of
            them each batch has, M in all.
        xyz: (N, 3) in the dtype of ``center_xyz``; ``xyz_batch_cnt``: likewise.
        max_radius: a point counts if its distance is less.
        sample_num: S, points of a ball, positive.

    Returns:
        (M, S) int32 indices within the batch, in ascending order. What is missing is
        the first one; in a ball without points, -1 and then 0.

    Raises:
        TypeError, ValueError: as ball_query, and for batches that do not add up.
    """
    op = "stack_ball_query"
    check_tensor(op, "center_xyz", center_xyz, ("M", 3))
    check_tensor(op, "xyz", xyz, ("N", 3), center_xyz.dtype)
    check_batches(op, "center_xyz_batch_cnt", center_xyz_batch_cnt, center_xyz)
    check_batches(op, "xyz_batch_cnt", xyz_batch_cnt, xyz)
    if len(center_xyz_batch_cnt) != len(xyz_batch_cnt):
        raise ValueError(
            f"{op}: xyz_batch_cnt: expected {len(center_xyz_batch_cnt)} batches as "
            f"center_xyz_batch_cnt, got {len(xyz_batch_cnt)}"
        )
    check_same_device(op, center_xyz=center_xyz, xyz=xyz)
    _check_samples(op, sample_num)
    tensors = center_xyz, center_xyz_batch_cnt, xyz, xyz_batch_cnt
    return stack_ball_query_op(*tensors, float(max_radius), sample_num)


def _check_samples(op: str, sample_num: int) -> None:
    if sample_num < 1:
        raise ValueError(f"{op}: sample_num: expected >= 1, got {sample_num}")


def check_batches(op: str, name: str, count: Tensor, rows: Tensor) -> None:
    """Raise unless ``count`` (B,) int32 divides ``rows``."""
    check_tensor(op, name, count, ("B",), torch.int32)
    check_same_device(op, rows=rows, **{name: count})
    if not torch.compiler.is_compiling() and int(count.sum()) != len(rows):
        raise ValueError(f"{op}: {name}: expected {len(rows)} in all, got {count.tolist()}")


def _square(radius: float) -> float:
    """As upstream, which has radii in float32."""
    return float(torch.tensor(radius, dtype=torch.float32).square())


@torch.library.custom_op(
    "mx_autopatch::ball_query",
    mutates_args=(),
    schema="(Tensor center_xyz, Tensor xyz, float min_radius, float max_radius, int sample_num) "
    "-> Tensor",
)
def ball_query_op(
    center_xyz: Tensor, xyz: Tensor, min_radius: float, max_radius: float, sample_num: int
) -> Tensor:
    dtype = compute_dtype(xyz.dtype)
    result = xyz.new_zeros((*center_xyz.shape[:2], sample_num), dtype=torch.int32)
    if not xyz.shape[1]:
        return result
    low, high = _square(min_radius), _square(max_radius)
    for part, square in distances(center_xyz.to(dtype), xyz.to(dtype)):
        within = (square == 0) | ((square >= low) & (square < high))
        table, _ = first_in_rows(within.flatten(0, 1), sample_num)
        result[:, part] = table.view(*square.shape[:2], sample_num).int()
    return result


@torch.library.custom_op(
    "mx_autopatch::stack_ball_query",
    mutates_args=(),
    schema="(Tensor center_xyz, Tensor center_xyz_batch_cnt, Tensor xyz, Tensor xyz_batch_cnt, "
    "float max_radius, int sample_num) -> Tensor",
)
def stack_ball_query_op(
    center_xyz: Tensor,
    center_xyz_batch_cnt: Tensor,
    xyz: Tensor,
    xyz_batch_cnt: Tensor,
    max_radius: float,
    sample_num: int,
) -> Tensor:
    dtype, high = compute_dtype(xyz.dtype), _square(max_radius)
    parts = [xyz.new_zeros((0, sample_num), dtype=torch.int32)]
    batches = zip(
        center_xyz.to(dtype).split(center_xyz_batch_cnt.tolist()),
        xyz.to(dtype).split(xyz_batch_cnt.tolist()),
    )
    for centres, points in batches:
        if not len(points):
            parts.append(xyz.new_zeros((len(centres), sample_num), dtype=torch.int32))
            parts[-1][:, 0] = -1
            continue
        for _, square in distances(centres[None], points[None]):
            table, found = first_in_rows(square[0] < high, sample_num)
            table[:, 0] = torch.where(found == 0, -1, table[:, 0])
            parts.append(table.int())
    return torch.cat(parts)


@ball_query_op.register_fake
def _(
    center_xyz: Tensor, xyz: Tensor, min_radius: float, max_radius: float, sample_num: int
) -> Tensor:
    return xyz.new_empty((*center_xyz.shape[:2], sample_num), dtype=torch.int32)


@stack_ball_query_op.register_fake
def _(
    center_xyz: Tensor,
    center_xyz_batch_cnt: Tensor,
    xyz: Tensor,
    xyz_batch_cnt: Tensor,
    max_radius: float,
    sample_num: int,
) -> Tensor:
    return xyz.new_empty((center_xyz.shape[0], sample_num), dtype=torch.int32)


no_gradient(ball_query_op)
no_gradient(stack_ball_query_op)
