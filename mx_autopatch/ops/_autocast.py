"""The operators under ``torch.autocast``: they compute in the precision of their arguments.

Their kernels are made of torch's operators, and of those autocast would take the matrix
products to half precision, although half precision is to be computed in float32 and
rounded once; what such a product is added to would have another dtype.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

__all__ = ["compute_outside_autocast"]

# Registrations end with the library object that made them.
_library = torch.library.Library("mx_autopatch", "IMPL")

_DEVICES = {"AutocastCPU": "cpu", "AutocastCUDA": "cuda", "AutocastPrivateUse1": ""}


def compute_outside_autocast(names: Iterable[str]) -> None:
    """Switch autocast off round these operators (names without the namespace)."""
    for name in names:
        op = getattr(torch.ops.mx_autopatch, name).default
        for key, device in _DEVICES.items():
            _library.impl(name, _outside(op, device), key)


def _outside(op: Any, device: str) -> Any:
    def kernel(*args: Any) -> Any:
        # Which device PrivateUse1 is may not be known before there are tensors on it.
        with torch.autocast(device or torch._C._get_privateuse1_backend_name(), enabled=False):
            return op(*args)

    return kernel
