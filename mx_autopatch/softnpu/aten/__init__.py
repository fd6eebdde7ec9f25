"""Kernels for torch's own operators that the CPU does not compute just so."""

from __future__ import annotations

from mx_autopatch.softnpu.aten import copies
from mx_autopatch.softnpu.aten.native import NATIVE

__all__ = ["NATIVE", "SPECIAL"]

SPECIAL = {**copies.KERNELS}
