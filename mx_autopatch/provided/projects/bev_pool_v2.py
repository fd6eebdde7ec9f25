"""The extension ``bev_pool_v2_ext`` of BEVDet and its kin, on ``mx_autopatch.ops.bev_pool_v2``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["bev_pool_v2_backward", "bev_pool_v2_forward"]


def bev_pool_v2_forward(
    depth: Tensor,
    feat: Tensor,
    out: Tensor,
    ranks_depth: Tensor,
    ranks_feat: Tensor,
    ranks_bev: Tensor,
    interval_lengths: Tensor,
    interval_starts: Tensor,
) -> None:
    """Fill in ``out`` (B, D, H, W, C).

    An interval is a run of points of one cell, since callers sort their points by it; a
    point of no interval counts nothing.
    """
    from mx_autopatch.ops._bev_cells import spread
    from mx_autopatch.ops.bev_pool import bev_pool_v2

    cells = spread(ranks_bev, interval_lengths, interval_starts)
    sums = bev_pool_v2(depth, feat, ranks_depth, ranks_feat, cells, tuple(out.shape))
    out.copy_(sums.permute(0, 2, 3, 4, 1))


def bev_pool_v2_backward(
    out_grad: Tensor,
    depth_grad: Tensor,
    feat_grad: Tensor,
    depth: Tensor,
    feat: Tensor,
    ranks_depth: Tensor,
    ranks_feat: Tensor,
    ranks_bev: Tensor,
    interval_lengths: Tensor,
    interval_starts: Tensor,
) -> None:
    """Fill in ``depth_grad`` and ``feat_grad``.

    The intervals are runs of one pixel in some projects and of one cell in others. The
    gradients are the same, so they are not looked at.
    """
    from mx_autopatch.ops.bev_pool import bev_pool_v2_backward_op

    grads = bev_pool_v2_backward_op(out_grad, depth, feat, ranks_depth, ranks_feat, ranks_bev)
    depth_grad.copy_(grads[0])
    feat_grad.copy_(grads[1])
