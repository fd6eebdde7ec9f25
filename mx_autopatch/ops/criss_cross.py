"""Attention of each pixel over its row and its column.

Huang et al. 2019, "CCNet: Criss-Cross Attention for Semantic Segmentation".
Upstream: ``mmcv.ops.CrissCrossAttention``, compiled (for CUDA only) in mmcv 1.3.0 - 1.3.12.

Affinities of queries and keys, and sums of values weighted by them, are each other's
derivatives. Both are matrix products, one a row and one a column.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._check import check_same_device, check_tensor, compute_dtype

__all__ = ["criss_cross_affinity", "criss_cross_map", "transposed_affinity"]


def criss_cross_affinity(query: Tensor, key: Tensor) -> Tensor:
    """Inner products of each pixel's query with the keys in its row and its column.

    Args:
        query, key: (B, C, H, W) floating, of one dtype.

    Returns:
        (B, W + H - 1, H, W): first the pixels of the row, then the others of the column.
        Differentiable any number of times. Half precision is calculated in float32 and
        rounded once.

    Raises:
        TypeError: an argument is no tensor, not floating, or of another dtype.
        ValueError: wrong shape or different devices.
    """
    name = "criss_cross_affinity"
    check_tensor(name, "query", query, ("B", "C", "H", "W"))
    check_tensor(name, "key", key, tuple(query.shape), query.dtype)
    check_same_device(name, query=query, key=key)
    return criss_cross_affinity_op(query, key)


def criss_cross_map(weight: Tensor, value: Tensor) -> Tensor:
    """Sum the values in each pixel's row and column, weighted.

    Args:
        weight: (B, W + H - 1, H, W) floating, ordered as ``criss_cross_affinity`` does.
        value: (B, C, H, W) in the dtype of ``weight``.

    Returns:
        (B, C, H, W). Otherwise as there.
    """
    name = "criss_cross_map"
    check_tensor(name, "value", value, ("B", "C", "H", "W"))
    batch, _, height, width = value.shape
    shape = (batch, height + width - 1, height, width)
    check_tensor(name, "weight", weight, shape, value.dtype)
    check_same_device(name, value=value, weight=weight)
    return criss_cross_map_op(weight, value)


def transposed_affinity(weight: Tensor) -> Tensor:
    """Weights (B, W + H - 1, H, W) as the pixels that are looked at see them."""
    row, column = _matrices(weight)
    return _weight(row.transpose(2, 3), column.transpose(2, 3))


def _others(size: int, device: torch.device) -> Tensor:
    """(size, size - 1): for each line the others, in order."""
    number = torch.arange(size - 1, device=device)
    return number + (number >= torch.arange(size, device=device)[:, None])


def _matrices(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(B, H, W, W), from x to x of each row, and (B, W, H, H), which is 0 from y to itself."""
    height, width = weight.shape[2:]
    row, column = weight.split((width, height - 1), 1)
    column = column.permute(0, 3, 2, 1)
    index = _others(height, weight.device).expand(column.shape)
    full = column.new_zeros((*column.shape[:3], height)).scatter(3, index, column)
    return row.permute(0, 2, 3, 1), full


def _weight(row: Tensor, column: Tensor) -> Tensor:
    """The inverse of ``_matrices``."""
    height = column.shape[2]
    index = _others(height, column.device).expand((*column.shape[:3], height - 1))
    column = column.gather(3, index)
    return torch.cat((row.permute(0, 3, 1, 2), column.permute(0, 3, 2, 1)), 1)


@torch.library.custom_op(
    "mx_autopatch::criss_cross_affinity",
    mutates_args=(),
    schema="(Tensor query, Tensor key) -> Tensor",
)
def criss_cross_affinity_op(query: Tensor, key: Tensor) -> Tensor:
    if not (query.shape[0] and query.shape[2] and query.shape[3]):
        return query.new_zeros(_affinity_shape(query))
    dtype = compute_dtype(query.dtype)
    query, key, given = query.to(dtype), key.to(dtype), query.dtype
    row = query.permute(0, 2, 3, 1) @ key.permute(0, 2, 1, 3)
    column = query.permute(0, 3, 2, 1) @ key.permute(0, 3, 1, 2)
    return _weight(row, column).to(given)


def _affinity_shape(query: Tensor) -> tuple[int, ...]:
    batch, _, height, width = query.shape
    return batch, height + width - 1, height, width


@torch.library.custom_op(
    "mx_autopatch::criss_cross_map",
    mutates_args=(),
    schema="(Tensor weight, Tensor value) -> Tensor",
)
def criss_cross_map_op(weight: Tensor, value: Tensor) -> Tensor:
    output = value.new_empty(value.shape)
    if not output.numel():
        return output
    dtype = compute_dtype(value.dtype)
    row, column = _matrices(weight.to(dtype))
    value = value.to(dtype)
    sums = (row @ value.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return output.copy_(sums + (column @ value.permute(0, 3, 2, 1)).permute(0, 3, 2, 1))


@criss_cross_affinity_op.register_fake
def _(query: Tensor, key: Tensor) -> Tensor:
    return query.new_empty(_affinity_shape(query))


@criss_cross_map_op.register_fake
def _(weight: Tensor, value: Tensor) -> Tensor:
    return value.new_empty(value.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _affinity_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    query, key = ctx.saved_tensors
    return criss_cross_map_op(grad, key), criss_cross_map_op(transposed_affinity(grad), query)


def _map_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    weight, value = ctx.saved_tensors
    grad_weight = criss_cross_affinity_op(grad, value)
    return grad_weight, criss_cross_map_op(transposed_affinity(weight), grad)


criss_cross_affinity_op.register_autograd(_affinity_backward, setup_context=_setup_context)
criss_cross_map_op.register_autograd(_map_backward, setup_context=_setup_context)
