"""Greedy suppression on a list of the pairs that overlap."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["settle"]


def settle(count: int, i: Tensor, j: Tensor) -> Tensor:
    """Which of ``count`` items, in descending score, greedy suppression keeps.

    Args:
        i, j: (E,) int64 pairs with i < j; j is dropped if i is kept.

    Solves ``keep[j] = not any(keep[i])``, as ``nms`` does: iterating from any start
    arrives at the one solution, alternating between bounds from below and above.
    """
    keep = torch.ones(count, dtype=torch.bool, device=i.device)
    while True:
        new = torch.ones_like(keep).index_put_((j[keep[i]],), keep.new_zeros(()))
        if torch.equal(new, keep):
            return keep
        keep = new
