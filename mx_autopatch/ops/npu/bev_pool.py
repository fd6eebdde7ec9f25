"""Pooling into bird's-eye-view cells by mx_driving; torch_npu has no operator for it.

Its documentation wants every point within the grid, so those outside are left out before.
"""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

from .._bev_cells import cells_of, valid_ranks
from .._check import compute_dtype
from ..bev_pool import bev_pool_op, bev_pool_v2_backward_op, bev_pool_v2_op
from ._binding import bind, bind_differentiable, vjp
from ._mx_driving import mx_driving

__all__: list[str] = []

# The limits that mx_driving documents: of bev_pool, and of bev_pool_v3.
_MOST_SLICES, _MOST_LINES, _MOST_CHANNELS = 8, 256, 1024
_MOST_CHANNELS_V3, _MOST_NUMBERS = 360, 2**31


def _points(cell: Tensor) -> Tensor | None:
    """Which are within the grid; None if no point is."""
    inside = (cell >= 0).nonzero().squeeze(1)
    return inside if inside.numel() else None


def _numbers(size: list[int], channels: int) -> int:
    batch, depth, height, width = size
    return batch * depth * height * width * channels


def _bev_pool(feats: Tensor, coords: Tensor, size: list[int]) -> Tensor | None:
    function = mx_driving("bev_pool")
    covered = (
        compute_dtype(feats.dtype) == torch.float32
        and 0 < feats.shape[1] <= _MOST_CHANNELS
        and 0 < _numbers(size, feats.shape[1]) <= _MOST_NUMBERS
        and max(size[:2]) <= _MOST_SLICES
        and max(size[2:]) <= _MOST_LINES
    )
    if function is None or not covered:
        return None
    points = _points(cells_of(coords, size))
    if points is None:
        return None
    # Columns h, w, d, b, as its code and example have them, though not its documentation.
    output: Tensor = function(feats[points].float(), coords[points].int(), *size)
    return output.permute(0, 2, 3, 4, 1).contiguous().to(feats.dtype)


def _function(
    depth: Tensor,
    feat: Tensor,
    ranks_depth: Tensor,
    ranks_feat: Tensor,
    ranks_bev: Tensor,
    size: list[int],
) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Of depth and feat, giving (B, C, D, H, W); None if it does not cover the call.

    That is bev_pool_v3, which mx_driving recommends in place of bev_pool_v2.
    """
    function = mx_driving("bev_pool_v3")
    channels = feat.shape[-1]
    covered = (
        compute_dtype(feat.dtype) == compute_dtype(depth.dtype) == torch.float32
        and depth.dim() == feat.dim() == 5
        and min(depth.numel(), feat.numel()) > 0
        and channels % 8 == 0
        and channels <= _MOST_CHANNELS_V3
        and 0 < _numbers(size, channels) <= _MOST_NUMBERS
    )
    if function is None or not covered:
        return None
    points = _points(valid_ranks(ranks_bev, size))
    if points is None:
        return None
    found = function
    ranks = [r[points].int() for r in (ranks_depth, ranks_feat, ranks_bev)]
    return lambda depth, feat: found(depth, feat, *ranks, [*size, channels])


def _v2(
    depth: Tensor,
    feat: Tensor,
    ranks_depth: Tensor,
    ranks_feat: Tensor,
    ranks_bev: Tensor,
    size: list[int],
) -> Tensor | None:
    function = _function(depth, feat, ranks_depth, ranks_feat, ranks_bev, size)
    if function is None:
        return None
    output = function(depth.float().contiguous(), feat.float().contiguous())
    return output.permute(0, 2, 3, 4, 1).contiguous().to(feat.dtype)


def _v2_backward(
    grad_output: Tensor,
    depth: Tensor,
    feat: Tensor,
    ranks_depth: Tensor,
    ranks_feat: Tensor,
    ranks_bev: Tensor,
) -> tuple[Tensor, Tensor] | None:
    size = list(grad_output.shape[:4])
    function = _function(depth, feat, ranks_depth, ranks_feat, ranks_bev, size)
    if function is None:
        return None
    grad = grad_output.permute(0, 4, 1, 2, 3).float().contiguous()
    tensors = depth.float().contiguous(), feat.float().contiguous()
    by_depth, by_feat = vjp(function, tensors, grad)
    return by_depth.to(depth.dtype), by_feat.to(feat.dtype)


bind(bev_pool_op, _bev_pool)  # its derivative reads cells back: no kernel is needed
bind_differentiable(bev_pool_v2_op, _v2)
bind(bev_pool_v2_backward_op, _v2_backward)
