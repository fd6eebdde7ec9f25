"""The attention modules of flash-attn 2 that have no weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ._dense import Lengths, attend
from ._form import check_heads, check_tensors, make_form
from .flash_attn_interface import (
    flash_attn_kvpacked_func,
    flash_attn_qkvpacked_func,
    flash_attn_varlen_kvpacked_func,
    flash_attn_varlen_qkvpacked_func,
)

__all__ = [
    "CrossAttention",
    "FlashCrossAttention",
    "FlashSelfAttention",
    "SelfAttention",
    "get_alibi_slopes",
]


def get_alibi_slopes(nheads: int) -> list[float]:
    """ALiBi's slopes (Press et al. 2021): powers of ``2 ** (-8 / n)`` for n a power of two.

    For other numbers, those of the next smaller power, then every other of the next larger.
    """
    power = 1 << (nheads.bit_length() - 1)
    slopes = [2.0 ** (-8 * (i + 1) / power) for i in range(power)]
    if power < nheads:
        slopes += get_alibi_slopes(2 * power)[0::2][: nheads - power]
    return slopes


class _Flash(nn.Module):
    """What both flash modules are made of."""

    alibi_slopes: Tensor | None

    def __init__(
        self,
        causal: bool = False,
        softmax_scale: float | None = None,
        attention_dropout: float = 0.0,
        window_size: tuple[int, int] = (-1, -1),
        alibi_slopes: Tensor | None = None,
        deterministic: bool = False,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.softmax_scale = softmax_scale
        self.drop = nn.Dropout(attention_dropout)
        self.register_buffer("alibi_slopes", alibi_slopes, persistent=False)
        self.window_size = window_size
        self.deterministic = deterministic

    def _options(self, causal: bool | None) -> dict[str, Any]:
        slopes = self.alibi_slopes
        return {
            "dropout_p": self.drop.p if self.training else 0.0,
            "softmax_scale": self.softmax_scale,
            "causal": self.causal if causal is None else causal,
            "window_size": self.window_size,
            "alibi_slopes": None if slopes is None else slopes.float(),
            "deterministic": self.deterministic,
        }


class FlashSelfAttention(_Flash):
    """``flash_attn_qkvpacked_func``, or its variable-length form, with these settings."""

    def forward(
        self,
        qkv: Tensor,
        causal: bool | None = None,
        cu_seqlens: Tensor | None = None,
        max_seqlen: int | None = None,
    ) -> Any:
        """(batch, S, 3, heads, width) or, with ``cu_seqlens``, (tokens, 3, heads, width)."""
        options = self._options(causal)
        if cu_seqlens is None:
            return flash_attn_qkvpacked_func(qkv, **options)
        return flash_attn_varlen_qkvpacked_func(qkv, cu_seqlens, max_seqlen or 0, **options)


class FlashCrossAttention(_Flash):
    """``flash_attn_kvpacked_func``, or its variable-length form, with these settings."""

    def __init__(
        self,
        causal: bool = False,
        softmax_scale: float | None = None,
        attention_dropout: float = 0.0,
        alibi_slopes: Tensor | None = None,
        window_size: tuple[int, int] = (-1, -1),
        deterministic: bool = False,
    ) -> None:
        # The order of upstream, which is another one here.
        super().__init__(
            causal, softmax_scale, attention_dropout, window_size, alibi_slopes, deterministic
        )

    def forward(
        self,
        q: Tensor,
        kv: Tensor,
        causal: bool | None = None,
        cu_seqlens: Tensor | None = None,
        max_seqlen: int | None = None,
        cu_seqlens_k: Tensor | None = None,
        max_seqlen_k: int | None = None,
    ) -> Any:
        """(batch, Sq, heads, width) and (batch, Sk, 2, key heads, width), or tokens."""
        options = self._options(causal)
        if cu_seqlens is None:
            return flash_attn_kvpacked_func(q, kv, **options)
        if cu_seqlens_k is None:
            raise ValueError("FlashCrossAttention: cu_seqlens_k: expected a tensor, got None")
        longest = (max_seqlen or 0, max_seqlen_k or 0)
        return flash_attn_varlen_kvpacked_func(q, kv, cu_seqlens, cu_seqlens_k, *longest, **options)


class CrossAttention(nn.Module):
    """Attention that takes a mask of keys.

    Masked keys count for nothing, where upstream lowers their logits by 10,000, which is
    the same but for queries that see none: those give zeros here.
    """

    #: Whether query i sits at key i, whatever counts.
    aligned = False

    def __init__(
        self,
        causal: bool = False,
        softmax_scale: float | None = None,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.softmax_scale = softmax_scale
        self.drop = nn.Dropout(attention_dropout)

    def forward(
        self,
        q: Tensor,
        kv: Tensor,
        causal: bool | None = None,
        key_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """(batch, Sq, heads, width) of the same and of (batch, Sk, 2, key heads, width).

        Args:
            key_padding_mask: (batch, Sk), True for keys that count. With ``causal``, the
                last query sits at the key whose number is how many count.
        """
        name = type(self).__name__
        check_tensors(name, 5, kv=kv)
        k, v = kv.unbind(2)
        check_tensors(name, 4, q=q, kv=k)
        check_heads(name, q, k, v)
        form = make_form(
            *(name, q),
            dropout_p=self.drop.p if self.training else 0.0,
            softmax_scale=self.softmax_scale,
            causal=self.causal if causal is None else causal,
        )
        lengths = None
        if key_padding_mask is not None:
            keys = key_padding_mask.long().sum(-1)
            queries = keys if self.aligned else torch.full_like(keys, q.size(1))
            lengths = Lengths(queries, keys, counted=key_padding_mask.bool())
        return attend(q, k, v, form, lengths)[0]


class SelfAttention(CrossAttention):
    """``CrossAttention`` of (batch, S, 3, heads, width); query i sits at key i."""

    aligned = True

    def forward(  # type: ignore[override]
        self, qkv: Tensor, causal: bool | None = None, key_padding_mask: Tensor | None = None
    ) -> Tensor:
        check_tensors("SelfAttention", 5, qkv=qkv)
        return super().forward(qkv[:, :, 0], qkv[:, :, 1:], causal, key_padding_mask)
