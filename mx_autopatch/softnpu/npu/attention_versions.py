"""Versions 2 and 3 of ``npu_fusion_attention``.

The second has rotary parts of query and key in tensors of their own, and a choice of when
the position bias is added; the third takes lengths, seed and offset as tensors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mx_autopatch.softnpu.npu.attention import (
    FAR,
    Lengths,
    Settings,
    backward,
    checked,
    draws,
    dropped,
    forward,
)
from mx_autopatch.softnpu.npu.reference import narrowed, reference, unsupported, vjp

__all__: list[str] = []


def _bias_first(operator: str, pse_type: int) -> bool:
    if pse_type not in (0, 1):
        unsupported(operator, f"pse_type {pse_type}")
    return pse_type == 1


def _whole(tensor: Tensor, rope: Tensor | None, layout: str, heads: int) -> Tensor:
    """A tensor with its rotary part behind it, head by head."""
    if rope is None:
        return tensor
    if layout in ("BSH", "SBH"):
        parts = [t.unflatten(2, (heads, -1)) for t in (tensor, rope)]
        return torch.cat(parts, -1).flatten(2)
    return torch.cat((tensor, rope), -1)


@reference("npu_fusion_attention_v2", random=draws)
def npu_fusion_attention_v2(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    head_num: int,
    input_layout: str,
    *,
    pse: Tensor | None = None,
    padding_mask: Tensor | None = None,
    atten_mask: Tensor | None = None,
    query_rope: Tensor | None = None,
    key_rope: Tensor | None = None,
    scale: float = 1.0,
    keep_prob: float = 1.0,
    pre_tokens: int = FAR,
    next_tokens: int = FAR,
    inner_precise: int = 0,
    prefix: Lengths = None,
    actual_seq_qlen: Lengths = None,
    actual_seq_kvlen: Lengths = None,
    sparse_mode: int = 0,
    gen_mask_parallel: bool = True,
    sync: bool = False,
    pse_type: int = 1,
    q_start_idx: Lengths = None,
    kv_start_idx: Lengths = None,
    softmax_layout: str = "",
    sink: Tensor | None = None,
    dropout_mask: Tensor | None = None,
    seed: int = 0,
    offset: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, int, int, int]:
    """As the first version.

    Args:
        pse_type: 1 to add the bias before logits are scaled, 0 to add it after.
        query_rope, key_rope: More columns of query and key, with as many heads.
    """
    checked("npu_fusion_attention_v2", padding_mask, sink)
    key_heads = _rope_heads(query, key, head_num, input_layout)
    q = _whole(query, query_rope, input_layout, head_num)
    k = _whole(key, key_rope, input_layout, key_heads)
    settings = Settings(
        *("npu_fusion_attention_v2", head_num, input_layout, scale, atten_mask, keep_prob),
        *(pre_tokens, next_tokens, prefix, actual_seq_qlen, actual_seq_kvlen, sparse_mode),
        *(_bias_first("npu_fusion_attention_v2", pse_type), softmax_layout),
    )
    settings, seed, offset, count = dropped(settings, q, k, dropout_mask, seed, offset)
    out, highest, total = forward(q, k, value, pse, settings)
    return out, highest, total, query.new_empty(0), seed, offset, count


def _rope_heads(query: Tensor, key: Tensor, heads: int, layout: str) -> int:
    return key.size(2) * heads // query.size(2) if layout in ("BSH", "SBH") else heads


@reference("npu_fusion_attention_grad_v2")
def npu_fusion_attention_grad_v2(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dy: Tensor,
    head_num: int,
    input_layout: str,
    *,
    pse: Tensor | None = None,
    padding_mask: Tensor | None = None,
    atten_mask: Tensor | None = None,
    softmax_max: Tensor | None = None,
    softmax_sum: Tensor | None = None,
    softmax_in: Tensor | None = None,
    attention_in: Tensor | None = None,
    query_rope: Tensor | None = None,
    key_rope: Tensor | None = None,
    scale_value: float = 1.0,
    keep_prob: float = 1.0,
    pre_tokens: int = FAR,
    next_tokens: int = FAR,
    inner_precise: int = 0,
    seed: int = 0,
    offset: int = 0,
    numels: int = 0,
    prefix: Lengths = None,
    actual_seq_qlen: Lengths = None,
    actual_seq_kvlen: Lengths = None,
    sparse_mode: int = 0,
    gen_mask_parallel: bool = True,
    sync: bool = False,
    pse_type: int = 1,
    q_start_idx: Lengths = None,
    kv_start_idx: Lengths = None,
    softmax_layout: str = "",
    sink: Tensor | None = None,
) -> tuple[Any, ...]:
    """Gradients of query, key, value, pse, query_rope, key_rope and sink."""
    operator = "npu_fusion_attention_grad_v2"
    checked(operator, padding_mask, sink)
    key_heads = _rope_heads(query, key, head_num, input_layout)
    settings = Settings(
        *(operator, head_num, input_layout, scale_value, atten_mask, keep_prob, pre_tokens),
        *(next_tokens, prefix, actual_seq_qlen, actual_seq_kvlen, sparse_mode),
        *(_bias_first(operator, pse_type),),
    )
    nothing = torch.empty(0, device=query.device)
    if query_rope is None or key_rope is None:
        found = backward(query, key, value, pse, dy, settings, seed, offset)
        return (*found, None, None, nothing)

    def whole(q: Tensor, k: Tensor, q_rope: Tensor, k_rope: Tensor) -> tuple[Tensor, Tensor]:
        return (
            _whole(q, q_rope, input_layout, head_num),
            _whole(k, k_rope, input_layout, key_heads),
        )

    parts = [query, key, query_rope, key_rope]
    q, k = whole(*parts)
    dq, dk, dv, dpse = backward(q, k, value, pse, dy, settings, seed, offset)
    found = narrowed(vjp(whole, parts, [dq, dk]), parts)
    return (found[0], found[1], dv, dpse, found[2], found[3], nothing)


def _lengths(ends: Tensor | None) -> Lengths:
    return None if ends is None else [int(end) for end in ends]


@reference("npu_fusion_attention_v3", random=draws)
def npu_fusion_attention_v3(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    head_num: int,
    input_layout: str,
    pse: Tensor | None = None,
    padding_mask: Tensor | None = None,
    atten_mask: Tensor | None = None,
    scale: float = 1.0,
    keep_prob: float = 1.0,
    pre_tockens: int = FAR,
    next_tockens: int = FAR,
    inner_precise: int = 0,
    prefix: Lengths = None,
    actual_seq_qlen: Tensor | None = None,
    actual_seq_kvlen: Tensor | None = None,
    sparse_mode: int = 0,
    gen_mask_parallel: bool = True,
    sync: bool = False,
    softmax_layout: str = "",
    sink: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """As the first version; seed and offset are int64 tensors of one element."""
    checked("npu_fusion_attention_v3", padding_mask, sink)
    settings = Settings(
        *("npu_fusion_attention_v3", head_num, input_layout, scale, atten_mask, keep_prob),
        *(pre_tockens, next_tockens, prefix),
        *(_lengths(actual_seq_qlen), _lengths(actual_seq_kvlen), sparse_mode),
        softmax_layout=softmax_layout,
    )
    settings, seed, offset, _ = dropped(settings, query, key, None, 0, 0)
    out, highest, total = forward(query, key, value, pse, settings)
    states = [torch.tensor([n], device=query.device) for n in (seed, offset)]
    return out, highest, total, query.new_empty(0), states[0], states[1]


@reference("npu_fusion_attention_grad_v3")
def npu_fusion_attention_grad_v3(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dy: Tensor,
    head_num: int,
    input_layout: str,
    *,
    pse: Tensor | None = None,
    padding_mask: Tensor | None = None,
    atten_mask: Tensor | None = None,
    softmax_max: Tensor | None = None,
    softmax_sum: Tensor | None = None,
    softmax_in: Tensor | None = None,
    attention_in: Tensor | None = None,
    scale_value: float = 1.0,
    keep_prob: float = 1.0,
    pre_tockens: int = FAR,
    next_tockens: int = FAR,
    inner_precise: int = 0,
    seed: Tensor | None = None,
    offset: Tensor | None = None,
    prefix: Lengths = None,
    actual_seq_qlen: Tensor | None = None,
    actual_seq_kvlen: Tensor | None = None,
    sparse_mode: int = 0,
    gen_mask_parallel: bool = True,
    sync: bool = False,
    softmax_layout: str = "",
    sink: Tensor | None = None,
) -> tuple[Any, ...]:
    """Gradients of query, key, value, pse and sink; empty for what there is not."""
    operator = "npu_fusion_attention_grad_v3"
    checked(operator, padding_mask, sink)
    settings = Settings(
        *(operator, head_num, input_layout, scale_value, atten_mask, keep_prob, pre_tockens),
        *(next_tockens, prefix, _lengths(actual_seq_qlen), _lengths(actual_seq_kvlen)),
        *(sparse_mode,),
    )
    states = [0 if state is None else int(state) for state in (seed, offset)]
    found = backward(query, key, value, pse, dy, settings, *states)
    nothing = torch.empty(0, dtype=query.dtype, device=query.device)
    return (*found[:3], nothing if pse is None else found[3], nothing.float())
