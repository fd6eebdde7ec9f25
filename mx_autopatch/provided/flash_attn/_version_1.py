"""The functions of flash-attn 1.x, which 2.0 renamed and 2.1 aligned anew.

With ``causal``, query i sees the keys up to i: the mask is aligned to the upper left, where
that of 2.x is aligned to the lower right. The two differ if lengths do.
"""

from __future__ import annotations

from torch import Tensor

from ._calls import Result, behind, unpacked

__all__ = [
    "flash_attn_unpadded_func",
    "flash_attn_unpadded_kvpacked_func",
    "flash_attn_unpadded_qkvpacked_func",
]


def flash_attn_unpadded_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float,
    softmax_scale: float | None = None,
    causal: bool = False,
    return_attn_probs: bool = False,
    deterministic: bool = False,
) -> Result:
    """Attention of sequences behind each other, as ``flash_attn_varlen_func`` of 2.x.

    Of the statistics the logarithms are padded to the longest sequence, (batch, heads, Sq).
    """
    ends = (cu_seqlens_q, cu_seqlens_k)
    return behind(
        *("flash_attn_unpadded_func", q, k, v, ends, return_attn_probs),
        dropout_p=dropout_p,
        softmax_scale=softmax_scale,
        causal=causal,
        upper_left=True,
    )


def flash_attn_unpadded_kvpacked_func(
    q: Tensor,
    kv: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float,
    softmax_scale: float | None = None,
    causal: bool = False,
    return_attn_probs: bool = False,
    deterministic: bool = False,
) -> Result:
    """``flash_attn_unpadded_func`` of ``kv``: (key tokens, 2, heads, width)."""
    function = "flash_attn_unpadded_kvpacked_func"
    k, v = unpacked(function, "kv", kv, 4, 2)
    return behind(
        *(function, q, k, v, (cu_seqlens_q, cu_seqlens_k), return_attn_probs),
        dropout_p=dropout_p,
        softmax_scale=softmax_scale,
        causal=causal,
        upper_left=True,
    )


def flash_attn_unpadded_qkvpacked_func(
    qkv: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    dropout_p: float,
    softmax_scale: float | None = None,
    causal: bool = False,
    return_attn_probs: bool = False,
    deterministic: bool = False,
) -> Result:
    """``flash_attn_unpadded_func`` of ``qkv``: (tokens, 3, heads, width)."""
    function = "flash_attn_unpadded_qkvpacked_func"
    q, k, v = unpacked(function, "qkv", qkv, 4, 3)
    return behind(
        *(function, q, k, v, (cu_seqlens, cu_seqlens), return_attn_probs),
        dropout_p=dropout_p,
        softmax_scale=softmax_scale,
        causal=causal,
        upper_left=True,
    )
