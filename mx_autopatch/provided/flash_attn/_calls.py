"""What the public functions have in common: checks, and packed arguments."""

from __future__ import annotations

from typing import Any, Union

import torch
from torch import Tensor

from ._dense import Attended, attend
from ._form import check_heads, check_shape, check_tensors, make_form
from ._packed import attend_packed, sequence_lengths

__all__ = ["Result", "Window", "behind", "beside", "unpacked"]

#: The result alone, or with logarithms and shares.
Result = Union[Tensor, Attended]
Window = tuple[int, int]


def unpacked(function: str, name: str, tensor: Any, rank: int, parts: int) -> tuple[Tensor, ...]:
    """The parts of (..., parts, heads, width)."""
    check_tensors(function, rank, **{name: tensor})
    shape = (*tensor.shape[:-3], parts, *tensor.shape[-2:])
    check_shape(function, name, tensor, shape)
    result: tuple[Tensor, ...] = tensor.unbind(-3)
    return result


def beside(
    function: str, q: Tensor, k: Tensor, v: Tensor, return_attn_probs: bool, **form: Any
) -> Result:
    check_tensors(function, 4, q=q, k=k, v=v)
    check_shape(function, "k", k, (q.size(0), *k.shape[1:]))
    check_heads(function, q, k, v)
    result = attend(q, k, v, make_form(function, q, **form), want=return_attn_probs)
    return result if return_attn_probs else result[0]


def behind(
    function: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    ends: tuple[Tensor, Tensor],
    return_attn_probs: bool,
    **form: Any,
) -> Result:
    check_tensors(function, 3, q=q, k=k, v=v)
    check_heads(function, q, k, v)
    names = ("cu_seqlens",) * 2 if ends[0] is ends[1] else ("cu_seqlens_q", "cu_seqlens_k")
    queries = sequence_lengths(function, names[0], ends[0], q.size(0))
    keys = sequence_lengths(function, names[1], ends[1], k.size(0))
    if len(queries) != len(keys):
        raise ValueError(
            f"{function}: cu_seqlens_k: expected {len(queries) + 1} entries as cu_seqlens_q, "
            f"got {len(keys) + 1}"
        )
    made = make_form(function, q, batch=len(queries), **form)
    out, logarithms, shares = attend_packed(q, k, v, made, queries, keys, return_attn_probs)
    if not return_attn_probs:
        return out
    if logarithms is not None and not made.upper_left:
        # Since 2.6 these lie behind each other like the tokens.
        rows = [row[:, :length] for row, length in zip(logarithms, queries)]
        logarithms = torch.cat([logarithms.new_zeros(q.size(1), 0), *rows], 1)
    return out, logarithms, shares
