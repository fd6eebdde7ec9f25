"""Rotary position embedding (Su et al. 2021, "RoFormer"), as flash_attn.layers.rotary has it."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["apply_rotary", "apply_rotary_emb"]


def apply_rotary(
    x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False, *, positions: Tensor
) -> Tensor:
    """``x`` (batch, S, heads, width) with its first columns turned in pairs.

    Args:
        cos, sin: (positions there are, r); the first 2 r columns are turned.
        interleaved: Pairs are neighbours; else column i goes with column i + r.
        positions: (batch or 1, S or 1), rows of ``cos`` and ``sin``.
    """
    pairs = cos.size(-1)
    c, s = (t[positions].unsqueeze(-2).float() for t in (cos, sin))
    turned, rest = x[..., : 2 * pairs].float(), x[..., 2 * pairs :]
    if interleaved:
        first, second = turned.reshape(*turned.shape[:-1], pairs, 2).unbind(-1)
    else:
        first, second = turned.chunk(2, -1)
    parts = (first * c - second * s, first * s + second * c)
    both = torch.stack(parts, -1).flatten(-2) if interleaved else torch.cat(parts, -1)
    return torch.cat((both.to(x.dtype), rest), -1)


def apply_rotary_emb(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    interleaved: bool = False,
    inplace: bool = False,
    seqlen_offsets: int | Tensor = 0,
    cu_seqlens: Tensor | None = None,
    max_seqlen: int | None = None,
) -> Tensor:
    """``x`` (batch, S, heads, width) turned from position ``seqlen_offsets`` on.

    Args:
        cos, sin: (positions, r) with 2 r at most the width.
        inplace: Write the result into ``x`` too.
        seqlen_offsets: One for all, or (batch,).
        cu_seqlens: Not supported.
    """
    function = "apply_rotary_emb"
    if cu_seqlens is not None:
        raise NotImplementedError(
            f"{function}: cu_seqlens: sequences behind each other are not supported, "
            f"got {cu_seqlens.tolist()}"
        )
    if x.dim() != 4 or cos.shape != sin.shape or cos.dim() != 2 or 2 * cos.size(1) > x.size(-1):
        raise ValueError(
            f"{function}: cos: expected (positions, at most half the width) for x "
            f"{tuple(x.shape)}, got {tuple(cos.shape)} and {tuple(sin.shape)}"
        )
    offsets = torch.as_tensor(seqlen_offsets, device=x.device).long().view(-1, 1)
    positions = offsets + torch.arange(x.size(1), device=x.device)
    turned = apply_rotary(x, cos, sin, interleaved, positions=positions)
    return x.copy_(turned) if inplace else turned
