"""Features interpolated between three points (Qi et al. 2017, PointNet++).

Upstream: ``mmcv.ops.three_interpolate`` (CUDA only), mmcv 1.3 - 2.2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._bilinear import weighted_bags
from ._check import check_same_device, check_tensor, compute_dtype

__all__ = ["three_interpolate", "three_interpolate_backward"]


def three_interpolate(features: Tensor, indices: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums of three columns of features.

    Args:
        features: (B, C, M) floating.
        indices: (B, N, 3) int32, in [0, M).
        weight: (B, N, 3) in the dtype of ``features``.

    Returns:
        (B, C, N) in the dtype of ``features``. Half precision is calculated in
        float32 and rounded once. Differentiable once, in ``features`` only.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape or different devices.
    """
    op = "three_interpolate"
    check_tensor(op, "features", features, ("B", "C", "M"))
    check_tensor(op, "indices", indices, (features.shape[0], "N", 3), torch.int32)
    check_tensor(op, "weight", weight, tuple(indices.shape), features.dtype)
    check_same_device(op, features=features, indices=indices, weight=weight)
    return three_interpolate_op(features, indices, weight)


def three_interpolate_backward(
    grad: Tensor, indices: Tensor, weight: Tensor, num_points: int
) -> Tensor:
    """Gradient (B, C, num_points) of the features, of that (B, C, N) of the output."""
    op = "three_interpolate_backward"
    check_tensor(op, "grad", grad, ("B", "C", "N"))
    check_tensor(op, "indices", indices, (grad.shape[0], grad.shape[2], 3), torch.int32)
    check_tensor(op, "weight", weight, tuple(indices.shape))
    check_same_device(op, grad=grad, indices=indices, weight=weight)
    return three_interpolate_backward_op(grad, indices, weight, num_points)


@torch.library.custom_op(
    "mx_autopatch::three_interpolate",
    mutates_args=(),
    schema="(Tensor features, Tensor indices, Tensor weight) -> Tensor",
)
def three_interpolate_op(features: Tensor, indices: Tensor, weight: Tensor) -> Tensor:
    batch, channels, points = features.shape
    dtype = compute_dtype(features.dtype)
    rows = features.to(dtype).transpose(1, 2).reshape(-1, channels)
    first = torch.arange(batch, device=features.device)[:, None, None] * points
    index = (indices + first).flatten()
    if not index.numel():
        return features.new_zeros(batch, channels, indices.shape[1])
    count = torch.full_like(index[::3], 3)
    bags = weighted_bags(rows, index, weight.to(dtype).flatten(), count)
    return bags.view(batch, -1, channels).transpose(1, 2).to(features.dtype).contiguous()


@torch.library.custom_op(
    "mx_autopatch::three_interpolate_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor indices, Tensor weight, SymInt num_points) -> Tensor",
)
def three_interpolate_backward_op(
    grad: Tensor, indices: Tensor, weight: Tensor, num_points: int
) -> Tensor:
    dtype = compute_dtype(grad.dtype)
    share = (grad.to(dtype)[..., None] * weight.to(dtype)[:, None]).flatten(2)
    index = indices.long().flatten(1)[:, None].expand_as(share)
    result = share.new_zeros(*grad.shape[:2], num_points).scatter_add_(2, index, share)
    return result.to(grad.dtype)


@three_interpolate_op.register_fake
def _(features: Tensor, indices: Tensor, weight: Tensor) -> Tensor:
    return features.new_empty((*features.shape[:2], indices.shape[1]))


@three_interpolate_backward_op.register_fake
def _(grad: Tensor, indices: Tensor, weight: Tensor, num_points: int) -> Tensor:
    return grad.new_empty((*grad.shape[:2], num_points))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.num_points = inputs[0].shape[2]
    ctx.save_for_backward(*inputs[1:])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return three_interpolate_backward_op(grad, *ctx.saved_tensors, ctx.num_points), None, None


three_interpolate_op.register_autograd(_backward, setup_context=_setup_context)
