"""Copies between devices and of one tensor into another, and memory set to zero."""

from __future__ import annotations

from ctypes import memset
from typing import Any, Callable

import torch
from torch import Tensor

from mx_autopatch.softnpu.alias import CPU, npu, on_device, on_host

__all__ = ["KERNELS"]

_aten = torch.ops.aten


def copy_(self: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    on_host(self).copy_(on_host(src))
    return self


def _copy_from_and_resize(self: Tensor, dst: Tensor) -> Tensor:
    dst.resize_(self.size())
    return copy_(dst, self)


# Past what others have put in the place of torch's functions, as transfer_to_npu does.
_empty = torch._C._VariableFunctions.empty
_empty_like = torch._C._VariableFunctions.empty_like
_empty_strided = torch._C._VariableFunctions.empty_strided


def _new(
    like: Tensor,
    memory_format: torch.memory_format | None,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """An npu tensor with the stride that ``torch.empty_like`` has on the CPU.

    torch_npu's own is never channels last.
    """
    if memory_format in (None, torch.preserve_format) and like.is_contiguous():
        stride = like.stride()
    else:
        form = memory_format or torch.preserve_format
        stride = _empty_like(on_host(like), memory_format=form, device=CPU).stride()
    made: Tensor = _empty_strided(
        like.size(), stride, dtype=dtype or like.dtype, device=device or like.device
    )
    return made


def empty_like(
    self: Tensor,
    *,
    dtype: torch.dtype | None = None,
    layout: torch.layout | None = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
    memory_format: torch.memory_format | None = None,
) -> Tensor:
    if layout not in (None, torch.strided) or (device is not None and device.type != "npu"):
        host = _aten.empty_like.default(
            on_host(self), dtype=dtype, layout=layout, device=CPU, memory_format=memory_format
        )
        return on_device(host, device or self.device)
    return _new(self, memory_format, dtype, device)


def clone(self: Tensor, *, memory_format: torch.memory_format | None = None) -> Tensor:
    """Written where it is to be: a clone on the CPU would be copied once more."""
    made = _new(self, memory_format)
    on_host(made).copy_(on_host(self))
    return made


def _to_copy(
    self: Tensor,
    *,
    dtype: torch.dtype | None = None,
    layout: torch.layout | None = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
    non_blocking: bool = False,
    memory_format: torch.memory_format | None = None,
) -> Tensor:
    """To a device, a dtype, a layout, a memory format; between all of them at once."""
    target = self.device if device is None else device
    if target.type == "npu" and layout in (None, torch.strided) and self.layout == torch.strided:
        made = _new(self, memory_format, dtype, target)
        on_host(made).copy_(on_host(self))
        return made
    more: dict[str, Any] = {"pin_memory": pin_memory} if target.type == "cpu" else {}
    host = _aten._to_copy.default(
        on_host(self), dtype=dtype, layout=layout, device=CPU, memory_format=memory_format, **more
    )
    return host if target.type == "cpu" else on_device(host, target)


def zero_(self: Tensor) -> Tensor:
    if self.is_contiguous():
        size = self.nbytes
        if size:
            memset(self.data_ptr(), 0, size)
    else:
        on_host(self).zero_()
    return self


def zeros(
    size: list[int],
    *,
    dtype: torch.dtype | None = None,
    layout: torch.layout | None = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
) -> Tensor:
    target = npu(-1) if device is None else device
    made: Tensor = _empty(size, dtype=dtype, layout=layout or torch.strided, device=target)
    return made.zero_()


KERNELS: dict[str, Callable[..., Any]] = {
    "aten::copy_": copy_,
    "aten::_copy_from_and_resize": _copy_from_and_resize,
    "aten::clone": clone,
    "aten::empty_like": empty_like,
    "aten::_to_copy": _to_copy,
    "aten::zero_": zero_,
    "aten::zeros": zeros,
}
