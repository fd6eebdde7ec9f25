"""The modules of flash-attn 1.x."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ._version_1 import flash_attn_unpadded_qkvpacked_func
from .bert_padding import index_put_first_axis, unpad_input
from .flash_attn_interface import flash_attn_qkvpacked_func

__all__ = ["FlashAttention", "FlashMHA"]


class FlashAttention(nn.Module):
    """Attention of packed queries, keys and values, without parameters.

    Args:
        softmax_scale: ``width ** -0.5`` if None.
        attention_dropout: Probability of dropout, in training only.
    """

    def __init__(self, softmax_scale: float | None = None, attention_dropout: float = 0.0) -> None:
        super().__init__()
        self.softmax_scale = softmax_scale
        self.dropout_p = attention_dropout

    def forward(
        self,
        qkv: Tensor,
        key_padding_mask: Tensor | None = None,
        causal: bool = False,
        cu_seqlens: Tensor | None = None,
        max_s: int | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, None]:
        """The result, and None for the weights, which cannot be asked for.

        Args:
            qkv: (batch, S, 3, heads, width), or (tokens, 3, heads, width) with ``cu_seqlens``.
            key_padding_mask: (batch, S), True for tokens that count; others give zeros.
            cu_seqlens: (batch + 1,) int32, 0 and the ends of the sequences.
        """
        if need_weights:
            raise NotImplementedError("FlashAttention: need_weights: expected False, got True")
        options: dict[str, Any] = {
            "dropout_p": self.dropout_p if self.training else 0.0,
            "softmax_scale": self.softmax_scale,
            "causal": causal,
        }
        if cu_seqlens is not None:
            longest = 0 if max_s is None else max_s
            out = flash_attn_unpadded_qkvpacked_func(qkv, cu_seqlens, longest, **options)
        elif key_padding_mask is None:
            out = flash_attn_qkvpacked_func(qkv, **options)
        else:
            batch, length = qkv.shape[:2]
            tokens, indices, ends, longest = unpad_input(qkv, key_padding_mask)
            found = flash_attn_unpadded_qkvpacked_func(tokens, ends, longest, **options)
            assert isinstance(found, Tensor)
            out = index_put_first_axis(found, indices, batch * length)
            out = out.view(batch, length, *out.shape[1:])
        assert isinstance(out, Tensor)
        return out, None


class FlashMHA(nn.Module):
    """Multi-head self-attention with its projections, ``Wqkv`` and ``out_proj``."""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        bias: bool = True,
        batch_first: bool = True,
        attention_dropout: float = 0.0,
        causal: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not batch_first:
            raise NotImplementedError("FlashMHA: batch_first: expected True, got False")
        if embed_dim % num_heads:
            raise ValueError(
                f"FlashMHA: num_heads: expected a divisor of embed_dim {embed_dim}, got {num_heads}"
            )
        super().__init__()
        self.embed_dim = embed_dim
        self.causal = causal
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.Wqkv = nn.Linear(embed_dim, 3 * embed_dim, bias=bias, device=device, dtype=dtype)
        self.inner_attn = FlashAttention(attention_dropout=attention_dropout)
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias, device=device, dtype=dtype)

    def forward(
        self, x: Tensor, key_padding_mask: Tensor | None = None, need_weights: bool = False
    ) -> tuple[Tensor, None]:
        """(batch, S, embed_dim) of the same, and None; arguments as ``FlashAttention``."""
        qkv = self.Wqkv(x).unflatten(-1, (3, self.num_heads, self.head_dim))
        out, weights = self.inner_attn(
            qkv, key_padding_mask=key_padding_mask, causal=self.causal, need_weights=need_weights
        )
        return self.out_proj(out.flatten(2)), weights
