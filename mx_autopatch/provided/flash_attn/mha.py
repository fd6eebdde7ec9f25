"""The modules of flash-attn 2, as flash_attn.modules.mha has them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ._inner import (
    CrossAttention,
    FlashCrossAttention,
    FlashSelfAttention,
    SelfAttention,
    get_alibi_slopes,
)

__all__ = [
    "MHA",
    "CrossAttention",
    "FlashCrossAttention",
    "FlashSelfAttention",
    "SelfAttention",
    "get_alibi_slopes",
]


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
