"""Points reduced to one row a voxel.

Upstream: ``mmcv.ops.dynamic_scatter`` (CUDA only), mmcv 1.3 - 2.2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._check import check_same_device, check_tensor, compute_dtype
from ._coordinates import group_rows

__all__ = ["dynamic_scatter", "dynamic_scatter_backward"]

_REDUCE = ("max", "mean", "sum")


def dynamic_scatter(
    feats: Tensor, coors: Tensor, reduce_type: str = "max"
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Maximum, mean or sum of the points in each voxel.

    Args:
        feats: (N, C) floating, one row a point.
        coors: (N, D) integer, the voxel of each point; a point with a negative
            coordinate is in none.
        reduce_type: "max", "mean" or "sum".

    Returns:
        features (M, C) in the dtype of ``feats``; coordinates (M, D) of the voxels in
        lexicographic order, in the dtype of ``coors``; the voxel (N,) int32 of each
        point, or -1; and the number of points (M,) int32 of each voxel. Half
        precision is calculated in float32 and rounded once. Differentiable once, in
        ``feats``; of equal maxima the first point gets the gradient.

    M depends on the values; for ``torch.compile`` see ``nms``.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape, different devices, or unknown reduce_type.
    """
    op = "dynamic_scatter"
    check_tensor(op, "feats", feats, ("N", "C"))
    dtype = coors.dtype if isinstance(coors, Tensor) and coors.dtype == torch.int64 else torch.int32
    check_tensor(op, "coors", coors, (feats.shape[0], "D"), dtype)
    check_same_device(op, feats=feats, coors=coors)
    _check_reduce(op, reduce_type)
    return dynamic_scatter_op(feats, coors, reduce_type)


def dynamic_scatter_backward(
    grad_reduced: Tensor,
    feats: Tensor,
    reduced: Tensor,
    coors_map: Tensor,
    count: Tensor,
    reduce_type: str = "max",
) -> Tensor:
    """Gradient (N, C) of ``feats``, of that of the features and what the operator returned."""
    op = "dynamic_scatter_backward"
    check_tensor(op, "feats", feats, ("N", "C"))
    check_tensor(op, "reduced", reduced, ("M", feats.shape[1]), feats.dtype)
    check_tensor(op, "grad_reduced", grad_reduced, tuple(reduced.shape))
    check_tensor(op, "coors_map", coors_map, (feats.shape[0],), torch.int32)
    check_tensor(op, "count", count, (reduced.shape[0],), torch.int32)
    check_same_device(op, feats=feats, reduced=reduced, grad_reduced=grad_reduced)
    check_same_device(op, feats=feats, coors_map=coors_map, count=count)
    _check_reduce(op, reduce_type)
    return dynamic_scatter_backward_op(grad_reduced, feats, reduced, coors_map, count, reduce_type)


def _check_reduce(op: str, reduce_type: str) -> None:
    if reduce_type not in _REDUCE:
        raise ValueError(f"{op}: reduce_type: expected one of {_REDUCE}, got {reduce_type!r}")


@torch.library.custom_op(
    "mx_autopatch::dynamic_scatter",
    mutates_args=(),
    schema="(Tensor feats, Tensor coors, str reduce_type) -> (Tensor, Tensor, Tensor, Tensor)",
)
def dynamic_scatter_op(
    feats: Tensor, coors: Tensor, reduce_type: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    inside = (coors >= 0).all(1)
    rows = coors[inside]
    coors_map = torch.full((len(coors),), -1, dtype=torch.int32, device=coors.device)
    if not len(rows):
        return feats.new_zeros(0, feats.shape[1]), rows, coors_map, coors_map[:0].clone()
    unique, group, count = group_rows(rows)
    coors_map[inside] = group.int()
    values = feats[inside].to(compute_dtype(feats.dtype))
    index = group[:, None].expand_as(values)
    reduced = values.new_zeros(len(unique), values.shape[1])
    if reduce_type == "max":
        reduced = reduced.scatter_reduce(0, index, values, "amax", include_self=False)
    else:
        reduced = reduced.scatter_add(0, index, values)
        if reduce_type == "mean":
            reduced /= count[:, None]
    return reduced.to(feats.dtype), unique, coors_map, count.int()


@torch.library.custom_op(
    "mx_autopatch::dynamic_scatter_backward",
    mutates_args=(),
    schema="(Tensor grad_reduced, Tensor feats, Tensor reduced, Tensor coors_map, Tensor count, "
    "str reduce_type) -> Tensor",
)
def dynamic_scatter_backward_op(
    grad_reduced: Tensor,
    feats: Tensor,
    reduced: Tensor,
    coors_map: Tensor,
    count: Tensor,
    reduce_type: str,
) -> Tensor:
    grad = torch.zeros_like(feats)
    points = (coors_map >= 0).nonzero()[:, 0]
    group = coors_map[points].long()
    if reduce_type != "max":
        share = grad_reduced.to(compute_dtype(feats.dtype))
        if reduce_type == "mean":
            share = share / count[:, None]
        grad[points] = share[group].to(feats.dtype)
        return grad
    source = torch.where(feats[points] == reduced[group], points[:, None], len(feats))
    first = torch.full_like(reduced, len(feats), dtype=torch.int64)
    first = first.scatter_reduce(0, group[:, None].expand_as(source), source, "amin")
    # A maximum that equals no point, a NaN, gives its gradient to a row cut off again.
    grad = grad.new_zeros(len(feats) + 1, feats.shape[1])
    return grad.scatter_(0, first, grad_reduced.to(feats.dtype))[:-1].clone()


@dynamic_scatter_op.register_fake
def _(feats: Tensor, coors: Tensor, reduce_type: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    voxels = torch.library.get_ctx().new_dynamic_size()
    return (
        feats.new_empty((voxels, feats.shape[1])),
        coors.new_empty((voxels, coors.shape[1])),
        coors.new_empty((coors.shape[0],), dtype=torch.int32),
        coors.new_empty((voxels,), dtype=torch.int32),
    )


@dynamic_scatter_backward_op.register_fake
def _(
    grad_reduced: Tensor,
    feats: Tensor,
    reduced: Tensor,
    coors_map: Tensor,
    count: Tensor,
    reduce_type: str,
) -> Tensor:
    return torch.empty_like(feats)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    feats, _, ctx.reduce_type = inputs
    reduced, coors, coors_map, count = output
    ctx.save_for_backward(feats, reduced, coors_map, count)
    ctx.mark_non_differentiable(coors, coors_map, count)


def _backward(ctx: Any, grad: Tensor, *others: Any) -> tuple[Tensor, None, None]:
    return dynamic_scatter_backward_op(grad, *ctx.saved_tensors, ctx.reduce_type), None, None


dynamic_scatter_op.register_autograd(_backward, setup_context=_setup_context)
