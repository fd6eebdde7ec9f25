"""Kernels for torch's own operators that the CPU does not compute just so."""

from __future__ import annotations

from typing import Any, Callable

from mx_autopatch.softnpu.aten import copies, normalisation, products, recurrent, sequences
from mx_autopatch.softnpu.aten.native import NATIVE
from mx_autopatch.softnpu.kernels import Kernel, refused

__all__ = ["FUNCTIONS", "NATIVE", "SPECIAL"]

_REFUSED = {
    "aten::_scaled_grouped_mm": "its operands are float8, and the CPU has no such product",
    "aten::_scaled_grouped_mm_v2": "its operands are float8, and the CPU has no such product",
    "aten::quantize_per_channel": "its result has a dtype that torch_npu has not",
    "aten::quantize_per_tensor": "its result has a dtype that torch_npu has not",
    "aten::to_padded_tensor": "it is for nested tensors, and torch_npu has none",
}

#: Name to a kernel: it is called with the tensors of the device.
SPECIAL: dict[str, Kernel] = {
    **copies.KERNELS,
    **sequences.KERNELS,
    **{name: refused(name, why) for name, why in _REFUSED.items()},
}

#: Name to a function that computes an operator on CPU tensors, where the CPU has no kernel.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **normalisation.FUNCTIONS,
    **products.FUNCTIONS,
    **recurrent.FUNCTIONS,
}
