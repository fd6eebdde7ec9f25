"""Argument checks shared by the operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["check_same_device", "check_tensor", "compute_dtype", "pair"]


def check_tensor(
    op: str,
    name: str,
    value: Any,
    shape: tuple[str | int, ...],
    dtype: torch.dtype | None = None,
) -> None:
    """Raise unless ``value`` is a tensor of that shape and dtype.

    Args:
        shape: one entry a dimension; an int is demanded, a letter is free.
        dtype: the dtype demanded; None accepts every real floating dtype.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name}: expected a torch.Tensor, got {type(value).__name__}")
    if value.dtype != dtype if dtype is not None else not value.dtype.is_floating_point:
        expected = dtype if dtype is not None else "a floating dtype"
        raise TypeError(f"{op}: {name}: expected {expected}, got {value.dtype}")
    if value.dim() != len(shape) or any(
        isinstance(want, int) and want != got for want, got in zip(shape, value.shape)
    ):
        expected = "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
        raise ValueError(f"{op}: {name}: expected shape {expected}, got {tuple(value.shape)}")


def check_same_device(op: str, **tensors: Tensor | None) -> None:
    """Raise unless all tensors given are on the device of the first."""
    (first, reference), *others = ((k, t) for k, t in tensors.items() if t is not None)
    for name, tensor in others:
        if tensor.device != reference.device:
            raise ValueError(
                f"{op}: {name}: expected device {reference.device} as {first}, got {tensor.device}"
            )


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype to calculate in: half precision is widened, and rounded once at the end."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def pair(op: str, name: str, value: int | Sequence[int], minimum: int) -> list[int]:
    """Two sizes (y, x), of one number or two; raise if one is below ``minimum``."""
    sizes = [value, value] if isinstance(value, int) else list(value)
    if len(sizes) != 2 or min(sizes) < minimum:
        raise ValueError(f"{op}: {name}: expected one or two sizes >= {minimum}, got {value}")
    return sizes
