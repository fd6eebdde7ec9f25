"""Greedy non-maximum suppression, exact, without a loop over boxes.

Upstream: ``mmcv.ops.nms`` (the compiled CPU operator), mmcv 1.3 - 2.2.

Taken in descending score, a box is kept unless a box kept before it overlaps it
by more than the threshold. Written as ``keep[j] = not any(keep[i] and over[i, j]
for i < j)`` that is a system of equations on an acyclic graph, so it has one
solution, and iterating it from any start reaches that solution: after k rounds
every box at the end of chains of fewer than k overlaps is right. The boxes go
through in blocks: each block settles itself in that way, then removes what it
suppresses from all later blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._check import check_same_device, check_tensor, compute_dtype

__all__ = ["nms"]

# Overlaps calculated at a time: 4 MiB in float32, so that the dozen passes over
# them stay in the cache. It bounds the memory too: O(N), never N * N.
_PAIRS = 1 << 20
_MIN_BLOCK, _MAX_BLOCK = 32, 256


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Indices of the boxes that greedy non-maximum suppression keeps.

    Args:
        boxes: (N, 4) floating, corners ``x1, y1, x2, y2``.
        scores: (N,) floating, on the device of ``boxes``.
        iou_threshold: a box is dropped when its IoU with a kept box of higher
            score is strictly greater. An undefined IoU (0/0, two boxes of no
            area) drops nothing.
        offset: 0, or 1 for boxes of whole pixels, whose width is ``x2 - x1 + 1``.

    Returns:
        (K,) int64, in descending score; equal scores keep the order of the input.

    The arithmetic is that of the dtype of ``boxes`` (half precision: float32),
    operation for operation as in the compiled operator, so that boxes on the
    threshold fall on the same side. Not differentiable.

    K depends on the values, as that of torch.nonzero does: ``torch.compile(fullgraph=True)``
    takes it from torch 2.10 on (pytorch#163123), before that and without ``fullgraph`` with
    ``torch._dynamo.config.capture_dynamic_output_shape_ops`` alone.

    Raises:
        TypeError: an argument is no tensor or not floating.
        ValueError: wrong shape, different devices, or offset neither 0 nor 1.
    """
    check_tensor("nms", "boxes", boxes, ("N", 4))
    check_tensor("nms", "scores", scores, (boxes.shape[0],))
    check_same_device("nms", boxes=boxes, scores=scores)
    if offset not in (0, 1):
        raise ValueError(f"nms: offset: expected 0 or 1, got {offset!r}")
    return nms_op(boxes, scores, float(iou_threshold), int(offset))


@torch.library.custom_op(
    "mx_autopatch::nms",
    mutates_args=(),
    schema="(Tensor boxes, Tensor scores, float iou_threshold, int offset=0) -> Tensor",
)
def nms_op(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    order = scores.argsort(descending=True, stable=True)
    # Coordinates as rows: each is then contiguous, and one index picks boxes with areas.
    x1, y1, x2, y2 = boxes.to(compute_dtype(boxes.dtype))[order].T
    rows = torch.stack((x1, y1, x2, y2, (x2 - x1 + offset) * (y2 - y1 + offset)))
    kept = [order[:0]]
    while order.numel():
        block = min(max(_PAIRS // order.numel(), _MIN_BLOCK), _MAX_BLOCK)
        head, rest = rows[:, :block], rows[:, block:]
        keep = _settle(_overlapping(head, head, iou_threshold, offset).triu(1))
        kept.append(order[:block][keep])
        free = ~_overlapping(head[:, keep], rest, iou_threshold, offset).any(0)
        order, rows = order[block:][free], rest[:, free]
    return torch.cat(kept)


def _overlapping(a: Tensor, b: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Whether box i of ``a`` and box j of ``b`` (5, *) overlap by more than the threshold."""
    ax1, ay1, ax2, ay2, a_area = a[:, :, None]
    bx1, by1, bx2, by2, b_area = b[:, None, :]
    inter = _length(ax1, ax2, bx1, bx2, offset)
    inter *= _length(ay1, ay2, by1, by2, offset)
    union = (a_area + b_area).sub_(inter)
    return inter.div_(union) > iou_threshold


def _length(a1: Tensor, a2: Tensor, b1: Tensor, b2: Tensor, offset: int) -> Tensor:
    length = torch.minimum(a2, b2).sub_(torch.maximum(a1, b1))
    return (length.add_(offset) if offset else length).clamp_(min=0)


def _settle(over: Tensor) -> Tensor:
    """Solve ``keep[j] = not any(keep[i] and over[i, j])``, ``over`` strictly upper triangular."""
    keep = ~over.any(0)  # suppressed by nobody: kept for certain
    while True:
        # Alternates between a lower and an upper bound, which close in on each other.
        new = ~(over & keep[:, None]).any(0)
        if torch.equal(new, keep):
            return keep
        keep = new


@nms_op.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    kept = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty((kept,), dtype=torch.int64)


def _no_gradient(ctx: object, *grads: Tensor) -> tuple[None, None, None, None]:
    return None, None, None, None


nms_op.register_autograd(_no_gradient)
