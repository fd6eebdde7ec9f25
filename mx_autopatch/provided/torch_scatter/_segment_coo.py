"""Reductions of groups whose members lie next to each other, in ascending order.

``index`` is int64 and ascending along its last dimension, which is the one of ``src``
that is reduced; the dimensions before it have the size of ``src`` or 1. What is not
sorted is reduced all the same, where the compiled functions leave the result open.
"""

from __future__ import annotations

from torch import Tensor

from ._groups import check_index, check_out, divided, extreme, group_count, resized, total, trailing

__all__ = [
    "gather_coo",
    "segment_add_coo",
    "segment_coo",
    "segment_max_coo",
    "segment_mean_coo",
    "segment_min_coo",
    "segment_sum_coo",
]


def _expanded(function: str, src: Tensor, index: Tensor, alike: int) -> Tensor:
    """``index`` with the sizes of ``src`` in its first ``alike`` dimensions."""
    sizes = [*src.shape[:alike], *index.shape[alike:]]
    if not all(a in (1, b) for a, b in zip(index.shape, sizes)):
        raise ValueError(
            f"{function}: index: expected a shape that broadcasts to {tuple(sizes)} as src "
            f"{tuple(src.shape)}, got {tuple(index.shape)}"
        )
    return index.expand(sizes)


def _check(function: str, src: Tensor, index: Tensor) -> int:
    """The dimension that is reduced."""
    check_index(function, "index", index, src)
    if not 0 < index.dim() <= src.dim():
        raise ValueError(
            f"{function}: index: expected 1 to {src.dim()} dimensions as src, got {index.dim()}"
        )
    return index.dim() - 1


def _prepared(
    function: str, src: Tensor, index: Tensor, out: Tensor | None, dim_size: int | None
) -> tuple[Tensor, int, int]:
    """The index with the first dimensions of ``src``, the dimension, the number of groups."""
    dim = _check(function, src, index)
    groups = _expanded(function, src, index, dim + 1)
    return groups, dim, group_count(function, src, index, dim, out, dim_size)


def segment_sum_coo(
    src: Tensor, index: Tensor, out: Tensor | None = None, dim_size: int | None = None
) -> Tensor:
    """The sum of each group, 0 of an empty one; added to ``out``."""
    index, dim, size = _prepared("segment_sum_coo", src, index, out, dim_size)
    sums = total(src, trailing(index, src), dim, size, out)
    return sums.to(src.dtype) if out is None else out.copy_(sums)


segment_add_coo = segment_sum_coo


def segment_mean_coo(
    src: Tensor, index: Tensor, out: Tensor | None = None, dim_size: int | None = None
) -> Tensor:
    """The mean of each group, 0 of an empty one; of integers rounded towards 0.

    With ``out``: that plus the sum, divided by the number of elements that were added.
    """
    index, dim, size = _prepared("segment_mean_coo", src, index, out, dim_size)
    sums = total(src, trailing(index, src), dim, size, out)
    count = total(index.new_ones(index.shape), index, dim, size)
    means = divided(sums, trailing(count, src), "trunc")
    return means.to(src.dtype) if out is None else out.copy_(means)


def _extreme(
    function: str, src: Tensor, index: Tensor, out: Tensor | None, dim_size: int | None
) -> tuple[Tensor, Tensor]:
    index, dim, size = _prepared(function, src, index, out, dim_size)
    largest = function == "segment_max_coo"
    value, where = extreme(src, trailing(index, src), dim, size, largest, out)
    return (value if out is None else out.copy_(value)), where


def segment_min_coo(
    src: Tensor, index: Tensor, out: Tensor | None = None, dim_size: int | None = None
) -> tuple[Tensor, Tensor]:
    """The smallest of each group and its place, as ``scatter_min``."""
    return _extreme("segment_min_coo", src, index, out, dim_size)


def segment_max_coo(
    src: Tensor, index: Tensor, out: Tensor | None = None, dim_size: int | None = None
) -> tuple[Tensor, Tensor]:
    """The largest of each group and its place, as ``scatter_max``."""
    return _extreme("segment_max_coo", src, index, out, dim_size)


def segment_coo(
    src: Tensor,
    index: Tensor,
    out: Tensor | None = None,
    dim_size: int | None = None,
    reduce: str = "sum",
) -> Tensor:
    """The ``sum`` (``add``), ``mean``, ``min`` or ``max`` of each group.

    Raises: as ``scatter``.
    """
    if reduce in ("sum", "add"):
        return segment_sum_coo(src, index, out, dim_size)
    if reduce == "mean":
        return segment_mean_coo(src, index, out, dim_size)
    if reduce == "min":
        return segment_min_coo(src, index, out, dim_size)[0]
    if reduce == "max":
        return segment_max_coo(src, index, out, dim_size)[0]
    raise ValueError(f"segment_coo: reduce: expected sum, add, mean, min or max, got {reduce!r}")


def gather_coo(src: Tensor, index: Tensor, out: Tensor | None = None) -> Tensor:
    """The row of ``src`` that each entry of ``index`` names, into ``out`` if there is one."""
    dim = _check("gather_coo", src, index)
    index = _expanded("gather_coo", src, index, dim)
    if out is not None:
        check_out("gather_coo", out, src, dim, index.size(dim))
    if src.numel() == 0:
        return src.new_zeros(resized(src, dim, index.size(dim))) if out is None else out
    rows = src.gather(dim, trailing(index, src))
    return rows if out is None else out.copy_(rows)
