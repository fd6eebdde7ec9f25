"""Soft non-maximum suppression (Bodla et al. 2017), many boxes at a time.

Upstream: ``mmcv.ops.soft_nms`` (compiled for the CPU), mmcv 1.3 - 2.2.

Box after box in descending score, each lowers the scores of those left that it
overlaps. Scores only fall, so a box that no overlapping box left exceeds can lose
nothing more: all such boxes are taken at once, round by round, and the order of the
result is that of the final scores.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._autograd import no_gradient
from ._box_pairs import iou_pairs
from ._check import check_same_device, check_tensor, compute_dtype

__all__ = ["soft_nms"]

_METHODS = ("naive", "linear", "gaussian")


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = "linear",
    offset: int = 0,
) -> tuple[Tensor, Tensor]:
    """Boxes with the scores that soft suppression leaves them.

    Args:
        boxes: (N, 4) floating, corners ``x1, y1, x2, y2``.
        scores: (N,) in the dtype of ``boxes``, not negative.
        iou_threshold: IoU from which "naive" and "linear" lower a score.
        sigma: width of "gaussian", positive.
        min_score: boxes whose score falls below are dropped; the first never is.
        method: a box with IoU u loses the factor 0 ("naive") or 1 - u ("linear") from
            the threshold on, or exp(-u * u / sigma) ("gaussian").
        offset: 0, or 1 for boxes of whole pixels, whose width is ``x2 - x1 + 1``.

    Returns:
        dets (K, 5), boxes with their scores, and their indices (K,) int64, in
        descending score; of equal scores the first of the input comes first. An
        undefined IoU (0/0) counts as 0. Not differentiable. Half precision is
        calculated in float32.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape, different devices, unknown method or offset, or
            sigma not positive.
    """
    op = "soft_nms"
    check_tensor(op, "boxes", boxes, ("N", 4))
    check_tensor(op, "scores", scores, (boxes.shape[0],), boxes.dtype)
    check_same_device(op, boxes=boxes, scores=scores)
    if method not in _METHODS:
        raise ValueError(f"{op}: method: expected one of {_METHODS}, got {method!r}")
    if offset not in (0, 1):
        raise ValueError(f"{op}: offset: expected 0 or 1, got {offset!r}")
    if not sigma > 0:
        raise ValueError(f"{op}: sigma: expected a positive number, got {sigma!r}")
    options = float(iou_threshold), float(sigma), float(min_score), method, int(offset)
    return soft_nms_op(boxes, scores, *options)


@torch.library.custom_op(
    "mx_autopatch::soft_nms",
    mutates_args=(),
    schema="(Tensor boxes, Tensor scores, float iou_threshold, float sigma, float min_score, "
    "str method, int offset) -> (Tensor, Tensor)",
)
def soft_nms_op(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: str,
    offset: int,
) -> tuple[Tensor, Tensor]:
    order = scores.argsort(descending=True, stable=True)
    dtype = compute_dtype(boxes.dtype)
    i, j, iou = iou_pairs(boxes.to(dtype)[order], offset)
    factor = _factors(iou, iou_threshold, sigma, method)
    i, j, factor = (t[factor != 1] for t in (i, j, factor))
    left = scores.to(dtype)[order]
    if method == "naive" and iou_threshold <= 0:  # even boxes apart overlap by that much
        left[1:] = 0
    rank = torch.empty_like(order)
    while i.numel():
        # Ranks, not scores: among NaN too there is a first.
        rank[left.argsort(descending=True, stable=True)] = torch.arange(
            len(rank), device=rank.device
        )
        held = torch.zeros_like(rank, dtype=torch.bool)
        held[torch.where(rank[i] < rank[j], j, i)] = True
        taken = ~held
        for source, target in ((i, j), (j, i)):
            hit = taken[source]
            left = left.scatter_reduce(0, target[hit], factor[hit], "prod")
        free = held[i] & held[j]
        i, j, factor = i[free], j[free], factor[free]
    final = left.argsort(descending=True, stable=True)
    kept = left[final] >= min_score
    kept[:1] = True
    final = final[kept]
    dets = torch.cat((boxes[order[final]], left[final, None].to(boxes.dtype)), 1)
    return dets, order[final]


def _factors(iou: Tensor, iou_threshold: float, sigma: float, method: str) -> Tensor:
    """What one box leaves of the score of another; 1 for those that do not count."""
    if method == "gaussian":
        return (-iou * iou / sigma).exp()
    less = torch.zeros_like(iou) if method == "naive" else 1 - iou
    return torch.where(iou >= iou_threshold, less, 1.0)


@soft_nms_op.register_fake
def _(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: str,
    offset: int,
) -> tuple[Tensor, Tensor]:
    kept = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty((kept, 5)), boxes.new_empty((kept,), dtype=torch.int64)


no_gradient(soft_nms_op)
