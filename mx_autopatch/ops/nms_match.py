"""Non-maximum suppression that says which box suppressed which.

Upstream: ``mmcv.ops.nms_match`` (compiled for the CPU), mmcv 1.3 - 2.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._autograd import no_gradient
from ._box_pairs import iou_pairs
from ._check import check_tensor, compute_dtype
from ._greedy import settle

__all__ = ["nms_match"]


def nms_match(dets: Tensor, iou_threshold: float) -> tuple[Tensor, Tensor]:
    """Groups of boxes: one that greedy suppression keeps, and those that it drops.

    Args:
        dets: (N, 5) floating, corners and score ``x1, y1, x2, y2, score``.
        iou_threshold: a box belongs to the first kept box, in descending score, with
            which its IoU is equal or greater.

    Returns:
        members (N,) int64, indices of the boxes, group after group in descending
        score of what was kept, each group in descending score; and sizes (K,) int64
        of the groups. Equal scores keep the order of the input. Half precision is
        calculated in float32. Not differentiable.

    K depends on the values; for ``torch.compile`` see ``nms``.

    Raises:
        TypeError: ``dets`` is no tensor or not floating.
        ValueError: wrong shape.
    """
    check_tensor("nms_match", "dets", dets, ("N", 5))
    return nms_match_op(dets, float(iou_threshold))


@torch.library.custom_op(
    "mx_autopatch::nms_match",
    mutates_args=(),
    schema="(Tensor dets, float iou_threshold) -> (Tensor, Tensor)",
)
def nms_match_op(dets: Tensor, iou_threshold: float) -> tuple[Tensor, Tensor]:
    count = len(dets)
    order = dets[:, 4].argsort(descending=True, stable=True)
    if iou_threshold <= 0:  # even boxes apart overlap by that much
        return order, order.new_full((min(count, 1),), count)
    i, j, iou = iou_pairs(dets[:, :4].to(compute_dtype(dets.dtype))[order])
    over = iou >= iou_threshold
    i, j = i[over], j[over]
    keep = settle(count, i, j)
    # Every box is its own group, unless a kept one before it claims it.
    owner = torch.arange(count, device=dets.device)
    claims = keep[i]
    owner = owner.scatter_reduce(0, j[claims], i[claims], "amin")
    grouped = owner.argsort(stable=True)
    sizes = torch.zeros_like(owner).scatter_add_(0, owner, torch.ones_like(owner))
    return order[grouped], sizes[keep]


@nms_match_op.register_fake
def _(dets: Tensor, iou_threshold: float) -> tuple[Tensor, Tensor]:
    kept = torch.library.get_ctx().new_dynamic_size()
    return dets.new_empty((dets.shape[0],), dtype=torch.int64), dets.new_empty(
        (kept,), dtype=torch.int64
    )


no_gradient(nms_match_op)
