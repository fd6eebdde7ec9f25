"""Tensors of the soft NPU as CPU tensors on the same memory, and back.

Device memory is host memory, so an alias is a view of what the npu tensor holds: what is
written into one is read from the other, at any offset and stride. An alias does not keep
the memory alive; it is for the duration of one operator.
"""

from __future__ import annotations

from ctypes import memmove
from typing import Any

import torch
from torch import Tensor
from torch._C import _construct_storage_from_data_pointer as _storage_at

__all__ = [
    "CPU",
    "adopt",
    "all_on_device",
    "all_on_host",
    "npu",
    "on_device",
    "on_host",
    "owned_like",
]

CPU = torch.device("cpu")

# Past what others have put in the place of torch.empty_strided, as transfer_to_npu does.
_empty_strided = torch._C._VariableFunctions.empty_strided

_devices = [torch.device("npu", index) for index in range(64)]
_empty: dict[torch.dtype, Tensor] = {}
_storages: dict[int, tuple[int, Any]] = {}
_MANY = 4096


def npu(index: int) -> torch.device:
    """The device ``npu:<index>``; for an index below zero the current one."""
    if index < 0:
        from torch_npu.npu import current_device

        index = current_device()
    return _devices[index]


def _host_storage(storage: torch.UntypedStorage) -> Any:
    """The CPU storage on the memory of an npu storage.

    The same one each time, since torch tells by it which tensors overlap. It holds an address
    and a size, so that one kept longer than its memory does no harm.
    """
    address, size = storage.data_ptr(), storage.nbytes()
    known = _storages.get(address)
    if known is not None and known[0] == size:
        return known[1]
    if len(_storages) >= _MANY:
        _storages.clear()
    made = _storage_at(address, CPU, size)
    _storages[address] = (size, made)
    return made


def on_host(tensor: Tensor) -> Tensor:
    """The CPU tensor of the same dtype, size, stride and offset on the memory of ``tensor``.

    A tensor of another device (a CPU scalar among npu tensors) is returned as it is.
    """
    if tensor.get_device() < 0:
        return tensor
    dtype = tensor.dtype
    seed = _empty.get(dtype)
    if seed is None:
        seed = _empty[dtype] = _empty_strided((0,), (1,), dtype=dtype, device=CPU)
    alias = seed.detach()
    alias.set_(
        _host_storage(tensor.untyped_storage()),
        tensor.storage_offset(),
        tensor.size(),
        tensor.stride(),
    )
    if tensor.is_conj():
        alias = torch._conj(alias)
    return torch._neg_view(alias) if tensor.is_neg() else alias


def on_device(result: Tensor, device: torch.device) -> Tensor:
    """A new tensor of the soft NPU with the content, size and stride of a CPU tensor."""
    if result.layout != torch.strided:
        return result.to(device)
    if result.is_conj() or result.is_neg():
        result = result.resolve_conj().resolve_neg()
    size, stride = result.size(), result.stride()
    made = _empty_strided(size, stride, dtype=result.dtype, device=device)
    if result.is_contiguous():
        extent = result.nbytes
    else:
        extent = 1 + sum((n - 1) * step for n, step in zip(size, stride)) if made.numel() else 0
        extent *= result.element_size()
    if extent:
        memmove(made.data_ptr(), result.data_ptr(), extent)
    return made


def all_on_host(value: Any) -> Any:
    """``on_host`` of the tensors in an argument, which may be a list, or no tensor."""
    if isinstance(value, Tensor):
        return on_host(value)
    if isinstance(value, (list, tuple)):
        return [all_on_host(item) for item in value]
    return value


def all_on_device(result: Any, device: torch.device) -> Any:
    """``on_device`` of the tensors in a result, which may be a list or tuple, or no tensor."""
    if isinstance(result, Tensor):
        return on_device(result, device)
    if isinstance(result, (list, tuple)):
        return type(result)([all_on_device(item, device) for item in result])
    return result


def owned_like(out: Any) -> Any:
    """CPU tensors as an npu tensor or a list of them is, on memory that can grow.

    What they hold is not copied.
    """
    if isinstance(out, (list, tuple)):
        return [owned_like(each) for each in out]
    return _empty_strided(out.size(), out.stride(), dtype=out.dtype, device=CPU)


def adopt(out: Any, host: Any) -> None:
    """Let an npu tensor become what the CPU has made of ``host``, in size, stride, content.

    Args:
        out: A tensor of the soft NPU, or a list of them.
        host: Its alias, or what ``owned_like`` gave; lists likewise.
    """
    if isinstance(out, (list, tuple)):
        for each, other in zip(out, host):
            adopt(each, other)
        return
    is_alias = host.untyped_storage().data_ptr() == out.untyped_storage().data_ptr()
    if out.size() != host.size() or out.stride() != host.stride():
        if not is_alias:
            out.resize_(host.size())
        out.set_(out.untyped_storage(), out.storage_offset(), host.size(), host.stride())
    if not is_alias:
        on_host(out).copy_(host)
