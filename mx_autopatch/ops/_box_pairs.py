"""The pairs of axis-aligned boxes that overlap."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["iou_pairs"]

_PAIRS = 1 << 20  # calculated at a time: bounds the memory


def iou_pairs(boxes: Tensor, offset: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs i < j of boxes (N, 4) that overlap, int64, and their IoU, all (E,).

    The arithmetic is that of the compiled operators, operation for operation.
    """
    low, high = boxes[:, :2].T.contiguous(), boxes[:, 2:].T.contiguous()
    area = (high - low + offset).prod(0)
    rows = max(1, _PAIRS // max(1, len(boxes)))
    found = [torch.zeros(2, 0, dtype=torch.int64, device=boxes.device)]
    overlaps = [area[:0]]
    for begin in range(0, len(boxes), rows):
        part = slice(begin, begin + rows)
        x, y = torch.minimum(high[:, part, None], high[:, None, begin:]).sub_(
            torch.maximum(low[:, part, None], low[:, None, begin:])
        )
        if offset:
            x, y = x + offset, y + offset
        pairs = ((x > 0) & (y > 0)).triu(1).nonzero().T
        inter = x[pairs[0], pairs[1]] * y[pairs[0], pairs[1]]
        pairs += begin
        found.append(pairs)
        overlaps.append(inter / (area[pairs[0]] + area[pairs[1]] - inter))
    i, j = torch.cat(found, 1)
    return i, j, torch.cat(overlaps)
