"""Predefined patches for transformers."""

from __future__ import annotations

from mx_autopatch.patcher._predefined import (
    FlashAttention,
    FlashAttentionVarlen,
    Qwen3RMSNorm,
    Qwen3RoPE,
    QWen3VLNPU,
    TransformersNPU,
)

__all__ = [
    "FlashAttention",
    "FlashAttentionVarlen",
    "QWen3VLNPU",
    "Qwen3RMSNorm",
    "Qwen3RoPE",
    "TransformersNPU",
]
