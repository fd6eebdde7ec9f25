"""Tensors of the soft NPU as CPU tensors on the same memory, and back.

Device memory is host memory, so an alias is a view of what the npu tensor holds: what is
written into one is read from the other, at any offset and stride. An alias does not keep
the memory alive; it is for the duration of one operator.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor
from torch._C import _construct_storage_from_data_pointer as _storage_at

__all__ = ["CPU", "fresh", "on_device", "on_host", "view_of"]

CPU = torch.device("cpu")

_empty: dict[torch.dtype, Tensor] = {}


def on_host(tensor: Tensor) -> Tensor:
    """The CPU tensor of the same dtype, size, stride and offset on the memory of ``tensor``.

    A tensor of another device (a CPU scalar among npu tensors) is returned as it is.
    """
    if tensor.device.type != "npu":
        return tensor
    storage = tensor.untyped_storage()
    dtype = tensor.dtype
    seed = _empty.get(dtype)
    if seed is None:
        seed = _empty[dtype] = torch.empty(0, dtype=dtype)
    shared = _storage_at(storage.data_ptr(), CPU, storage.nbytes())
    alias = seed.detach().set_(shared, tensor.storage_offset(), tensor.size(), tensor.stride())  # type: ignore[arg-type]
    if tensor.is_conj():
        alias = torch._conj(alias)
    if tensor.is_neg():
        alias = torch._neg_view(alias)
    return alias


def fresh(like: Tensor, device: torch.device) -> Tensor:
    """An npu tensor of the size, stride and dtype of a CPU tensor, not filled in."""
    return torch.empty_strided(like.size(), like.stride(), dtype=like.dtype, device=device)


def on_device(result: Tensor, device: torch.device) -> Tensor:
    """A new tensor of the soft NPU with the content of a CPU tensor."""
    made = fresh(result, device)
    if result.is_contiguous() and not result.is_conj() and not result.is_neg():
        size = result.numel() * result.element_size()
        if size:
            ctypes.memmove(made.data_ptr(), result.data_ptr(), size)
    else:
        on_host(made).copy_(result)
    return made


def view_of(base: Tensor, result: Tensor) -> Tensor:
    """The view of the npu tensor ``base`` that ``result`` is of its alias."""
    view = base.as_strided(result.size(), result.stride(), result.storage_offset())
    if result.is_conj():
        view = torch._conj(view)
    return torch._neg_view(view) if result.is_neg() else view
