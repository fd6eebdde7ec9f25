"""Predefined patches for torch_scatter."""

from __future__ import annotations

from mx_autopatch.patcher._predefined import FUNCTIONS, TorchScatter

__all__ = ["TorchScatter", "scatter"]

scatter = FUNCTIONS["scatter"]
