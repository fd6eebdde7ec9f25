"""Reductions of groups whose members are in any order.

Arguments that all functions share:
    src: the elements, of any shape.
    index: int64, the group of each; one-dimensional along ``dim``, or of as many first
        dimensions as it has, each of the size of ``src`` or 1.
    dim: where the elements of a group lie.
    out: what to reduce onto, in place; it is returned.
    dim_size: number of groups, if there is no ``out``; else the largest index plus one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._groups import check_index, dimension, divided, extreme, group_count, resized, spread, total

__all__ = [
    "scatter",
    "scatter_add",
    "scatter_max",
    "scatter_mean",
    "scatter_min",
    "scatter_mul",
    "scatter_sum",
]


def _prepared(
    function: str, src: Tensor, index: Tensor, dim: int, out: Tensor | None, dim_size: int | None
) -> tuple[Tensor, int, int]:
    """The index in the shape of ``src``, the dimension from the left, the number of groups."""
    check_index(function, "index", index, src)
    dim = dimension(function, dim, src)
    groups = spread(index, src, dim, function, "index")
    return groups, dim, group_count(function, src, index, dim, out, dim_size)


def scatter_sum(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
) -> Tensor:
    """The sum of each group, 0 of an empty one; added to ``out``."""
    groups, dim, size = _prepared("scatter_sum", src, index, dim, out, dim_size)
    sums = total(src, groups, dim, size, out)
    return sums.to(src.dtype) if out is None else out.copy_(sums)


scatter_add = scatter_sum


def scatter_mul(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
) -> Tensor:
    """The product of each group, 1 of an empty one; multiplied with ``out``."""
    groups, dim, size = _prepared("scatter_mul", src, index, dim, out, dim_size)
    start = src.new_ones(resized(src, dim, size)) if out is None else out
    if src.dtype in (torch.float16, torch.bfloat16):
        products = start.float().scatter_reduce(dim, groups, src.float(), "prod").to(src.dtype)
    else:
        products = start.scatter_reduce(dim, groups, src, "prod")
    return products if out is None else out.copy_(products)


def scatter_mean(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
) -> Tensor:
    """The mean of each group, 0 of an empty one; of integers the floor.

    With ``out``: that plus the sum, divided by the number of elements that were added.
    """
    groups, dim, size = _prepared("scatter_mean", src, index, dim, out, dim_size)
    sums = total(src, groups, dim, size, out)
    # Counting what was given, before it is spread, is less work.
    along = 0 if index.dim() == 1 else dim
    if along >= index.dim() or index.size(along) != src.size(dim):
        index, along = groups, dim
    dtype = sums.dtype if sums.is_floating_point() else torch.int64
    count = total(torch.ones_like(index, dtype=dtype), index, along, size)
    means = divided(sums, spread(count, sums, dim), "floor")
    return means.to(src.dtype) if out is None else out.copy_(means)


def _extreme(
    function: str,
    src: Tensor,
    index: Tensor,
    dim: int,
    out: Tensor | None,
    dim_size: int | None,
) -> tuple[Tensor, Tensor]:
    groups, dim, size = _prepared(function, src, index, dim, out, dim_size)
    value, where = extreme(src, groups, dim, size, function == "scatter_max", out)
    return (value if out is None else out.copy_(value)), where


def scatter_min(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The smallest of each group, and its place in ``dim``: the first of equals.

    An empty group, and one whose members are not smaller than ``out``, has the place
    ``src.size(dim)``; the former is 0 without ``out``. The gradient goes to that one element.
    """
    return _extreme("scatter_min", src, index, dim, out, dim_size)


def scatter_max(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The largest of each group, and its place in ``dim``, as ``scatter_min``."""
    return _extreme("scatter_max", src, index, dim, out, dim_size)


def scatter(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
    reduce: str = "sum",
) -> Tensor:
    """The ``sum`` (``add``), ``mul``, ``mean``, ``min`` or ``max`` of each group.

    Raises:
        TypeError: no tensor, index not int64, ``out`` of another dtype.
        ValueError: shapes that do not fit, another device, an unknown ``reduce``.
        RuntimeError: an index outside the groups (on the CPU; elsewhere undefined).
    """
    if reduce in ("sum", "add"):
        return scatter_sum(src, index, dim, out, dim_size)
    if reduce == "mul":
        return scatter_mul(src, index, dim, out, dim_size)
    if reduce == "mean":
        return scatter_mean(src, index, dim, out, dim_size)
    if reduce == "min":
        return scatter_min(src, index, dim, out, dim_size)[0]
    if reduce == "max":
        return scatter_max(src, index, dim, out, dim_size)[0]
    raise ValueError(f"scatter: reduce: expected sum, add, mul, mean, min or max, got {reduce!r}")
