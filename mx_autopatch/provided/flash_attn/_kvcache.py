"""Attention on keys and values kept from earlier tokens, for inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._dense import Lengths, attend
from ._form import check_heads, check_shape, check_tensors, make_form
from .rotary import apply_rotary

__all__ = ["flash_attn_with_kvcache"]

_FUNCTION = "flash_attn_with_kvcache"


@torch.no_grad()
def flash_attn_with_kvcache(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    rotary_cos: Tensor | None = None,
    rotary_sin: Tensor | None = None,
    cache_seqlens: int | Tensor | None = None,
    cache_batch_idx: Tensor | None = None,
    cache_leftpad: Tensor | None = None,
    block_table: Tensor | None = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int] = (-1, -1),
    softcap: float = 0.0,
    rotary_interleaved: bool = True,
    alibi_slopes: Tensor | None = None,
    num_splits: int = 0,
    return_softmax_lse: bool = False,
) -> Any:
    """Attention to a cache, after ``k`` and ``v`` have been written to it, without gradients.

    Args:
        q: (batch, Sq, heads, width).
        k_cache, v_cache: (cached batch, S, key heads, width); or (blocks, block size, key
            heads, width) if there is a ``block_table``.
        k, v: (batch, new, key heads, width), written in place from ``cache_seqlens`` on.
        rotary_cos, rotary_sin: (positions, half of the rotated width). Keys are turned as
            their positions say, so are queries if ``causal`` or in a window; else all
            queries as position ``cache_seqlens`` says. Needs ``k`` and ``v``.
        cache_seqlens: How many entries of the cache are in use, for all or (batch,) int32;
            all of them if None.
        cache_batch_idx: (batch,), the row of the cache that belongs to a sequence.
        cache_leftpad: (batch,), the first entry that counts.
        block_table: (batch, blocks of a sequence), int32.

    Returns:
        (batch, Sq, heads, width); with ``return_softmax_lse`` also the logarithms of sums of
        exponentials, float32 (batch, heads, Sq).
    """
    check_tensors(_FUNCTION, 4, q=q, k_cache=k_cache, v_cache=v_cache)
    check_heads(_FUNCTION, q, k_cache, v_cache)
    if (k is None) != (v is None):
        missing = "k" if k is None else "v"
        raise ValueError(f"{_FUNCTION}: {missing}: expected a tensor, as the other is given")
    if rotary_cos is not None and (k is None or rotary_sin is None or cache_leftpad is not None):
        raise NotImplementedError(
            f"{_FUNCTION}: rotary_cos: {tuple(rotary_cos.shape)} is supported with k, v and "
            "rotary_sin, and without cache_leftpad"
        )
    batch = q.size(0)
    places, size = _places(q, k_cache, cache_batch_idx, block_table)
    used = _used(cache_seqlens, batch, size if k is None else None, q.device)
    if rotary_cos is not None and rotary_sin is not None:
        assert k is not None
        local = causal or tuple(window_size) != (-1, -1)
        q = apply_rotary(
            *(q, rotary_cos, rotary_sin, rotary_interleaved),
            positions=_positions(used, q.size(1) if local else 1),
        )
        positions = _positions(used, k.size(1))
        k = apply_rotary(k, rotary_cos, rotary_sin, rotary_interleaved, positions=positions)
    if k is not None and v is not None:
        check_tensors(_FUNCTION, 4, q=q, k=k, v=v)
        check_shape(_FUNCTION, "k", k, (batch, k.size(1), *k_cache.shape[2:]))
        check_shape(_FUNCTION, "v", v, tuple(k.shape))
        at = _positions(used, k.size(1))
        used = used + k.size(1)
        if batch and int(used.max()) > size:
            raise ValueError(
                f"{_FUNCTION}: k: {k.size(1)} new keys do not fit into a cache of {size} of "
                f"which {(used - k.size(1)).tolist()} are in use"
            )
        rows, columns = (part.gather(1, at) for part in places)
        k_cache[rows, columns], v_cache[rows, columns] = k, v
    form = make_form(
        *(_FUNCTION, q),
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        alibi_slopes=alibi_slopes,
    )
    first = None if cache_leftpad is None else cache_leftpad.to(q.device)
    lengths = Lengths(torch.full_like(used, q.size(1)), used, first)
    keys, values = k_cache[places], v_cache[places]
    out, logarithms, _ = attend(q, keys, values, form, lengths, return_softmax_lse)
    return (out, logarithms) if return_softmax_lse else out


def _positions(used: Tensor, count: int) -> Tensor:
    """(batch, count), the next places after those in use."""
    return used.view(-1, 1) + torch.arange(count, device=used.device)


def _used(given: Any, batch: int, everything: int | None, device: torch.device) -> Tensor:
    if given is None:
        if everything is None:
            raise ValueError(f"{_FUNCTION}: cache_seqlens: needed to know where k goes, got None")
        given = everything
    if isinstance(given, int):
        return torch.full((batch,), given, dtype=torch.int64, device=device)
    check_shape(_FUNCTION, "cache_seqlens", given, (batch,))
    return torch.as_tensor(given, dtype=torch.int64, device=device)


def _places(
    q: Tensor, cache: Tensor, rows: Tensor | None, table: Tensor | None
) -> tuple[tuple[Tensor, Tensor], int]:
    """Row and column of the cache, (batch, S), for each position of each sequence; S."""
    batch, device = q.size(0), q.device
    if table is None:
        size = cache.size(1)
        if rows is None and batch > cache.size(0):
            raise ValueError(f"{_FUNCTION}: k_cache: expected {batch} rows, got {cache.size(0)}")
        row = torch.arange(batch, device=device) if rows is None else rows.to(device).long()
        column = torch.arange(size, device=device)
        shape = (batch, size)
        return (row.view(-1, 1).expand(shape), column.expand(shape)), size
    if rows is not None:
        raise NotImplementedError(
            f"{_FUNCTION}: cache_batch_idx: not supported together with block_table, "
            f"got {rows.tolist()}"
        )
    block = cache.size(1)
    check_shape(_FUNCTION, "block_table", table, (batch, *table.shape[1:]))
    row = table.to(device).long().repeat_interleave(block, 1)
    column = torch.arange(block, device=device).repeat(table.size(1))
    return (row, column.expand(row.shape)), row.size(1)
