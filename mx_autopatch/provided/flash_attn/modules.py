"""The attention modules of flash-attn 2, as flash_attn.modules.mha has them."""

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
    "MHA",
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


class MHA(nn.Module):
    """Multi-head attention with its projections.

    Self-attention has ``Wqkv``, cross-attention ``Wq`` and ``Wkv``; both have ``out_proj``.
    Rotary embedding, depthwise convolution and caches for generation are not supported.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_heads_kv: int | None = None,
        cross_attn: bool = False,
        qkv_proj_bias: bool = True,
        out_proj_bias: bool = True,
        dropout: float = 0.0,
        softmax_scale: float | None = None,
        causal: bool = False,
        layer_idx: int | None = None,
        dwconv: bool = False,
        rotary_emb_dim: int = 0,
        rotary_emb_base: float = 10000.0,
        rotary_emb_scale_base: float | None = None,
        rotary_emb_interleaved: bool = False,
        use_alibi: bool = False,
        window_size: tuple[int, int] = (-1, -1),
        fused_bias_fc: bool = False,
        use_flash_attn: bool = False,
        return_residual: bool = False,
        checkpointing: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        unsupported = {"dwconv": dwconv, "rotary_emb_dim": rotary_emb_dim}
        for name, value in unsupported.items():
            if value:
                raise NotImplementedError(f"MHA: {name}: not supported, got {value!r}")
        if (use_alibi or tuple(window_size) != (-1, -1)) and not use_flash_attn:
            raise ValueError("MHA: use_flash_attn: needed for use_alibi and window_size, got False")
        kv_heads = num_heads if num_heads_kv is None else num_heads_kv
        if embed_dim % num_heads or num_heads % kv_heads:
            raise ValueError(
                f"MHA: num_heads: expected a divisor of embed_dim {embed_dim} and a multiple of "
                f"num_heads_kv {kv_heads}, got {num_heads}"
            )
        super().__init__()
        self.embed_dim, self.cross_attn, self.causal = embed_dim, cross_attn, causal
        self.layer_idx = layer_idx
        self.use_flash_attn = use_flash_attn
        self.return_residual, self.checkpointing = return_residual, checkpointing
        self.num_heads, self.num_heads_kv = num_heads, kv_heads
        self.head_dim = embed_dim // num_heads
        kv_dim = 2 * self.head_dim * kv_heads
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        if cross_attn:
            self.Wq = nn.Linear(embed_dim, embed_dim, bias=qkv_proj_bias, **made)
            self.Wkv = nn.Linear(embed_dim, kv_dim, bias=qkv_proj_bias, **made)
        else:
            self.Wqkv = nn.Linear(embed_dim, embed_dim + kv_dim, bias=qkv_proj_bias, **made)
        settings: dict[str, Any] = {
            "causal": causal,
            "softmax_scale": softmax_scale,
            "attention_dropout": dropout,
        }
        self.inner_attn: nn.Module
        self.inner_cross_attn: nn.Module
        if use_flash_attn:
            slopes = torch.tensor(get_alibi_slopes(num_heads), device=device) if use_alibi else None
            settings.update(alibi_slopes=slopes, window_size=window_size)
            self.inner_attn = FlashSelfAttention(**settings)
            self.inner_cross_attn = FlashCrossAttention(**settings)
        else:
            self.inner_attn = SelfAttention(**settings)
            self.inner_cross_attn = CrossAttention(**settings)
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=out_proj_bias, **made)

    def forward(
        self,
        x: Tensor,
        x_kv: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
        max_seqlen: int | None = None,
        mixer_subset: Any = None,
        inference_params: Any = None,
        **kwargs: Any,
    ) -> Any:
        """(batch, S, embed_dim), or (tokens, embed_dim) with ``cu_seqlens``.

        Args:
            x_kv: What keys and values are made of in cross-attention; ``x`` if None.
            key_padding_mask: (batch, S), True for what counts; without flash attention only.
            cu_seqlens: 0 and the ends of the sequences; with flash attention only.
            mixer_subset: An index of the sequence: in cross-attention, which queries to take.

        Returns:
            As ``x``; with ``return_residual`` also ``x``.
        """
        if inference_params is not None:
            raise NotImplementedError(
                f"MHA: inference_params: caches are not supported, got {inference_params!r}"
            )
        if self.use_flash_attn and key_padding_mask is not None:
            raise ValueError("MHA: key_padding_mask: expected None with use_flash_attn")
        if not self.use_flash_attn and cu_seqlens is not None:
            raise ValueError("MHA: cu_seqlens: expected None without use_flash_attn")
        if self.use_flash_attn:
            kwargs = {"cu_seqlens": cu_seqlens, "max_seqlen": max_seqlen, **kwargs}
        else:
            kwargs = {"key_padding_mask": key_padding_mask, **kwargs}
        width = self.head_dim
        if self.cross_attn:
            q = self.Wq(x if mixer_subset is None else x[:, mixer_subset])
            kv = self.Wkv(x if x_kv is None else x_kv)
        else:
            q, kv = self.Wqkv(x).split((self.embed_dim, 2 * width * self.num_heads_kv), -1)
        q = q.unflatten(-1, (self.num_heads, width))
        kv = kv.unflatten(-1, (2, self.num_heads_kv, width))
        if not self.cross_attn and self.num_heads == self.num_heads_kv:
            qkv = torch.cat((q.unsqueeze(-3), kv), -3)
            context = self._attend(self.inner_attn, qkv, **kwargs)
        else:
            if not self.cross_attn and cu_seqlens is not None:
                kwargs = {"cu_seqlens_k": cu_seqlens, "max_seqlen_k": max_seqlen, **kwargs}
            context = self._attend(self.inner_cross_attn, q, kv, **kwargs)
        out = self.out_proj(context.flatten(-2))
        return (out, x) if self.return_residual else out

    def _attend(self, attention: nn.Module, *tensors: Tensor, **kwargs: Any) -> Any:
        if not self.checkpointing:
            return attention(*tensors, **kwargs)
        from torch.utils.checkpoint import checkpoint

        return checkpoint(attention, *tensors, use_reentrant=False, **kwargs)
