"""Distance of each point of one set to the nearest of another.

Upstream: ``mmcv.ops.chamfer_distance`` (CUDA only), mmcv 1.3 - 2.2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._check import check_same_device, check_tensor, compute_dtype
from ._neighbours import distances

__all__ = ["chamfer_distance", "chamfer_distance_backward"]


def chamfer_distance(xyz1: Tensor, xyz2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Squared distances to the nearest point of the other set, both ways.

    Args:
        xyz1: (B, N, D) floating, N positive; upstream: D = 2.
        xyz2: (B, M, D) in the dtype of ``xyz1``, M positive.

    Returns:
        dist1 (B, N) and dist2 (B, M) in the dtype of ``xyz1``, and the indices idx1
        (B, N) and idx2 (B, M) int32 of the nearest points, the first of equals. Half
        precision is calculated in float32 and rounded once. Differentiable once.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape, a set without points, or different devices.
    """
    op = "chamfer_distance"
    check_tensor(op, "xyz1", xyz1, ("B", "N", "D"))
    check_tensor(op, "xyz2", xyz2, (xyz1.shape[0], "M", xyz1.shape[2]), xyz1.dtype)
    check_same_device(op, xyz1=xyz1, xyz2=xyz2)
    for name, value in (("xyz1", xyz1), ("xyz2", xyz2)):
        if not value.shape[1] or not value.shape[2]:
            raise ValueError(f"{op}: {name}: expected points, got shape {tuple(value.shape)}")
    return chamfer_distance_op(xyz1, xyz2)


def chamfer_distance_backward(
    grad1: Tensor, grad2: Tensor, xyz1: Tensor, xyz2: Tensor, idx1: Tensor, idx2: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of ``xyz1`` and ``xyz2``, of those of the distances, and the indices."""
    op = "chamfer_distance_backward"
    check_tensor(op, "xyz1", xyz1, ("B", "N", "D"))
    check_tensor(op, "xyz2", xyz2, (xyz1.shape[0], "M", xyz1.shape[2]), xyz1.dtype)
    for side, xyz, grad, idx in ((1, xyz1, grad1, idx1), (2, xyz2, grad2, idx2)):
        check_tensor(op, f"grad{side}", grad, tuple(xyz.shape[:2]))
        check_tensor(op, f"idx{side}", idx, tuple(xyz.shape[:2]), torch.int32)
    check_same_device(op, xyz1=xyz1, xyz2=xyz2, grad1=grad1, grad2=grad2, idx1=idx1, idx2=idx2)
    return chamfer_distance_backward_op(grad1, grad2, xyz1, xyz2, idx1, idx2)


@torch.library.custom_op(
    "mx_autopatch::chamfer_distance",
    mutates_args=(),
    schema="(Tensor xyz1, Tensor xyz2) -> (Tensor, Tensor, Tensor, Tensor)",
)
def chamfer_distance_op(xyz1: Tensor, xyz2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = compute_dtype(xyz1.dtype)
    results = []
    for a, b in ((xyz1, xyz2), (xyz2, xyz1)):
        parts = [square.min(2) for _, square in distances(a.to(dtype), b.to(dtype))]
        results.append([torch.cat([part[k] for part in parts], 1) for k in (0, 1)])
    (dist1, idx1), (dist2, idx2) = results
    return dist1.to(xyz1.dtype), dist2.to(xyz1.dtype), idx1.int(), idx2.int()


@torch.library.custom_op(
    "mx_autopatch::chamfer_distance_backward",
    mutates_args=(),
    schema="(Tensor grad1, Tensor grad2, Tensor xyz1, Tensor xyz2, Tensor idx1, Tensor idx2) "
    "-> (Tensor, Tensor)",
)
def chamfer_distance_backward_op(
    grad1: Tensor, grad2: Tensor, xyz1: Tensor, xyz2: Tensor, idx1: Tensor, idx2: Tensor
) -> tuple[Tensor, Tensor]:
    dtype = compute_dtype(xyz1.dtype)
    points = [xyz1.to(dtype), xyz2.to(dtype)]
    results = [torch.zeros_like(p) for p in points]
    for own, (grad, idx) in enumerate(((grad1, idx1), (grad2, idx2))):
        other = 1 - own
        index = idx.long()[..., None].expand_as(points[own])
        difference = points[own] - points[other].gather(1, index)
        pull = 2 * grad.to(dtype)[..., None] * difference
        results[own] += pull
        results[other].scatter_add_(1, index, -pull)
    return results[0].to(xyz1.dtype), results[1].to(xyz1.dtype)


@chamfer_distance_op.register_fake
def _(xyz1: Tensor, xyz2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dist1, dist2 = (t.new_empty(t.shape[:2]) for t in (xyz1, xyz2))
    idx1, idx2 = (torch.empty_like(t, dtype=torch.int32) for t in (dist1, dist2))
    return dist1, dist2, idx1, idx2


@chamfer_distance_backward_op.register_fake
def _(
    grad1: Tensor, grad2: Tensor, xyz1: Tensor, xyz2: Tensor, idx1: Tensor, idx2: Tensor
) -> tuple[Tensor, Tensor]:
    return xyz1.new_empty(xyz1.shape), xyz2.new_empty(xyz2.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs, *output[2:])
    ctx.mark_non_differentiable(*output[2:])


def _backward(ctx: Any, grad1: Tensor, grad2: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    return chamfer_distance_backward_op(grad1, grad2, *ctx.saved_tensors)


chamfer_distance_op.register_autograd(_backward, setup_context=_setup_context)
