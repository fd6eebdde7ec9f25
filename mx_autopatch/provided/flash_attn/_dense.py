"""Attention of sequences beside each other, (batch, sequence, heads, width)."""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _npu
from ._form import Form, wide

__all__ = ["Attended", "Lengths", "attend"]


class Lengths(NamedTuple):
    """Of each sequence of a batch that is padded: (batch,) tensors."""

    queries: Tensor
    keys: Tensor
    #: The first key that counts, None for 0.
    first: Tensor | None = None
    #: (batch, Sk), which keys count, in place of as many as there are from the first on.
    counted: Tensor | None = None


#: Result like the query; logarithms of sums of exponentials, float32 (B, H, Sq), and
#: shares (B, H, Sq, Sk), the dropped ones negative: both None unless asked for.
Attended = tuple[Tensor, Optional[Tensor], Optional[Tensor]]


def attend(
    q: Tensor, k: Tensor, v: Tensor, form: Form, lengths: Lengths | None = None, want: bool = False
) -> Attended:
    """Attention, with statistics if ``want``; with ``lengths``, of padded sequences."""
    rows, columns = q.size(1), k.size(1)
    if lengths is None:
        form = form.within(rows, columns)
        if not want and _npu.can(q, form):
            return _npu.dense(q, k, v, form), None, None
    distance = _distance(form, rows, columns, q.device, lengths)
    visible = _visible(form, distance, columns, lengths)
    if columns == 0:  # a key that nobody sees
        k, v = (F.pad(t, (0, 0, 0, 0, 0, 1)) for t in (k, v))
        distance = distance.new_zeros(*distance.shape[:-1], 1)
        visible = torch.zeros_like(distance, dtype=torch.bool)
    seeing = None
    if visible is not None and (lengths is not None or form.blind(rows, columns)):
        # Softmax is not defined where nothing is seen: let such a query see all, and not count.
        seeing = visible.any(-1, keepdim=True)
        visible = visible | ~seeing
    logarithms = shares = None
    if not want and _npu.can(q, form):
        out = _npu.masked(q, k, v, form, visible).transpose(1, 2)
    else:
        qh, kh, vh = (t.transpose(1, 2) for t in (q, k, v))
        groups = q.size(2) // k.size(2)
        if groups > 1:
            kh, vh = kh.repeat_interleave(groups, 1), vh.repeat_interleave(groups, 1)
        if want or form.softcap or (form.slopes is not None and q.device.type == "npu"):
            out, logarithms, shares = _explicit(qh, kh, vh, form, distance, visible)
        else:
            out = _fused(qh, kh, vh, form, distance, visible)
    if seeing is not None:
        out = torch.where(seeing, out, 0)
        if logarithms is not None and shares is not None:
            logarithms = torch.where(seeing.squeeze(-1), logarithms, float("inf"))
            shares = torch.where(seeing, shares, 0)[..., :columns]
    return out.to(q.dtype).transpose(1, 2), logarithms, shares


def _distance(
    form: Form, rows: int, columns: int, device: torch.device, lengths: Lengths | None
) -> Tensor:
    """How far each key is ahead of each query: (Sq, Sk), or (B, 1, Sq, Sk) with lengths."""
    row = torch.arange(rows, device=device).view(-1, 1)
    ahead = torch.arange(columns, device=device) - row
    if lengths is None:
        return ahead - int(form.shift(rows, columns))
    shift: Tensor = form.shift(lengths.queries, lengths.keys)
    return ahead - shift.view(-1, 1, 1, 1)


def _visible(form: Form, distance: Tensor, columns: int, lengths: Lengths | None) -> Tensor | None:
    """What is seen, in the shape of ``distance``; None for everything."""
    limits = []
    if form.right is not None:
        limits.append(distance <= form.right)
    if form.left is not None:
        limits.append(distance >= -form.left)
    if lengths is not None:
        column = torch.arange(columns, device=distance.device)
        if lengths.counted is not None:
            limits.append(lengths.counted[:, None, None])
        else:
            limits.append(column < lengths.keys.view(-1, 1, 1, 1))
        if lengths.first is not None:
            limits.append(column >= lengths.first.view(-1, 1, 1, 1))
    if not limits:
        return None
    seen = limits[0]
    for limit in limits[1:]:
        seen = seen & limit
    return seen


def _bias(form: Form, distance: Tensor, visible: Tensor | None, dtype: torch.dtype) -> Tensor:
    assert form.slopes is not None
    bias = form.slopes.to(dtype) * -distance.abs().to(dtype)
    return bias if visible is None else bias.masked_fill(~visible, float("-inf"))


def _fused(
    q: Tensor, k: Tensor, v: Tensor, form: Form, distance: Tensor, visible: Tensor | None
) -> Tensor:
    rows, columns = q.size(2), k.size(2)
    mask, causal = visible, False
    if form.slopes is not None:
        # The bias has the dtype of the query, and half precision is too little for it.
        dtype = wide(q.dtype)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
        mask = _bias(form, distance, visible, dtype)
    elif form.right == 0 and form.left is None and distance.dim() == 2:
        # A kernel that knows what it need not compute; its query i sits at key i.
        causal = rows == columns or (form.upper_left and columns > 0)
        mask = None if causal else visible
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=form.dropout, is_causal=causal, scale=form.scale
    )


def _explicit(
    q: Tensor, k: Tensor, v: Tensor, form: Form, distance: Tensor, visible: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The formula, with what fused kernels do not give or take."""
    dtype = wide(q.dtype)
    logits = (q.to(dtype) @ k.to(dtype).transpose(2, 3)) * form.scale
    if form.softcap:
        logits = (logits / form.softcap).tanh() * form.softcap
    if form.slopes is not None:
        logits = logits + _bias(form, distance, visible, dtype)
    elif visible is not None:
        logits = logits.masked_fill(~visible, float("-inf"))
    shares = logits.softmax(-1)
    signed = shares
    if form.dropout:
        kept = torch.rand_like(shares) >= form.dropout
        signed = torch.where(kept, shares, -shares)
        shares = torch.where(kept, shares / (1 - form.dropout), 0)
    out = shares @ v.to(dtype)
    return out, logits.logsumexp(-1).float(), signed.to(q.dtype)
