"""Copies between devices, and of one tensor into another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mx_autopatch.softnpu.alias import CPU, on_device, on_host

__all__ = ["KERNELS"]


def copy_(self: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    on_host(self).copy_(on_host(src))
    return self


def _copy_from(self: Tensor, dst: Tensor, non_blocking: bool = False) -> Tensor:
    on_host(dst).copy_(on_host(self))
    return dst


def _copy_from_and_resize(self: Tensor, dst: Tensor) -> Tensor:
    dst.resize_(self.size())
    return _copy_from(self, dst)


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
    target = self.device if device is None else device
    more: dict[str, Any] = {"memory_format": memory_format}
    if target.type == "cpu":
        more["pin_memory"] = pin_memory
    host = on_host(self)
    made: Tensor = torch.ops.aten._to_copy.default(
        host, dtype=dtype, layout=layout, device=CPU, **more
    )
    return made if target.type == "cpu" else on_device(made, target)


KERNELS = {
    "aten::copy_": copy_,
    "aten::_copy_from": _copy_from,
    "aten::_copy_from_and_resize": _copy_from_and_resize,
    "aten::_to_copy": _to_copy,
}
