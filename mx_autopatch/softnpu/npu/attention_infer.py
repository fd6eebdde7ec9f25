"""Attention for inference, in its plain forms: no quantisation, no paged cache.

Whole prompts, and one new token; ``attention_fused_infer`` has the operators that do both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mx_autopatch.softnpu.npu import scaled_dot_product as sdp
from mx_autopatch.softnpu.npu.attention import FAR, Lengths
from mx_autopatch.softnpu.npu.reference import reference, unsupported, without

__all__ = ["attend", "row_mask"]


def _spans(lengths: Lengths, batch: int, size: int) -> list[slice]:
    if lengths is None:
        return [slice(0, size)] * batch
    each = list(lengths) * (batch if len(lengths) == 1 else 1)
    return [slice(0, int(length)) for length in each]


def attend(
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
    return attend(
        *(operator, (query, key, value), input_layout, num_heads, num_key_value_heads),
        *(scale_value, atten_mask, pse_shift, actual_seq_lengths, actual_seq_lengths_kv),
        *((pre_tokens, next_tokens), sparse_mode),
    )[0]


def row_mask(mask: Tensor | None) -> Tensor | None:
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
    return attend(
        *(operator, (query, key, value), input_layout, num_heads, num_key_value_heads),
        *(scale_value, row_mask(atten_mask), pse_shift, None, actual_seq_lengths),
    )[0]
