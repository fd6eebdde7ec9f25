"""What a call of an operator makes the host wait for, and what it sends to the device.

From the operator's name and arguments alone, as a kernel of the device is given them.
That these wait on an NPU is in the source of torch_npu's kernels: a result whose size
depends on values has to be known on the host before the next operator can be called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

import torch
from torch import Tensor

__all__ = ["Copied", "casting", "computing", "copied", "wait_of"]

Arguments = tuple[Sequence[Any], Mapping[str, Any]]
Wait = Callable[[Sequence[Any], Mapping[str, Any]], Optional[str]]


def _given(args: Sequence[Any], kwargs: Mapping[str, Any], position: int, name: str) -> Any:
    return args[position] if position < len(args) else kwargs.get(name)


def _always(what: str) -> Wait:
    return lambda args, kwargs: what


def _unless(position: int, name: str, what: str, unknown: Any = None) -> Wait:
    """Waits unless the caller has said how large the result is."""
    return lambda args, kwargs: (
        what if _given(args, kwargs, position, name) in (None, unknown) else None
    )


def _to_copy(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    device = kwargs.get("device")
    if device is None or device.type != "cpu" or kwargs.get("non_blocking"):
        return None
    return "copy to the CPU" if args[0].device.type == "npu" else None


def _into(dst: int, src: int) -> Wait:
    def wait(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        if _given(args, kwargs, 2, "non_blocking"):
            return None
        to_host = args[dst].device.type == "cpu" and args[src].device.type == "npu"
        return "copy to the CPU" if to_host else None

    return wait


def _mask(what: str) -> Wait:
    def wait(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        for index in _given(args, kwargs, 1, "indices") or ():
            if isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8):
                return what
        return None

    return wait


_WAITS: dict[str, Wait] = {
    "aten::_local_scalar_dense": _always("value read (item)"),
    "aten::equal": _always("torch.equal"),
    "aten::nonzero": _always("nonzero"),
    "aten::nonzero.out": _always("nonzero"),
    "aten::where": _always("nonzero"),  # that of one argument
    "aten::masked_select": _always("masked_select"),
    "aten::masked_select.out": _always("masked_select"),
    "aten::_unique": _always("unique"),
    "aten::_unique2": _always("unique"),
    "aten::unique_dim": _always("unique"),
    "aten::unique_consecutive": _always("unique"),
    "aten::bincount": _always("bincount"),
    "aten::index.Tensor": _mask("indexing by a bool mask"),
    "aten::index_put": _mask("assignment by a bool mask"),
    "aten::index_put_": _mask("assignment by a bool mask"),
    "aten::_index_put_impl_": _mask("assignment by a bool mask"),
    "aten::repeat_interleave.Tensor": _unless(1, "output_size", "repeat_interleave"),
    "aten::repeat_interleave.self_Tensor": _unless(3, "output_size", "repeat_interleave"),
    "aten::one_hot": _unless(1, "num_classes", "one_hot without num_classes", -1),
    "aten::_to_copy": _to_copy,
    "aten::copy_": _into(0, 1),
    "aten::_copy_from": _into(1, 0),
}


def wait_of(name: str) -> Wait | None:
    """A function of (args, kwargs): what the host waits for, None if for nothing.

    None if the operator never makes it wait.
    """
    return _WAITS.get(name)


class Copied:
    """A tensor of the CPU on its way to the device."""

    __slots__ = ("is_blocking", "size")

    def __init__(self, source: Tensor, non_blocking: Any) -> None:
        self.size = source.numel() * source.element_size()
        #: Memory that is not pinned has to be copied before the host may change it.
        self.is_blocking = not non_blocking


def copied(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Copied | None:
    """The copy to the device that this call makes, if it makes one."""
    if name == "aten::copy_":
        dst, src = args[0], args[1]
    elif name == "aten::_copy_from":
        src, dst = args[0], args[1]
    elif name == "aten::_to_copy":
        device = kwargs.get("device")
        if device is None or device.type != "npu" or args[0].device.type != "cpu":
            return None
        return Copied(args[0], kwargs.get("non_blocking"))
    else:
        return None
    if dst.device.type == "npu" and src.device.type == "cpu":
        return Copied(src, _given(args, kwargs, 2, "non_blocking"))
    return None


_CASTS = frozenset(
    (
        *("aten::_to_copy", "aten::copy_", "npu::_npu_dtype_cast", "npu::npu_dtype_cast"),
        *("npu::npu_dtype_cast_", "npu::_npu_dtype_cast_backward", "npu::npu_dtype_cast_backward"),
    )
)
_WIDE = (torch.float64, torch.complex128, torch.int64)


def casting(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """``float64 to float32``, if the call casts on the device from or to a 64-bit type."""
    if name not in _CASTS:
        return None
    if name == "aten::copy_":
        former, now = args[1].dtype, args[0].dtype
        if args[0].device.type != args[1].device.type:
            return None
    else:
        former, now = args[0].dtype, _given(args, kwargs, 1, "dtype")
        if not isinstance(now, torch.dtype):
            return None
    if former == now or (former not in _WIDE and now not in _WIDE):
        return None
    return f"{_short(former)} to {_short(now)}"


# What one does with sizes, labels and positions; not the comparisons, selections and
# additions for which they are int64.
_INT64 = frozenset(
    (
        *("mm", "bmm", "addmm", "baddbmm", "matmul", "dot", "mv", "mul", "mul_", "div", "div_"),
        *("floor_divide", "floor_divide_", "remainder", "fmod", "pow", "sum", "prod", "cumsum"),
        *("cumprod", "sort", "argsort", "topk", "max", "min", "median"),
    )
)


def computing(name: str, args: Sequence[Any]) -> str | None:
    """``float64`` or ``int64``, if the call computes in a type worth avoiding on an NPU.

    Anything in float64 or complex128; in int64 products, divisions, reductions and sorts.
    """
    for argument in args:
        if isinstance(argument, Tensor) and argument.device.type == "npu":
            dtype = argument.dtype
            if dtype is torch.float64 or dtype is torch.complex128:
                return None if name in _CASTS else _short(dtype)
            if dtype is torch.int64 and name not in _CASTS:
                base = name.partition("::")[2].partition(".")[0]
                return "int64" if base in _INT64 else None
            return None
    return None


def _short(dtype: torch.dtype) -> str:
    return str(dtype).partition(".")[2]
