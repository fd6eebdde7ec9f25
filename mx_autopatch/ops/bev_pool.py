"""Pooling of lifted image features into the cells of a bird's-eye-view grid.

Liu et al. 2022, "BEVFusion: Multi-Task Multi-Sensor Fusion with Unified Bird's-Eye View
Representation" (``bev_pool``); Huang and Huang 2022, "BEVPoolv2: A Cutting-edge
Implementation of BEVDet Toward Deployment" (``bev_pool_v2``).
Upstream: the extensions ``bev_pool_ext`` and ``bev_pool_v2_ext`` that such projects compile.

A cell is the sum of its points, so both are one weighted gather: the points are sorted by
cell, and each cell is a bag of rows of features. A point of the first kind has a row of its
own and the weight 1, one of the second kind the row of its pixel and its depth's weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._bev_cells import cells_of, check_ranks, pooled, read_back, size_of, valid_ranks
from ._check import check_same_device, check_tensor, compute_dtype

__all__ = ["bev_pool", "bev_pool_v2"]

_INTEGERS = (torch.int32, torch.int64)


def bev_pool(feats: Tensor, coords: Tensor, B: int, D: int, H: int, W: int) -> Tensor:
    """Sum the features of the points of each cell.

    Args:
        feats: (N, C) floating.
        coords: (N, 4) int32 or int64, ``h, w, d, b`` of each point's cell. A point
            outside the grid is left out.
        B, D, H, W: the size of the grid.

    Returns:
        (B, C, D, H, W) in the dtype of ``feats``, differentiable once. Half precision is
        summed in float32 and rounded once.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape or size, or different devices.
    """
    check_tensor("bev_pool", "feats", feats, ("N", "C"))
    _check_integers("bev_pool", "coords", coords, (feats.shape[0], 4))
    check_same_device("bev_pool", feats=feats, coords=coords)
    size = size_of("bev_pool", "B, D, H, W", (B, D, H, W))
    return bev_pool_op(feats, coords, size).permute(0, 4, 1, 2, 3).contiguous()


def bev_pool_v2(
    depth: Tensor,
    feat: Tensor,
    ranks_depth: Tensor,
    ranks_feat: Tensor,
    ranks_bev: Tensor,
    bev_feat_shape: Sequence[int],
    interval_starts: Tensor | None = None,
    interval_lengths: Tensor | None = None,
) -> Tensor:
    """Sum pixels' features in each cell, each weighted by the depth of a point of its ray.

    Args:
        depth: (B, N, bins, H, W) floating, or any other shape; it is looked at flattened.
        feat: (B, N, H, W, C) floating, or any other shape with the channels last.
        ranks_depth: (P,) int32 or int64, where in ``depth`` each point has its weight.
        ranks_feat: (P,), which pixel of ``feat`` each point belongs to.
        ranks_bev: (P,), the cell of each point, numbered as the grid is flattened. A
            point outside the grid is left out. No order is needed.
        bev_feat_shape: the grid ``B, D, H, W`` and the channels.
        interval_starts, interval_lengths: not looked at; the runs of equal ``ranks_bev``.

    Returns:
        (B, C, D, H, W) in the dtype of ``feat``, differentiable once in ``depth`` and
        ``feat``. Half precision is summed in float32 and rounded once.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape or size, different devices, or (found on the CPU only,
            elsewhere undefined) a rank beyond ``depth`` or ``feat``.
    """
    name = "bev_pool_v2"
    size = size_of(name, "bev_feat_shape", tuple(bev_feat_shape)[:-1])
    check_v2(name, depth, feat, ranks_depth, ranks_feat, ranks_bev)
    if len(bev_feat_shape) != 5 or bev_feat_shape[-1] != feat.shape[-1]:
        raise ValueError(
            f"{name}: bev_feat_shape: expected (B, D, H, W, {feat.shape[-1]}), "
            f"got {tuple(bev_feat_shape)}"
        )
    output = bev_pool_v2_op(depth, feat, ranks_depth, ranks_feat, ranks_bev, size)
    return output.permute(0, 4, 1, 2, 3).contiguous()


def check_v2(
    op: str,
    depth: Tensor,
    feat: Tensor,
    ranks_depth: Tensor,
    ranks_feat: Tensor,
    ranks_bev: Tensor,
) -> None:
    """Raise unless these are arguments of ``bev_pool_v2``."""
    for name, tensor in (("depth", depth), ("feat", feat)):
        check_tensor(op, name, tensor, tuple(getattr(tensor, "shape", ())))
    if feat.dim() < 2:
        raise ValueError(f"{op}: feat: expected shape (..., C), got {tuple(feat.shape)}")
    points = ranks_bev.numel() if isinstance(ranks_bev, Tensor) else 0
    ranks = {"ranks_bev": ranks_bev, "ranks_depth": ranks_depth, "ranks_feat": ranks_feat}
    for name, tensor in ranks.items():
        _check_integers(op, name, tensor, (points,))
    check_same_device(op, feat=feat, depth=depth, **ranks)


def _check_integers(op: str, name: str, value: Any, shape: tuple[int, ...]) -> None:
    if isinstance(value, Tensor) and value.dtype not in _INTEGERS:
        raise TypeError(f"{op}: {name}: expected torch.int32 or torch.int64, got {value.dtype}")
    check_tensor(op, name, value, shape, getattr(value, "dtype", None))


# -- points with features of their own -----------------------------------------------


@torch.library.custom_op(
    "mx_autopatch::bev_pool",
    mutates_args=(),
    schema="(Tensor feats, Tensor coords, SymInt[] size) -> Tensor",
)
def bev_pool_op(feats: Tensor, coords: Tensor, size: list[int]) -> Tensor:
    """(B, D, H, W, C)"""
    rows = torch.arange(feats.shape[0], device=feats.device)
    return pooled(feats, rows, None, cells_of(coords, size), size)


@torch.library.custom_op(
    "mx_autopatch::bev_pool_backward",
    mutates_args=(),
    schema="(Tensor grad_output, Tensor coords) -> Tensor",
)
def bev_pool_backward_op(grad_output: Tensor, coords: Tensor) -> Tensor:
    """(N, C), of ``grad_output`` (B, D, H, W, C)."""
    return read_back(grad_output, cells_of(coords, list(grad_output.shape[:4])))


@bev_pool_op.register_fake
def _(feats: Tensor, coords: Tensor, size: list[int]) -> Tensor:
    return feats.new_empty((*size, feats.shape[1]))


@bev_pool_backward_op.register_fake
def _(grad_output: Tensor, coords: Tensor) -> Tensor:
    return grad_output.new_empty((coords.shape[0], grad_output.shape[4]))


def _save_coords(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _bev_pool_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return bev_pool_backward_op(grad, *ctx.saved_tensors), None, None


bev_pool_op.register_autograd(_bev_pool_backward, setup_context=_save_coords)


# -- points that share the features of a pixel ---------------------------------------

_TENSORS = "Tensor depth, Tensor feat, Tensor ranks_depth, Tensor ranks_feat, Tensor ranks_bev"


@torch.library.custom_op(
    "mx_autopatch::bev_pool_v2", mutates_args=(), schema=f"({_TENSORS}, SymInt[] size) -> Tensor"
)
def bev_pool_v2_op(
    depth: Tensor,
    feat: Tensor,
    ranks_depth: Tensor,
    ranks_feat: Tensor,
    ranks_bev: Tensor,
    size: list[int],
) -> Tensor:
    """(B, D, H, W, C)"""
    pixels = feat.reshape(-1, feat.shape[-1])
    check_ranks("bev_pool_v2", "ranks_depth", ranks_depth, depth.numel())
    check_ranks("bev_pool_v2", "ranks_feat", ranks_feat, pixels.shape[0])
    weight = depth.flatten()[ranks_depth.long()]
    return pooled(pixels, ranks_feat.long(), weight, valid_ranks(ranks_bev, size), size)


@torch.library.custom_op(
    "mx_autopatch::bev_pool_v2_backward",
    mutates_args=(),
    schema=f"(Tensor grad_output, {_TENSORS}) -> (Tensor, Tensor)",
)
def bev_pool_v2_backward_op(
    grad_output: Tensor,
    depth: Tensor,
    feat: Tensor,
    ranks_depth: Tensor,
    ranks_feat: Tensor,
    ranks_bev: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients in depth and feat, of ``grad_output`` (B, D, H, W, C)."""
    size = list(grad_output.shape[:4])
    pixels = feat.reshape(-1, feat.shape[-1])
    cell, pixel, at = valid_ranks(ranks_bev, size), ranks_feat.long(), ranks_depth.long()
    inside = (cell >= 0).nonzero().squeeze(1)
    cell, pixel, at = (t.index_select(0, inside) for t in (cell, pixel, at))
    dtype = compute_dtype(feat.dtype)
    grads = grad_output.reshape(-1, grad_output.shape[4]).to(dtype)
    weight = depth.flatten()[at].to(dtype)
    grad_pixels = pooled(grads, cell, weight, pixel, [pixels.shape[0]])
    dots = grad_output.new_empty(cell.shape, dtype=dtype)
    step = max((1 << 20) // max(feat.shape[-1], 1), 1)  # so that the rows stay in the cache
    for part in (slice(i, i + step) for i in range(0, cell.numel(), step)):
        rows = pixels.index_select(0, pixel[part]).to(dtype)
        dots[part] = rows.mul_(grads.index_select(0, cell[part])).sum(1)
    grad_depth = dots.new_zeros(depth.numel()).index_add_(0, at, dots)
    return grad_depth.view(depth.shape).to(depth.dtype), grad_pixels.view(feat.shape).to(feat.dtype)


@bev_pool_v2_op.register_fake
def _(
    depth: Tensor,
    feat: Tensor,
    ranks_depth: Tensor,
    ranks_feat: Tensor,
    ranks_bev: Tensor,
    size: list[int],
) -> Tensor:
    return feat.new_empty((*size, feat.shape[-1]))


@bev_pool_v2_backward_op.register_fake
def _(
    grad_output: Tensor,
    depth: Tensor,
    feat: Tensor,
    ranks_depth: Tensor,
    ranks_feat: Tensor,
    ranks_bev: Tensor,
) -> tuple[Tensor, Tensor]:
    return depth.new_empty(depth.shape), feat.new_empty(feat.shape)


def _save_v2(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])


def _bev_pool_v2_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_depth, grad_feat = bev_pool_v2_backward_op(grad, *ctx.saved_tensors)
    return grad_depth, grad_feat, None, None, None, None


bev_pool_v2_op.register_autograd(_bev_pool_v2_backward, setup_context=_save_v2)
