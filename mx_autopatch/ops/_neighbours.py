"""Squared distances between points, some at a time, and what lies first in rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["distances", "first_in_rows", "nearest"]

_PAIRS = 1 << 20  # distances at a time: bounds the memory


def distances(centres: Tensor, points: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances (B, m, N) of the next m of the centres (B, M, D) to points (B, N, D).

    From the differences: with norms and a product, near points would cancel.
    """
    rows = max(1, _PAIRS // max(1, points.shape[0] * points.shape[1]))
    for begin in range(0, centres.shape[1], rows):
        part = slice(begin, begin + rows)
        total = None
        for d in range(points.shape[2]):
            difference = centres[:, part, None, d] - points[:, None, :, d]
            square = difference.square_()
            total = square if total is None else total.add_(square)
        assert total is not None
        yield part, total


def nearest(square: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest in the last dimension and their indices, the first among equals.

    Beyond the length of the dimension: infinity, and index 0.
    """
    found = min(k, square.shape[-1])
    if found > 3:
        smallest, index = square.topk(found, -1, largest=False)
        index, order = index.sort(-1)
        smallest, order = smallest.gather(-1, order).sort(dim=-1, stable=True)
        index = index.gather(-1, order)
    else:
        parts = []
        for _ in range(found):
            value, place = square.min(-1, keepdim=True)
            parts.append((value, place))
            square = square.scatter(-1, place, torch.inf)
        shape = *square.shape[:-1], 0
        smallest = torch.cat([square.new_zeros(shape), *(v for v, _ in parts)], -1)
        index = torch.cat([square.new_zeros(shape, dtype=torch.int64), *(i for _, i in parts)], -1)
    missing = 0, k - found
    pad = torch.nn.functional.pad
    return pad(smallest, missing, value=torch.inf), pad(index, missing)


def first_in_rows(mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Indices (R, count) of the first that are True in each row of ``mask`` (R, N).

    Rows that have fewer are filled up with the first one, and those that have none
    with 0. Also how many there are (R,).
    """
    found = mask.sum(1)
    row, column = mask.nonzero(as_tuple=True)
    place = torch.arange(len(row), device=row.device) - (found.cumsum(0) - found)[row]
    first = place < count
    row, column, place = row[first], column[first], place[first]
    table = column.new_zeros(len(mask), count)
    table[row, place] = column
    filled = torch.arange(count, device=table.device) < found[:, None]
    return torch.where(filled, table, table[:, :1]), found
