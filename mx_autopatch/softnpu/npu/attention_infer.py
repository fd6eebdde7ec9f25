"""Attention for inference, in its plain forms: no quantisation, no paged cache."""

from __future__ import annotations

import torch
from torch import Tensor

from mx_autopatch.softnpu.npu import scaled_dot_product as sdp
from mx_autopatch.softnpu.npu.attention import FAR, Lengths
from mx_autopatch.softnpu.npu.reference import reference, unsupported, without

__all__: list[str] = []


def _spans(lengths: Lengths, batch: int, size: int) -> list[slice]:
    if lengths is None:
        return [slice(0, size)] * batch
    each = list(lengths) * (batch if len(lengths) == 1 else 1)
    return [slice(0, int(length)) for length in each]


def _attend(
    operator: str,
    tensors: tuple[Tensor, Tensor, Tensor],
    layout: str,
    heads: int,
    key_heads: int,
    scale: float,
    mask: Tensor | None,
    bias: Tensor | None,
    query_lengths: Lengths,
    key_lengths: Lengths,
    band: tuple[int, int] = (FAR, FAR),
    sparse_mode: int = 0,
) -> tuple[Tensor, Tensor]:
    """The result in the layout of the query, and the logarithm of each row's sum.

    Rows behind the end of a sequence are zeros.

    Args:
        mask: ``(Sq, Skv)``, ``(B, Sq, Skv)`` or ``(B, 1, Sq, Skv)`` with ones for B; or, by
            ``sparse_mode``, one that stands for a triangle.
        bias: ``(B, N, Sq, Skv)`` or with one for B; added to the scaled logits.
        query_lengths: Of each sequence, or of TND their ends.
    """
    if layout not in ("BSH", "BSND", "BNSD", "TND"):
        unsupported(operator, f"input_layout {layout!r}")
    query, key, value = tensors
    q = sdp.to_heads(query, layout, heads)
    k, v = (sdp.to_heads(t, layout, key_heads or heads) for t in (key, value))
    if layout == "TND":
        if query_lengths is None or key_lengths is None:
            raise RuntimeError(f"{operator}: layout TND needs the ends of all sequences")
        rows_of, columns_of = sdp.segments(query_lengths), sdp.segments(key_lengths)
        places = [0] * len(rows_of)
    else:
        rows_of = _spans(query_lengths, q.size(0), q.size(2))
        columns_of = _spans(key_lengths, q.size(0), k.size(2))
        places = list(range(q.size(0)))
    whole = mask
    if whole is not None and sparse_mode not in sdp.COMPRESSED and whole.dim() < 4:
        whole = whole.unsqueeze(-3)
        whole = whole if whole.dim() == 4 else whole.unsqueeze(0)
    out = torch.zeros(*q.shape[:3], v.size(3), dtype=query.dtype, device=query.device)
    lse = torch.zeros(*q.shape[:3], 1, device=query.device)
    for place, rows, columns in zip(places, rows_of, columns_of):
        size = rows.stop - rows.start, columns.stop - columns.start
        one = slice(place, place + 1)
        own = whole
        if own is not None and sparse_mode not in sdp.COMPRESSED:
            own = (own[one] if own.size(0) > 1 else own)[..., : size[0], : size[1]]
        hidden = sdp.sparse_mask(operator, sparse_mode, own, *size, *band)
        shift = bias
        if shift is not None:
            shift = (shift[one] if shift.size(0) > 1 else shift)[..., : size[0], : size[1]]
        result, highest, total = sdp.attend(
            *(q[one, :, rows], k[one, :, columns], v[one, :, columns], scale),
            hidden=hidden,
            bias=shift,
            bias_first=False,
        )
        out[one, :, rows] = result.to(out.dtype)
        lse[one, :, rows] = (highest + total.log()).float()
    return sdp.from_heads(out, layout), lse


@reference("npu_prompt_flash_attention")
def npu_prompt_flash_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    padding_mask: Tensor | None = None,
    atten_mask: Tensor | None = None,
    pse_shift: Tensor | None = None,
    actual_seq_lengths: Lengths = None,
    deq_scale1: Tensor | None = None,
    quant_scale1: Tensor | None = None,
    deq_scale2: Tensor | None = None,
    quant_scale2: Tensor | None = None,
    quant_offset2: Tensor | None = None,
    num_heads: int = 1,
    scale_value: float = 1.0,
    pre_tokens: int = FAR,
    next_tokens: int = 0,
    input_layout: str = "BSH",
    num_key_value_heads: int = 0,
    actual_seq_lengths_kv: Lengths = None,
    sparse_mode: int = 0,
) -> Tensor:
    """``softmax(scale * query @ key.T + mask) @ value`` for whole sequences.

    With a mask, ``pre_tokens`` and ``next_tokens`` hide what is beyond them as well; without
    one they do nothing.
    """
    operator = "npu_prompt_flash_attention"
    without(operator, padding_mask=padding_mask, deq_scale1=deq_scale1, quant_scale1=quant_scale1)
    without(operator, deq_scale2=deq_scale2, quant_scale2=quant_scale2, quant_offset2=quant_offset2)
    return _attend(
        *(operator, (query, key, value), input_layout, num_heads, num_key_value_heads),
        *(scale_value, atten_mask, pse_shift, actual_seq_lengths, actual_seq_lengths_kv),
        *((pre_tokens, next_tokens), sparse_mode),
    )[0]


def _row_mask(mask: Tensor | None) -> Tensor | None:
    """A mask of one row a sequence, ``(B, Skv)`` in some shape, in four dimensions."""
    return None if mask is None else mask.reshape(mask.size(0), 1, 1, -1)


@reference("npu_incre_flash_attention")
def npu_incre_flash_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    padding_mask: Tensor | None = None,
    atten_mask: Tensor | None = None,
    pse_shift: Tensor | None = None,
    actual_seq_lengths: Lengths = None,
    antiquant_scale: Tensor | None = None,
    antiquant_offset: Tensor | None = None,
    block_table: Tensor | None = None,
    dequant_scale1: Tensor | None = None,
    quant_scale1: Tensor | None = None,
    dequant_scale2: Tensor | None = None,
    quant_scale2: Tensor | None = None,
    quant_offset2: Tensor | None = None,
    kv_padding_size: Tensor | None = None,
    num_heads: int = 1,
    scale_value: float = 1.0,
    input_layout: str = "BSH",
    num_key_value_heads: int = 0,
    block_size: int = 0,
    inner_precise: int = 1,
) -> Tensor:
    """Attention of one new token for each sequence; the lengths are those of key and value."""
    operator = "npu_incre_flash_attention"
    without(operator, padding_mask=padding_mask, antiquant_scale=antiquant_scale)
    without(operator, antiquant_offset=antiquant_offset, block_table=block_table)
    without(operator, dequant_scale1=dequant_scale1, quant_scale1=quant_scale1)
    without(operator, dequant_scale2=dequant_scale2, quant_scale2=quant_scale2)
    without(operator, quant_offset2=quant_offset2, kv_padding_size=kv_padding_size)
    return _attend(
        *(operator, (query, key, value), input_layout, num_heads, num_key_value_heads),
        *(scale_value, _row_mask(atten_mask), pse_shift, None, actual_seq_lengths),
    )[0]


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
    out, lse = _attend(
        *(operator, (query, key, value), input_layout, num_heads, num_key_value_heads),
        *(scale, _row_mask(atten_mask) if single else atten_mask, pse_shift),
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
