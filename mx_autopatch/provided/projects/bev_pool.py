"""The extension ``bev_pool_ext`` of BEVFusion and its kin, on ``mx_autopatch.ops.bev_pool``.

An *interval* is a run of points of one cell, since callers sort their points; a point of no
interval counts nothing. The sizes b, d, h, w are those of the grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["bev_pool_backward", "bev_pool_forward"]


def bev_pool_forward(
    x: Tensor,
    geom_feats: Tensor,
    interval_lengths: Tensor,
    interval_starts: Tensor,
    b: int,
    d: int,
    h: int,
    w: int,
) -> Tensor:
    """(b, d, h, w, C) sums of the points ``x`` (N, C) in the cells ``geom_feats`` (N, 4)."""
    from mx_autopatch.ops.bev_pool import bev_pool

    coords = _of_intervals(geom_feats, interval_lengths, interval_starts)
    return bev_pool(x, coords, b, d, h, w).permute(0, 2, 3, 4, 1).contiguous()


def bev_pool_backward(
    out_grad: Tensor,
    geom_feats: Tensor,
    interval_lengths: Tensor,
    interval_starts: Tensor,
    b: int,
    d: int,
    h: int,
    w: int,
) -> Tensor:
    """(N, C) gradients in ``x``, of ``out_grad`` (b, d, h, w, C)."""
    from mx_autopatch.ops.bev_pool import bev_pool_backward_op

    coords = _of_intervals(geom_feats, interval_lengths, interval_starts)
    grad: Tensor = bev_pool_backward_op(out_grad, coords)
    return grad


def _of_intervals(geom_feats: Tensor, lengths: Tensor, starts: Tensor) -> Tensor:
    """The cell of each point: that of the first of its interval; -1 for those of none."""
    from mx_autopatch.ops._bev_cells import spread

    return spread(geom_feats, lengths, starts)
