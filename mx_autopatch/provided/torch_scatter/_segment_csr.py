"""Reductions of ranges: segment i has the elements from ``indptr[i]`` to ``indptr[i + 1]``.

``indptr`` is int64 and ascending, along its last dimension, which is the one of ``src``
that is reduced; the dimensions before it have the size of ``src`` or 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._groups import check_index, check_out, divided, extreme, resized, total, trailing

__all__ = [
    "gather_csr",
    "segment_add_csr",
    "segment_csr",
    "segment_max_csr",
    "segment_mean_csr",
    "segment_min_csr",
    "segment_sum_csr",
]


def _ranges(function: str, src: Tensor, indptr: Tensor) -> Tensor:
    """``indptr`` with its first dimensions those of ``src``."""
    check_index(function, "indptr", indptr, src)
    before = indptr.shape[:-1]
    fits = 0 < indptr.dim() <= src.dim() and all(a in (1, b) for a, b in zip(before, src.shape))
    if not fits or indptr.size(-1) == 0:
        raise ValueError(
            f"{function}: indptr: expected (..., segments + 1) before which src "
            f"{tuple(src.shape)} begins, got {tuple(indptr.shape)}"
        )
    return indptr.expand(*src.shape[: indptr.dim() - 1], -1)


def _segments(indptr: Tensor, elements: int) -> Tensor:
    """The segment of each element; the number of segments for what is in none."""
    segments = indptr.size(-1) - 1
    begun = indptr.new_zeros((*indptr.shape[:-1], elements + 1))
    begun = begun.scatter_add(-1, indptr, torch.ones_like(indptr)).cumsum(-1)
    return torch.where(begun == 0, segments + 1, begun)[..., :elements] - 1


def _reduced(
    function: str, src: Tensor, indptr: Tensor, out: Tensor | None
) -> tuple[Tensor, Tensor, int, int]:
    """The ranges, the segment of each element, the dimension, the number of segments."""
    indptr = _ranges(function, src, indptr)
    dim, size = indptr.dim() - 1, indptr.size(-1) - 1
    if out is not None:
        check_out(function, out, src, dim, size)
    return indptr, trailing(_segments(indptr, src.size(dim)), src), dim, size


def segment_sum_csr(src: Tensor, indptr: Tensor, out: Tensor | None = None) -> Tensor:
    """The sum of each segment, 0 of an empty one; ``out`` is overwritten."""
    _, index, dim, size = _reduced("segment_sum_csr", src, indptr, out)
    sums = total(src, index, dim, size + 1).narrow(dim, 0, size)
    return sums.to(src.dtype) if out is None else out.copy_(sums)


segment_add_csr = segment_sum_csr


def segment_mean_csr(src: Tensor, indptr: Tensor, out: Tensor | None = None) -> Tensor:
    """The mean of each segment, 0 of an empty one; of integers rounded towards 0."""
    ranges, index, dim, size = _reduced("segment_mean_csr", src, indptr, out)
    sums = total(src, index, dim, size + 1).narrow(dim, 0, size)
    means = divided(sums, trailing(ranges.diff(dim=-1), src), "trunc")
    return means.to(src.dtype) if out is None else out.copy_(means)


def _extreme(
    function: str, src: Tensor, indptr: Tensor, out: Tensor | None
) -> tuple[Tensor, Tensor]:
    _, index, dim, size = _reduced(function, src, indptr, out)
    value, where = extreme(src, index, dim, size + 1, function == "segment_max_csr")
    value, where = value.narrow(dim, 0, size), where.narrow(dim, 0, size)
    return (value if out is None else out.copy_(value)), where


def segment_min_csr(
    src: Tensor, indptr: Tensor, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The smallest of each segment and its place; 0 and ``src.size(dim)`` of an empty one."""
    return _extreme("segment_min_csr", src, indptr, out)


def segment_max_csr(
    src: Tensor, indptr: Tensor, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The largest of each segment and its place, as ``segment_min_csr``."""
    return _extreme("segment_max_csr", src, indptr, out)


def segment_csr(
    src: Tensor, indptr: Tensor, out: Tensor | None = None, reduce: str = "sum"
) -> Tensor:
    """The ``sum`` (``add``), ``mean``, ``min`` or ``max`` of each segment.

    Raises:
        TypeError: no tensor, ``indptr`` not int64, ``out`` of another dtype.
        ValueError: shapes that do not fit, another device, an unknown ``reduce``.
        RuntimeError: a range beyond the elements (on the CPU; elsewhere undefined).
    """
    if reduce in ("sum", "add"):
        return segment_sum_csr(src, indptr, out)
    if reduce == "mean":
        return segment_mean_csr(src, indptr, out)
    if reduce == "min":
        return segment_min_csr(src, indptr, out)[0]
    if reduce == "max":
        return segment_max_csr(src, indptr, out)[0]
    raise ValueError(f"segment_csr: reduce: expected sum, add, mean, min or max, got {reduce!r}")


def gather_csr(src: Tensor, indptr: Tensor, out: Tensor | None = None) -> Tensor:
    """Each row of ``src`` as often as its range in ``indptr`` is long, at that place.

    Without ``out`` there are as many rows as the last range ends at, 0 before the first;
    with it, rows outside all ranges stay.
    """
    ranges = _ranges("gather_csr", src, indptr)
    dim, size = ranges.dim() - 1, ranges.size(-1) - 1
    if src.size(dim) != size:
        raise ValueError(
            f"gather_csr: indptr: expected {src.size(dim) + 1} entries, one more than src has "
            f"rows in dimension {dim}, got {size + 1}"
        )
    if out is not None:
        check_out("gather_csr", out, src, dim)
        rows = out.size(dim)
    else:
        rows = int(ranges.reshape(-1)[-1]) if src.numel() else 0
    base = src.new_zeros(resized(src, dim, rows)) if out is None else out
    if src.numel() == 0 or rows == 0:
        return base
    index = trailing(_segments(ranges, rows), src)
    found = src.gather(dim, index.clamp(max=size - 1))
    rows_now = torch.where(index < size, found, base)
    return rows_now if out is None else out.copy_(rows_now)
