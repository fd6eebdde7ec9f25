"""Overlaps and suppression of boxes by mx_driving."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._check import compute_dtype
from ..box_iou import box_iou_rotated_op
from ..nms_rotated import nms3d_normal_op, nms3d_op
from ._binding import Native, bind
from ._mx_driving import mx_driving

__all__: list[str] = []

_MOST_PAIRS = 900_000_000  # as mx_driving documents
_MOST_EXACT = 2**24  # float32 tells fewer whole numbers apart


def _overlaps(a: Tensor, b: Tensor, mode: str, aligned: bool) -> Tensor | None:
    function = mx_driving("box_iou_rotated")
    pairs = a.shape[0] * (1 if aligned else b.shape[0])
    covered = compute_dtype(a.dtype) == torch.float32 and 0 < pairs <= _MOST_PAIRS
    if function is None or not covered:
        return None
    result: Any = function(a.float(), b.float(), mode=mode, aligned=aligned)
    return result.to(a.dtype)


def _suppression(name: str) -> Native:
    def native(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor | None:
        function = mx_driving(name)
        covered = (
            compute_dtype(boxes.dtype) == torch.float32
            and 0 < boxes.shape[0] <= _MOST_EXACT
            and iou_threshold >= 0
        )
        if function is None or not covered:
            return None
        # It sorts by score, equal ones in any order: so they are sorted, and ranked, before.
        order = scores.argsort(descending=True, stable=True)
        rank = torch.arange(len(order), 0, -1, dtype=torch.float32, device=boxes.device)
        kept: Any = function(boxes[order].float(), rank, iou_threshold)
        return order[kept.long()]

    return native


bind(box_iou_rotated_op, _overlaps)
bind(nms3d_op, _suppression("nms3d"))
bind(nms3d_normal_op, _suppression("nms3d_normal"))
