"""Sums of rows in the cells of a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ._bilinear import weighted_bags
from ._check import compute_dtype

__all__ = ["cells_of", "check_ranks", "pooled", "read_back", "size_of", "spread", "valid_ranks"]


def size_of(op: str, name: str, size: Sequence[int]) -> list[int]:
    """``size`` as a list; raise unless it is the four sizes of a grid."""
    if len(size) != 4 or min(size) < 0:
        raise ValueError(f"{op}: {name}: expected sizes B, D, H, W >= 0, got {tuple(size)}")
    return [int(n) for n in size]


def check_ranks(op: str, name: str, ranks: Tensor, count: int) -> None:
    """Raise unless all ``ranks`` are in [0, count); on the CPU only.

    Elsewhere looking at the values would make the host wait for the device.
    """
    if ranks.device.type != "cpu" or not ranks.numel():
        return
    low, high = (int(t) for t in ranks.aminmax())
    if low < 0 or high >= count:
        raise ValueError(f"{op}: {name}: expected ranks in [0, {count}), got {low} to {high}")


def cells_of(coords: Tensor, size: list[int]) -> Tensor:
    """The cell of each point; -1 outside."""
    batch, depth, height, width = size
    limits = coords.new_tensor((height, width, depth, batch))
    inside = ((coords >= 0) & (coords < limits)).all(1)
    h, w, d, b = coords.long().unbind(1)
    return torch.where(inside, ((b * depth + d) * height + h) * width + w, -1)


def valid_ranks(ranks_bev: Tensor, size: list[int]) -> Tensor:
    """``ranks_bev`` as int64; -1 outside."""
    ranks = ranks_bev.long()
    return torch.where((ranks >= 0) & (ranks < math.prod(size)), ranks, -1)


def pooled(
    rows: Tensor, index: Tensor, weight: Tensor | None, cell: Tensor, size: Sequence[int]
) -> Tensor:
    """Sums of the points' rows in each cell.

    Args:
        rows: (R, C)
        index: (P,) the row of each point.
        weight: (P,) of each point; all 1 if None.
        cell: (P,) of each point; -1 for none.
        size: of the grid.

    Returns:
        ``size`` and C, in the dtype of ``rows``.
    """
    cells = math.prod(size)
    if not (index.numel() and rows.numel() and cells):
        return rows.new_zeros((*size, rows.shape[1]))
    dtype = compute_dtype(rows.dtype)
    if cells < 1 << 31:
        cell = cell.int()  # sorts in half the time
    cell, order = cell.sort(stable=True)
    count = (cell + 1).bincount(minlength=cells + 1)  # those of no cell are first
    ordered = torch.ones_like(order, dtype=dtype) if weight is None else weight[order].to(dtype)
    sums = weighted_bags(rows.to(dtype), index[order], ordered, count)[1:]
    return sums.to(rows.dtype).view(*size, -1).clone()


def read_back(grid: Tensor, cell: Tensor) -> Tensor:
    """The rows of the points' cells; 0 for the cell -1."""
    rows = grid.reshape(-1, grid.shape[-1])
    if not rows.numel():
        return grid.new_zeros((cell.numel(), grid.shape[-1]))
    outside = cell < 0
    return rows.index_select(0, cell.clamp(min=0)).masked_fill_(outside[:, None], 0)


def spread(values: Tensor, lengths: Tensor, starts: Tensor) -> Tensor:
    """``values`` (N, ...) of points by interval: each gets the value of the first of its own.

    An interval is ``lengths`` points from ``starts`` on. Points of none get -1.
    """
    if not lengths.numel():
        return torch.full_like(values, -1)
    # No shape depends on the values: the host need not wait, and compilers can follow.
    count = values.shape[0]
    lengths = lengths.long()
    starts, order = torch.where(lengths > 0, starts.long(), count).sort()
    point = torch.arange(count, device=values.device)
    interval = (torch.searchsorted(starts, point, right=True) - 1).clamp_(min=0)
    first = starts[interval]
    inside = (point >= first) & (point - first < lengths[order][interval])
    found = values[first.clamp(max=count - 1)]
    return torch.where(inside.view(-1, *[1] * (values.dim() - 1)), found, -1)
