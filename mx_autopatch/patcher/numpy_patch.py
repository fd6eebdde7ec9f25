"""Predefined patches for numpy."""

from __future__ import annotations

from mx_autopatch.patcher._predefined import FUNCTIONS, NumpyCompat

__all__ = ["NumpyCompat", "numpy_type"]

numpy_type = FUNCTIONS["numpy_type"]
