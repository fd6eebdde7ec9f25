"""What scatter, segment_coo and segment_csr have in common.

Here an index has the shape of what it sorts, and dimensions count from the left.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = [
    "check_index",
    "check_out",
    "check_tensor",
    "dimension",
    "divided",
    "extreme",
    "group_count",
    "resized",
    "spread",
    "total",
    "trailing",
    "wide",
]


def check_tensor(function: str, name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{function}: {name}: expected a torch.Tensor, got {type(value).__name__}")


def check_index(function: str, name: str, value: Any, src: Any) -> None:
    """Raise unless the two are tensors on one device, and ``value`` is int64."""
    check_tensor(function, "src", src)
    check_tensor(function, name, value)
    if value.dtype != torch.int64:
        raise TypeError(f"{function}: {name}: expected torch.int64, got {value.dtype}")
    if value.device != src.device:
        raise ValueError(
            f"{function}: {name}: expected device {src.device} as src, got {value.device}"
        )


def check_out(function: str, out: Any, src: Tensor, dim: int, size: int | None = None) -> None:
    """Raise unless ``out`` is like ``src``, except for its size in ``dim``, which may be given."""
    check_tensor(function, "out", out)
    if out.dtype != src.dtype:
        raise TypeError(f"{function}: out: expected {src.dtype} as src, got {out.dtype}")
    if out.device != src.device:
        raise ValueError(f"{function}: out: expected device {src.device}, got {out.device}")
    wanted = resized(src, dim, out.size(dim) if size is None and out.dim() > dim else size or 0)
    if list(out.shape) != wanted:
        free = "any size" if size is None else f"size {size}"
        raise ValueError(
            f"{function}: out: expected shape {tuple(src.shape)} with {free} in dimension {dim}, "
            f"got {tuple(out.shape)}"
        )


def dimension(function: str, dim: int, src: Tensor) -> int:
    if not -src.dim() <= dim < src.dim():
        raise ValueError(f"{function}: dim: expected one of the {src.dim()} of src, got {dim}")
    return dim % src.dim()


def resized(tensor: Tensor, dim: int, size: int) -> list[int]:
    """The shape of ``tensor`` with another size in one dimension."""
    return [*tensor.shape[:dim], size, *tensor.shape[dim + 1 :]]


def trailing(index: Tensor, like: Tensor) -> Tensor:
    """``index``, which lacks the last dimensions of ``like``, the same all along them."""
    after = like.shape[index.dim() :]
    return index.view(*index.shape, *[1] * len(after)).expand(*index.shape, *after)


def spread(index: Tensor, like: Tensor, dim: int, function: str = "", name: str = "") -> Tensor:
    """``index`` in the shape of ``like``: one-dimensional along ``dim``, else from the left."""
    view = index
    if view.dim() == 1:
        view = view.view(*[1] * dim, -1)
    view = view.view(*view.shape, *[1] * (like.dim() - view.dim()))
    fits = view.dim() == like.dim() and all(a in (1, b) for a, b in zip(view.shape, like.shape))
    if not fits:
        raise ValueError(
            f"{function}: {name}: expected a shape that broadcasts to {tuple(like.shape)}, "
            f"got {tuple(index.shape)}"
        )
    return view.expand(like.shape)


def group_count(
    function: str, src: Tensor, index: Tensor, dim: int, out: Tensor | None, dim_size: int | None
) -> int:
    """How many groups there are: those of ``out``, as many as asked for, or as are named."""
    if out is not None:
        check_out(function, out, src, dim)
        return out.size(dim)
    if dim_size is None:
        return int(index.max()) + 1 if index.numel() else 0
    if dim_size < 0:
        raise ValueError(f"{function}: dim_size: expected at least 0, got {dim_size}")
    return dim_size


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype to add up in."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def total(src: Tensor, index: Tensor, dim: int, size: int, onto: Tensor | None = None) -> Tensor:
    """Sums of the groups, in the wide dtype; added to ``onto`` if there is one."""
    dtype = wide(src.dtype)
    if onto is None:
        start = torch.zeros(resized(src, dim, size), dtype=dtype, device=src.device)
        return start.scatter_add_(dim, index, src.to(dtype))
    return onto.to(dtype).scatter_add(dim, index, src.to(dtype))


def divided(sums: Tensor, count: Tensor, rounding: str) -> Tensor:
    """Means; those of integers are rounded."""
    count = count.clamp(min=1)
    if sums.is_floating_point() or sums.is_complex():
        return sums / count
    return sums.div(count, rounding_mode=rounding)


def extreme(
    src: Tensor, index: Tensor, dim: int, size: int, largest: bool, onto: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The smallest or largest of each group, and where along ``dim`` it was first.

    Where ``onto`` is given, only what beats that counts. A group without a winner has the
    position ``src.size(dim)``, and the value of ``onto``, else 0. NaN wins nowhere.
    """
    count, shape = src.size(dim), resized(src, dim, size)
    nowhere = index.new_full(shape, count)
    default = src.new_zeros(()) if onto is None else onto
    if src.numel() == 0 or 0 in shape:
        return default.expand(shape).clone(), nowhere
    if src.is_floating_point():
        worst: float = float("-inf") if largest else float("inf")
        entrants = src.detach().nan_to_num(worst, float("inf"), float("-inf"))
    else:
        worst = torch.iinfo(src.dtype).min if largest else torch.iinfo(src.dtype).max
        entrants = src
    start = src.new_full(shape, worst) if onto is None else onto.detach()
    reduce = "amax" if largest else "amin"
    best = start.scatter_reduce(dim, index, entrants, reduce)
    wins = src.detach() == best.gather(dim, index)
    if onto is not None:
        rival = start.gather(dim, index)
        wins &= src > rival if largest else src < rival
    # Places are floats as long as those are exact: torch reduces rows of floats faster.
    counting = torch.float32 if count < 1 << 24 else torch.int64
    place = torch.arange(count, dtype=counting, device=src.device)
    place = torch.where(wins, place.view(-1, *[1] * (src.dim() - dim - 1)), count)
    where = nowhere.to(counting).scatter_reduce(dim, index, place, "amin").long()
    # Taken from src, so that the gradient goes to the winner alone.
    value = src.gather(dim, where.clamp(max=count - 1))
    return torch.where(where < count, value, default), where
