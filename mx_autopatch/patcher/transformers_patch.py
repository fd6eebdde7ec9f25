"""Predefined patches for transformers."""

from __future__ import annotations

from mx_autopatch.patcher._predefined import FlashAttention, FlashAttentionVarlen

__all__ = ["FlashAttention", "FlashAttentionVarlen"]
