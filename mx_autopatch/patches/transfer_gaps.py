"""Where torch_npu's transfer_to_npu leaves something at CUDA, or replaces too much."""

from __future__ import annotations

import functools
import importlib
import inspect
from typing import Any, Callable

__all__ = ["complete"]

Function = Callable[..., Any]


def complete(torch: Any, transfer: Any) -> None:
    """Rebind in ``torch`` what scripts written for CUDA need beyond ``transfer``, the module."""
    for owner in (torch.Tensor, torch.nn.Module):
        owner.cuda = _by_index(torch, owner.npu)
    torch.Tensor.type = _by_name(torch.Tensor.type)
    # DataParallel has a copy of what transfer_to_npu replaces in torch._utils.
    parallel: Any = importlib.import_module("torch.nn.parallel.data_parallel")
    if hasattr(parallel, "_get_available_device_type"):
        parallel._get_available_device_type = torch._utils._get_available_device_type
    # It replaces "cuda" in every positional string: runs/cuda/last.pth became
    # runs/npu/last.pth, and file:///cuda/meet another meeting place.
    for name in ("load", "from_file"):
        setattr(torch, name, _but_the_first(getattr(torch, name), transfer._wrapper_cuda))
    if torch.distributed.is_available():
        torch.distributed.init_process_group = _by_keyword(torch.distributed.init_process_group)


def _by_index(torch: Any, npu: Function) -> Function:
    """``.cuda(device)`` of a tensor or module; ``.npu`` takes an index, if anything."""

    @functools.wraps(npu)
    def cuda(self: Any, device: Any = None, *args: Any, **kwargs: Any) -> Any:
        if isinstance(device, str):
            device = torch.device(device)
        if isinstance(device, torch.device) and device.type in ("cuda", "npu"):
            device = device.index
        return npu(self, *args, **kwargs) if device is None else npu(self, device, *args, **kwargs)

    return cuda


def _by_name(of_tensor: Function) -> Function:
    """``Tensor.type`` for which "torch.cuda.FloatTensor" is the type of that name."""

    @functools.wraps(of_tensor)
    def type(self: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if isinstance(dtype, str):
            dtype = dtype.replace("torch.cuda.", "torch.npu.")
        return of_tensor(self, dtype, *args, **kwargs)

    return type


def _but_the_first(function: Function, replacing: Callable[[Function], Function]) -> Function:
    """``function`` with ``cuda`` replaced in all arguments but the first, a file's path."""
    original: Function = getattr(function, "__wrapped__", function)

    @functools.wraps(original)
    def with_file(*args: Any, **kwargs: Any) -> Any:
        @functools.wraps(original)
        def rest(*others: Any, **more: Any) -> Any:
            return original(*args[:1], *others, **more)

        return replacing(rest)(*args[1:], **kwargs)

    return with_file


def _by_keyword(function: Function) -> Function:
    """Pass everything by keyword, of which only backend and device are looked at."""
    signature = inspect.signature(function)
    if any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values()):
        return function  # a wrapper that hides the names

    @functools.wraps(function)
    def init_process_group(*args: Any, **kwargs: Any) -> Any:
        return function(**signature.bind(*args, **kwargs).arguments)

    return init_process_group
