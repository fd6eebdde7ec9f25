"""The functions of flash-attn 2, and those of 1.x that were renamed."""

from __future__ import annotations

from torch import Tensor

from ._calls import Result, Window, behind, beside, unpacked
from ._kvcache import flash_attn_with_kvcache
from ._version_1 import (
    flash_attn_unpadded_func,
    flash_attn_unpadded_kvpacked_func,
    flash_attn_unpadded_qkvpacked_func,
)

__all__ = [
    "flash_attn_func",
    "flash_attn_kvpacked_func",
    "flash_attn_qkvpacked_func",
    "flash_attn_unpadded_func",
    "flash_attn_unpadded_kvpacked_func",
    "flash_attn_unpadded_qkvpacked_func",
    "flash_attn_varlen_func",
    "flash_attn_varlen_kvpacked_func",
    "flash_attn_varlen_qkvpacked_func",
    "flash_attn_with_kvcache",
]


def flash_attn_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Window = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Result:
    """``dropout(softmax(q @ k.T * softmax_scale)) @ v``.

    Args:
        q: (batch, Sq, heads, width), floating.
        k, v: (batch, Sk, key heads, width); key heads divide heads, and each serves as many
            neighbouring query heads.
        softmax_scale: ``width ** -0.5`` if None.
        causal: Query i sees the keys up to ``i + Sk - Sq``.
        window_size: How many keys before and after that one a query sees; -1 for all.
        softcap: If positive, logits x become ``softcap * tanh(x / softcap)``.
        alibi_slopes: (heads,) or (batch, heads); slope times distance is taken off logits.
        return_attn_probs: Return statistics too.

    Returns:
        (batch, Sq, heads, width) in the dtype of ``q``; zeros for a query that sees no key.
        With statistics: that, logarithms of the sums of exponentials, float32
        (batch, heads, Sq), and shares (batch, heads, Sq, Sk) before dropout, negative
        where it drops them.
    """
    return beside(
        *("flash_attn_func", q, k, v, return_attn_probs),
        dropout_p=dropout_p,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        alibi_slopes=alibi_slopes,
    )


def flash_attn_kvpacked_func(
    q: Tensor,
    kv: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Window = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Result:
    """``flash_attn_func`` of ``kv``: (batch, Sk, 2, key heads, width)."""
    k, v = unpacked("flash_attn_kvpacked_func", "kv", kv, 5, 2)
    return beside(
        *("flash_attn_kvpacked_func", q, k, v, return_attn_probs),
        dropout_p=dropout_p,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        alibi_slopes=alibi_slopes,
    )


def flash_attn_qkvpacked_func(
    qkv: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Window = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Result:
    """``flash_attn_func`` of ``qkv``: (batch, S, 3, heads, width)."""
    q, k, v = unpacked("flash_attn_qkvpacked_func", "qkv", qkv, 5, 3)
    return beside(
        *("flash_attn_qkvpacked_func", q, k, v, return_attn_probs),
        dropout_p=dropout_p,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        alibi_slopes=alibi_slopes,
    )


def flash_attn_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Window = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    block_table: Tensor | None = None,
) -> Result:
    """``flash_attn_func`` of sequences of different lengths, behind each other.

    Args:
        q: (tokens, heads, width).
        k, v: (key tokens, key heads, width).
        cu_seqlens_q, cu_seqlens_k: (batch + 1,) int32, 0 and the ends of the sequences.
            They are read on the host.
        max_seqlen_q, max_seqlen_k: Not needed; the lengths say it.
        block_table: Not supported.

    Returns:
        (tokens, heads, width), zeros for tokens in no sequence. With statistics:
        logarithms are float32 (heads, tokens in sequences), shares are padded to the
        longest sequences, (batch, heads, Sq, Sk).
    """
    if block_table is not None:
        raise NotImplementedError(
            "flash_attn_varlen_func: block_table: keys in blocks are not supported, "
            f"got a table of shape {tuple(block_table.shape)}"
        )
    return behind(
        *("flash_attn_varlen_func", q, k, v, (cu_seqlens_q, cu_seqlens_k), return_attn_probs),
        dropout_p=dropout_p,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        alibi_slopes=alibi_slopes,
    )


def flash_attn_varlen_kvpacked_func(
    q: Tensor,
    kv: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Window = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Result:
    """``flash_attn_varlen_func`` of ``kv``: (key tokens, 2, key heads, width)."""
    function = "flash_attn_varlen_kvpacked_func"
    k, v = unpacked(function, "kv", kv, 4, 2)
    return behind(
        *(function, q, k, v, (cu_seqlens_q, cu_seqlens_k), return_attn_probs),
        dropout_p=dropout_p,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        alibi_slopes=alibi_slopes,
    )


def flash_attn_varlen_qkvpacked_func(
    qkv: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Window = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Result:
    """``flash_attn_varlen_func`` of ``qkv``: (tokens, 3, heads, width)."""
    function = "flash_attn_varlen_qkvpacked_func"
    q, k, v = unpacked(function, "qkv", qkv, 4, 3)
    return behind(
        *(function, q, k, v, (cu_seqlens, cu_seqlens), return_attn_probs),
        dropout_p=dropout_p,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        alibi_slopes=alibi_slopes,
    )
