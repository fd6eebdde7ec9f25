"""Attention for inference, of whole prompts or one new token, in one operator."""

from __future__ import annotations

import torch
from torch import Tensor

from mx_autopatch.softnpu.npu.attention import FAR, Lengths
from mx_autopatch.softnpu.npu.attention_infer import attend, row_mask
from mx_autopatch.softnpu.npu.reference import reference, without

__all__: list[str] = []


@reference("npu_fused_infer_attention_score")
def npu_fused_infer_attention_score(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    pse_shift: Tensor | None = None,
    atten_mask: Tensor | None = None,
    actual_seq_lengths: Lengths = None,
    actual_seq_lengths_kv: Lengths = None,
    dequant_scale1: Tensor | None = None,
    quant_scale1: Tensor | None = None,
    dequant_scale2: Tensor | None = None,
    quant_scale2: Tensor | None = None,
    quant_offset2: Tensor | None = None,
    antiquant_scale: Tensor | None = None,
    antiquant_offset: Tensor | None = None,
    key_antiquant_scale: Tensor | None = None,
    key_antiquant_offset: Tensor | None = None,
    value_antiquant_scale: Tensor | None = None,
    value_antiquant_offset: Tensor | None = None,
    block_table: Tensor | None = None,
    query_padding_size: Tensor | None = None,
    kv_padding_size: Tensor | None = None,
    key_shared_prefix: Tensor | None = None,
    value_shared_prefix: Tensor | None = None,
    actual_shared_prefix_len: Lengths = None,
    query_rope: Tensor | None = None,
    key_rope: Tensor | None = None,
    key_rope_antiquant_scale: Tensor | None = None,
    num_heads: int = 1,
    scale: float = 1.0,
    pre_tokens: int = FAR,
    next_tokens: int = FAR,
    input_layout: str = "BSH",
    num_key_value_heads: int = 0,
    sparse_mode: int = 0,
    inner_precise: int = 0,
    block_size: int = 0,
    antiquant_mode: int = 0,
    key_antiquant_mode: int = 0,
    value_antiquant_mode: int = 0,
    softmax_lse_flag: bool = False,
) -> tuple[Tensor, Tensor]:
    """Attention for whole sequences, or for one new token of each.

    Returns:
        The result in the layout of the query, and, if ``softmax_lse_flag``, the logarithm
        of the sum of exponentials, float32 ``(B, N, Sq, 1)``, of TND ``(T, N, 1)``; else an
        empty tensor (a zero says the documentation, but torch_npu allocates nothing).
    """
    operator = "npu_fused_infer_attention_score"
    without(operator, dequant_scale1=dequant_scale1, quant_scale1=quant_scale1)
    without(operator, dequant_scale2=dequant_scale2, quant_scale2=quant_scale2)
    without(operator, quant_offset2=quant_offset2, antiquant_scale=antiquant_scale)
    without(operator, antiquant_offset=antiquant_offset, block_table=block_table)
    without(operator, key_antiquant_scale=key_antiquant_scale, kv_padding_size=kv_padding_size)
    without(operator, key_antiquant_offset=key_antiquant_offset, query_rope=query_rope)
    without(operator, value_antiquant_scale=value_antiquant_scale, key_rope=key_rope)
    without(operator, value_antiquant_offset=value_antiquant_offset)
    without(operator, query_padding_size=query_padding_size, key_shared_prefix=key_shared_prefix)
    without(operator, value_shared_prefix=value_shared_prefix)
    without(operator, actual_shared_prefix_len=actual_shared_prefix_len)
    without(operator, key_rope_antiquant_scale=key_rope_antiquant_scale)
    single = query.size({"BNSD": 2}.get(input_layout, 1)) == 1 and input_layout != "TND"
    out, lse = attend(
        *(operator, (query, key, value), input_layout, num_heads, num_key_value_heads),
        *(scale, row_mask(atten_mask) if single else atten_mask, pse_shift),
        *(None if single else actual_seq_lengths, actual_seq_lengths_kv),
        *((pre_tokens, next_tokens), 0 if single else sparse_mode),
    )
    if not softmax_lse_flag:
        return out, torch.empty(0, device=query.device)
    return out, lse.squeeze(0).transpose(0, 1).contiguous() if input_layout == "TND" else lse


@reference("npu_fused_infer_attention_score_v2")
def npu_fused_infer_attention_score_v2(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    query_rope: Tensor | None = None,
    key_rope: Tensor | None = None,
    pse_shift: Tensor | None = None,
    atten_mask: Tensor | None = None,
    actual_seq_qlen: Lengths = None,
    actual_seq_kvlen: Lengths = None,
    block_table: Tensor | None = None,
    dequant_scale_query: Tensor | None = None,
    dequant_scale_key: Tensor | None = None,
    dequant_offset_key: Tensor | None = None,
    dequant_scale_value: Tensor | None = None,
    dequant_offset_value: Tensor | None = None,
    dequant_scale_key_rope: Tensor | None = None,
    quant_scale_out: Tensor | None = None,
    quant_offset_out: Tensor | None = None,
    quant_scale_p: Tensor | None = None,
    learnable_sink: Tensor | None = None,
    num_query_heads: int = 1,
    num_key_value_heads: int = 0,
    softmax_scale: float = 1.0,
    pre_tokens: int = FAR,
    next_tokens: int = FAR,
    input_layout: str = "BSH",
    sparse_mode: int = 0,
    block_size: int = 0,
    query_quant_mode: int = 0,
    key_quant_mode: int = 0,
    value_quant_mode: int = 0,
    inner_precise: int = 0,
    return_softmax_lse: bool = False,
    query_dtype: int | None = None,
    key_dtype: int | None = None,
    value_dtype: int | None = None,
    query_rope_dtype: int | None = None,
    key_rope_dtype: int | None = None,
    key_shared_prefix_dtype: int | None = None,
    value_shared_prefix_dtype: int | None = None,
    dequant_scale_query_dtype: int | None = None,
    dequant_scale_key_dtype: int | None = None,
    dequant_scale_value_dtype: int | None = None,
    dequant_scale_key_rope_dtype: int | None = None,
    out_dtype: int | None = None,
) -> tuple[Tensor, Tensor]:
    """As the first version, under other names."""
    operator = "npu_fused_infer_attention_score_v2"
    without(operator, block_table=block_table, learnable_sink=learnable_sink)
    without(operator, dequant_scale_query=dequant_scale_query, out_dtype=out_dtype)
    without(operator, dequant_scale_key=dequant_scale_key, quant_scale_out=quant_scale_out)
    without(operator, dequant_scale_value=dequant_scale_value, quant_scale_p=quant_scale_p)
    without(operator, query_rope=query_rope, key_rope=key_rope)
    return npu_fused_infer_attention_score(
        *(query, key, value),
        pse_shift=pse_shift,
        atten_mask=atten_mask,
        actual_seq_lengths=actual_seq_qlen,
        actual_seq_lengths_kv=actual_seq_kvlen,
        num_heads=num_query_heads,
        scale=softmax_scale,
        pre_tokens=pre_tokens,
        next_tokens=next_tokens,
        input_layout=input_layout,
        num_key_value_heads=num_key_value_heads,
        sparse_mode=sparse_mode,
        softmax_lse_flag=return_softmax_lse,
    )
