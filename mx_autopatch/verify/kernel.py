"""Whose kernel a call was computed by."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any, Callable

import torch

__all__ = ["kernel_of"]

_CALLS = (torch._ops.OpOverload.__call__.__code__, torch._ops.OpOverloadPacket.__call__.__code__)

_NAMESPACES = {"npu.": "torch_npu", "torchvision.": "torchvision"}


def kernel_of(call: Callable[[], object]) -> str:
    """Whose by watching what is called: mx_driving, torch_npu, torchvision or portable.

    Which one a binding takes is decided anew for each call, by its shapes and dtypes.
    """
    seen: set[str] = set()

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        if event != "call":
            return
        module = frame.f_globals.get("__name__") or ""
        if module.partition(".")[0] == "mx_driving":
            seen.add("mx_driving")
        elif frame.f_code in _CALLS:
            # An overload and a packet of them have the name in differently named attributes.
            name = str(next(iter(frame.f_locals.values()), ""))
            seen.update(_NAMESPACES[prefix] for prefix in _NAMESPACES if name.startswith(prefix))

    former = sys.getprofile()
    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(former)
    return min(seen, default="portable")  # what mx_driving itself calls of torch_npu is its own
