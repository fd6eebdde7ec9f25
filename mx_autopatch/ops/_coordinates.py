"""Rows of integer coordinates as numbers that sort alike."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["group_rows", "ranks_in_groups"]


def group_rows(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Equal rows of an integer tensor (N, D), found by sorting.

    Returns:
        unique (M, D), in lexicographic order; the group (N,) of each row; and the
        size (M,) of each group, both int64.
    """
    wide = rows.long()
    low, high = wide.amin(0), wide.amax(0)
    extent = (high - low + 1).tolist()
    cells = 1
    for size in extent:
        cells *= size
    if cells >= 1 << 62:  # more than a number can tell apart
        unique, group, count = wide.unique(dim=0, return_inverse=True, return_counts=True)
        return unique.to(rows.dtype), group, count
    key = wide[:, 0] - low[0]
    for d in range(1, rows.shape[1]):
        key = key * extent[d] + (wide[:, d] - low[d])
    # int32 sorts in half the time.
    key = key.int() if cells < 1 << 31 else key
    key, order = key.sort(stable=True)
    _, group_sorted, count = key.unique_consecutive(return_inverse=True, return_counts=True)
    group = torch.empty_like(order).scatter_(0, order, group_sorted)
    return rows[order[count.cumsum(0) - count]], group, count


def ranks_in_groups(group: Tensor, count: Tensor) -> Tensor:
    """Place of each element among those of its group, in their order.

    Args:
        group: (N,) int64.
        count: (M,) int64, the size of each group.
    """
    order = group.argsort(stable=True)
    begin = count.cumsum(0) - count
    place = torch.arange(len(group), device=group.device) - begin[group[order]]
    return torch.empty_like(place).scatter_(0, order, place)
