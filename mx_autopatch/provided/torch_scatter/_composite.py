"""Standard deviation, logarithms of sums of exponentials, and softmax over groups.

Arguments as in ``scatter``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._groups import check_index, check_tensor, dimension, extreme, group_count, spread, total, wide

__all__ = ["scatter_log_softmax", "scatter_logsumexp", "scatter_softmax", "scatter_std"]


def _prepared(
    function: str, src: Tensor, index: Tensor, dim: int, out: Tensor | None, dim_size: int | None
) -> tuple[Tensor, int, int]:
    check_index(function, "index", index, src)
    dim = dimension(function, dim, src)
    groups = spread(index, src, dim, function, "index")
    return groups, dim, group_count(function, src, index, dim, out, dim_size)


def _check_floating(function: str, src: Tensor) -> None:
    check_tensor(function, "src", src)
    if not src.is_floating_point():
        raise ValueError(f"{function}: src: expected a floating dtype, got {src.dtype}")


def scatter_std(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
    unbiased: bool = True,
) -> Tensor:
    """The standard deviation of each group, 0 of an empty one.

    That is ``sqrt(sum of squared differences / (count + 1e-6))``, count less one (but at
    least one) if ``unbiased``. The sums of squares are added to ``out`` in place.
    """
    groups, dim, size = _prepared("scatter_std", src, index, dim, out, dim_size)
    elements = src.to(wide(src.dtype))
    sums = total(elements, groups, dim, size)
    count = total(torch.ones_like(elements), groups, dim, size).clamp(min=1)
    difference = elements - (sums / count).gather(dim, groups)
    squares = difference * difference
    if out is None:
        squares = total(squares, groups, dim, size)
    else:
        squares = out.copy_(total(squares.to(out.dtype), groups, dim, size, out))
    if unbiased:
        count = (count - 1).clamp(min=1)
    deviation = squares.div(count + 1e-6).sqrt()
    return deviation.to(src.dtype) if src.is_floating_point() else deviation


def scatter_logsumexp(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
    eps: float = 1e-12,
) -> Tensor:
    """``log(sum(exp(src)))`` of each group, 0 of an empty one and of one of ``-inf`` alone.

    With ``out`` that is one more member of each group, and is overwritten. ``eps`` is added
    to the sum, which is of exponentials relative to the largest.
    """
    _check_floating("scatter_logsumexp", src)
    groups, dim, size = _prepared("scatter_logsumexp", src, index, dim, out, dim_size)
    elements = src.to(wide(src.dtype))
    onto = None if out is None else out.to(elements.dtype)
    highest, _ = extreme(elements.detach(), groups, dim, size, True, onto)
    highest = highest.detach()
    level = torch.where(highest.isfinite(), highest, 0)
    exponentials = (elements - level.gather(dim, groups)).exp()
    start = None if onto is None else (onto - level).exp()
    sums = total(exponentials, groups, dim, size, start)
    nothing = sums == 0
    logarithms = (torch.where(nothing, 1, sums) + eps).log() + level
    logarithms = torch.where(nothing, 0 if onto is None else onto, logarithms)
    return logarithms.to(src.dtype) if out is None else out.copy_(logarithms)


def _shifted(src: Tensor, groups: Tensor, dim: int, size: int) -> Tensor:
    elements = src.to(wide(src.dtype))
    highest, _ = extreme(elements.detach(), groups, dim, size, True)
    return elements - highest.gather(dim, groups)


def scatter_softmax(
    src: Tensor, index: Tensor, dim: int = -1, dim_size: int | None = None
) -> Tensor:
    """The share that each element's exponential has in its group, in the shape of ``src``."""
    _check_floating("scatter_softmax", src)
    groups, dim, size = _prepared("scatter_softmax", src, index, dim, None, dim_size)
    exponentials = _shifted(src, groups, dim, size).exp()
    sums = total(exponentials, groups, dim, size)
    return (exponentials / sums.gather(dim, groups)).to(src.dtype)


def scatter_log_softmax(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    eps: float = 1e-12,
    dim_size: int | None = None,
) -> Tensor:
    """The logarithm of ``scatter_softmax``; ``eps`` is added to the sum of a group."""
    _check_floating("scatter_log_softmax", src)
    groups, dim, size = _prepared("scatter_log_softmax", src, index, dim, None, dim_size)
    shifted = _shifted(src, groups, dim, size)
    sums = total(shifted.exp(), groups, dim, size)
    return (shifted - (sums + eps).log().gather(dim, groups)).to(src.dtype)
