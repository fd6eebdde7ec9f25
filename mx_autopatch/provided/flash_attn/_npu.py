"""The same through ``torch_npu.npu_fusion_attention``.

Its masks hide where they are true. Sparse modes 2, 3 and 4 take, in place of a mask, a
triangle of fixed size that stands for all: the upper left one, the lower right one, and a
band that is counted from the lower right corner.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ._form import Form

__all__ = ["can", "dense", "masked", "most_packed", "packed"]

_FAR = 2147483647
#: How many packed sequences the operator takes.
most_packed = 1024


def can(q: Tensor, form: Form) -> bool:
    """Whether the operator computes this."""
    return (
        q.device.type == "npu"
        and q.dtype in (torch.float16, torch.bfloat16, torch.float32)
        and q.numel() > 0
        and q.size(-1) <= 768
        and q.size(-2) <= 256
        and not form.softcap
        and form.slopes is None
    )


@functools.lru_cache(maxsize=8)
def _triangle(device: torch.device) -> Tensor:
    return torch.ones(2048, 2048, dtype=torch.bool, device=device).triu(1)


def _window(form: Form, device: torch.device) -> dict[str, Any]:
    """The arguments for a form's window."""
    if form.left is None and form.right is None:
        return {}
    triangle = {"atten_mask": _triangle(device)}
    if form.left is None and form.right == 0:
        return {**triangle, "sparse_mode": 2 if form.upper_left else 3}
    if form.upper_left:
        raise NotImplementedError(f"{form.function}: a window counted from the upper left corner")
    left, right = (_FAR if size is None else size for size in (form.left, form.right))
    return {**triangle, "sparse_mode": 4, "pre_tockens": left, "next_tockens": right}


def _call(q: Tensor, k: Tensor, v: Tensor, layout: str, form: Form, **more: Any) -> Tensor:
    import torch_npu

    heads = q.size(1 if layout == "TND" else 2)
    result: Tensor = torch_npu.npu_fusion_attention(
        *(q.contiguous(), k.contiguous(), v.contiguous(), heads, layout),
        scale=form.scale,
        keep_prob=1 - form.dropout,
        **more,
    )[0]
    return result


def dense(q: Tensor, k: Tensor, v: Tensor, form: Form) -> Tensor:
    """(B, S, H, D), with the form's window."""
    # What the operator gives for a query that sees nothing is not documented.
    blind = form.blind(q.size(1), k.size(1))
    out = q[:, blind:]
    if out.size(1):
        out = _call(out, k, v, "BSND", form, **_window(form, q.device))
    return F.pad(out, (0, 0, 0, 0, blind, 0))


def masked(q: Tensor, k: Tensor, v: Tensor, form: Form, visible: Tensor | None) -> Tensor:
    """(B, S, H, D), with the mask in place of the window."""
    if visible is None:
        return _call(q, k, v, "BSND", form)
    return _call(q, k, v, "BSND", form, atten_mask=~visible, sparse_mode=1)


def packed(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    form: Form,
    queries: Sequence[int],
    keys: Sequence[int],
) -> Tensor:
    """(T, H, D), sequences of these lengths behind each other."""
    blind = [form.blind(rows, columns) for rows, columns in zip(queries, keys)]
    seen, rows, start = q, None, 0
    if any(blind):
        parts = []
        for length, without in zip(queries, blind):
            parts.append(torch.arange(start + without, start + length))
            start += length
        rows = torch.cat(parts).to(q.device)
        seen = q.index_select(0, rows)
    if seen.size(0):
        ends = [
            torch.tensor(lengths).cumsum(0).tolist()
            for lengths in ([n - b for n, b in zip(queries, blind)], keys)
        ]
        window = _window(form, q.device)
        actual = {"actual_seq_qlen": ends[0], "actual_seq_kvlen": ends[1]}
        seen = _call(seen, k, v, "TND", form, **actual, **window)
    return seen if rows is None else torch.zeros_like(q).index_copy(0, rows, seen)
