"""Features of points picked by index, and their gradients.

Upstream: ``mmcv.ops.gather_points`` and ``grouping_operation`` (CUDA only),
mmcv 1.3 - 2.2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._check import check_same_device, check_tensor, compute_dtype
from .ball_query import check_batches

__all__ = [
    "gather_points",
    "gather_points_backward",
    "group_points",
    "stack_group_points",
    "stack_group_points_backward",
]


def gather_points(features: Tensor, indices: Tensor) -> Tensor:
    """Columns of features.

    Args:
        features: (B, C, N) floating.
        indices: (B, M) int32, in [0, N).

    Returns:
        (B, C, M) in the dtype of ``features``. Differentiable in ``features``.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape or different devices.
    """
    op = "gather_points"
    check_tensor(op, "features", features, ("B", "C", "N"))
    check_tensor(op, "indices", indices, (features.shape[0], "M"), torch.int32)
    check_same_device(op, features=features, indices=indices)
    return gather_points_op(features, indices)


def gather_points_backward(grad: Tensor, indices: Tensor, num_points: int) -> Tensor:
    """Gradient (B, C, num_points) of the features, of that (B, C, M) of the output."""
    op = "gather_points_backward"
    check_tensor(op, "grad", grad, ("B", "C", "M"))
    check_tensor(op, "indices", indices, (grad.shape[0], grad.shape[2]), torch.int32)
    check_same_device(op, grad=grad, indices=indices)
    return gather_points_backward_op(grad, indices, num_points)


def group_points(features: Tensor, indices: Tensor) -> Tensor:
    """(B, C, M, S) of indices (B, M, S); otherwise as gather_points, which does it."""
    op = "group_points"
    check_tensor(op, "features", features, ("B", "C", "N"))
    check_tensor(op, "indices", indices, (features.shape[0], "M", "S"), torch.int32)
    check_same_device(op, features=features, indices=indices)
    picked = gather_points_op(features, indices.flatten(1))
    return picked.view(*features.shape[:2], *indices.shape[1:])


def stack_group_points(
    features: Tensor, features_batch_cnt: Tensor, indices: Tensor, indices_batch_cnt: Tensor
) -> Tensor:
    """Rows of features of batches of different sizes, one after the other.

    Args:
        features: (N, C) floating; ``features_batch_cnt``: (B,) int32, how many rows
            each batch has, N in all.
        indices: (M, S) int32, rows within the batch; ``indices_batch_cnt``: likewise.

    Returns:
        (M, C, S) in the dtype of ``features``; 0 where an index lies outside the
        batch. Differentiable in ``features``.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape, different devices, or batches that do not add up.
    """
    op = "stack_group_points"
    check_tensor(op, "features", features, ("N", "C"))
    check_tensor(op, "indices", indices, ("M", "S"), torch.int32)
    check_batches(op, "features_batch_cnt", features_batch_cnt, features)
    check_batches(op, "indices_batch_cnt", indices_batch_cnt, indices)
    if len(features_batch_cnt) != len(indices_batch_cnt):
        raise ValueError(
            f"{op}: indices_batch_cnt: expected {len(features_batch_cnt)} batches as "
            f"features_batch_cnt, got {len(indices_batch_cnt)}"
        )
    check_same_device(op, features=features, indices=indices)
    return stack_group_points_op(features, features_batch_cnt, indices, indices_batch_cnt)


def stack_group_points_backward(
    grad: Tensor,
    features_batch_cnt: Tensor,
    indices: Tensor,
    indices_batch_cnt: Tensor,
    num_points: int,
) -> Tensor:
    """Gradient (num_points, C) of the features, of that (M, C, S) of the output."""
    op = "stack_group_points_backward"
    check_tensor(op, "grad", grad, ("M", "C", "S"))
    check_tensor(op, "indices", indices, (grad.shape[0], grad.shape[2]), torch.int32)
    check_batches(op, "indices_batch_cnt", indices_batch_cnt, indices)
    tensors = grad, features_batch_cnt, indices, indices_batch_cnt
    return stack_group_points_backward_op(*tensors, num_points)


@torch.library.custom_op(
    "mx_autopatch::gather_points",
    mutates_args=(),
    schema="(Tensor features, Tensor indices) -> Tensor",
)
def gather_points_op(features: Tensor, indices: Tensor) -> Tensor:
    return features.gather(2, indices.long()[:, None].expand(-1, features.shape[1], -1))


@torch.library.custom_op(
    "mx_autopatch::gather_points_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor indices, SymInt num_points) -> Tensor",
)
def gather_points_backward_op(grad: Tensor, indices: Tensor, num_points: int) -> Tensor:
    wide = grad.to(compute_dtype(grad.dtype))
    index = indices.long()[:, None].expand(-1, grad.shape[1], -1)
    result = wide.new_zeros(*grad.shape[:2], num_points).scatter_add_(2, index, wide)
    return result.to(grad.dtype)


def _stacked_rows(
    features_batch_cnt: Tensor, indices: Tensor, indices_batch_cnt: Tensor, outside: int
) -> Tensor:
    """Rows (M * S,) of all the features; ``outside`` for an index outside its batch."""
    count = features_batch_cnt.long()
    batch = torch.arange(len(count), device=count.device).repeat_interleave(
        indices_batch_cnt.long(), output_size=len(indices)
    )
    inside = (indices >= 0) & (indices < count[batch, None])
    rows = indices + (count.cumsum(0) - count)[batch, None]
    return torch.where(inside, rows, outside).flatten()


@torch.library.custom_op(
    "mx_autopatch::stack_group_points",
    mutates_args=(),
    schema="(Tensor features, Tensor features_batch_cnt, Tensor indices, "
    "Tensor indices_batch_cnt) -> Tensor",
)
def stack_group_points_op(
    features: Tensor, features_batch_cnt: Tensor, indices: Tensor, indices_batch_cnt: Tensor
) -> Tensor:
    rows = _stacked_rows(features_batch_cnt, indices, indices_batch_cnt, len(features))
    with_zero = torch.cat((features, features.new_zeros(1, features.shape[1])))
    picked = with_zero.index_select(0, rows).view(*indices.shape, features.shape[1])
    return picked.transpose(1, 2).contiguous()


@torch.library.custom_op(
    "mx_autopatch::stack_group_points_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor features_batch_cnt, Tensor indices, Tensor indices_batch_cnt, "
    "SymInt num_points) -> Tensor",
)
def stack_group_points_backward_op(
    grad: Tensor,
    features_batch_cnt: Tensor,
    indices: Tensor,
    indices_batch_cnt: Tensor,
    num_points: int,
) -> Tensor:
    rows = _stacked_rows(features_batch_cnt, indices, indices_batch_cnt, num_points)
    wide = grad.transpose(1, 2).flatten(0, 1).to(compute_dtype(grad.dtype))
    result = wide.new_zeros(num_points + 1, grad.shape[1]).index_add_(0, rows, wide)[:-1].clone()
    return result.to(grad.dtype)


@gather_points_op.register_fake
def _(features: Tensor, indices: Tensor) -> Tensor:
    return features.new_empty((*features.shape[:2], indices.shape[1]))


@gather_points_backward_op.register_fake
def _(grad: Tensor, indices: Tensor, num_points: int) -> Tensor:
    return grad.new_empty((*grad.shape[:2], num_points))


@stack_group_points_op.register_fake
def _(
    features: Tensor, features_batch_cnt: Tensor, indices: Tensor, indices_batch_cnt: Tensor
) -> Tensor:
    return features.new_empty((indices.shape[0], features.shape[1], indices.shape[1]))


@stack_group_points_backward_op.register_fake
def _(
    grad: Tensor,
    features_batch_cnt: Tensor,
    indices: Tensor,
    indices_batch_cnt: Tensor,
    num_points: int,
) -> Tensor:
    return grad.new_empty((num_points, grad.shape[1]))


def _gather_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.num_points = inputs[0].shape[2]
    ctx.save_for_backward(*inputs[1:])


def _gather_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return gather_points_backward_op(grad, *ctx.saved_tensors, ctx.num_points), None


def _stack_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.num_points = inputs[0].shape[0]
    ctx.save_for_backward(*inputs[1:])


def _stack_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    result = stack_group_points_backward_op(grad, *ctx.saved_tensors, ctx.num_points)
    return result, None, None, None


def _transposed(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _transposed_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return gather_points_op(grad, *ctx.saved_tensors), None, None


gather_points_op.register_autograd(_gather_backward, setup_context=_gather_context)
gather_points_backward_op.register_autograd(_transposed_backward, setup_context=_transposed)
stack_group_points_op.register_autograd(_stack_backward, setup_context=_stack_context)
