"""Predefined patches for torch."""

from __future__ import annotations

from mx_autopatch.patcher._predefined import FUNCTIONS, BatchMatmul, NpuFusedAdamwStep, TensorIndex

__all__ = ["BatchMatmul", "NpuFusedAdamwStep", "TensorIndex", "batch_matmul", "index"]

index = FUNCTIONS["index"]
batch_matmul = FUNCTIONS["batch_matmul"]
