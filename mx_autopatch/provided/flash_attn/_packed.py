"""Attention of sequences behind each other, (tokens, heads, width)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _npu
from ._dense import Attended, Lengths, attend
from ._form import Form

__all__ = ["attend_packed", "sequence_lengths"]


def sequence_lengths(function: str, name: str, ends: Any, tokens: int) -> list[int]:
    """The lengths of sequences that end, after a 0, at the entries of ``ends``."""
    if not isinstance(ends, Tensor) or ends.dtype not in (torch.int32, torch.int64):
        got = ends.dtype if isinstance(ends, Tensor) else type(ends).__name__
        raise TypeError(f"{function}: {name}: expected a tensor of torch.int32, got {got}")
    if ends.dim() != 1 or ends.numel() == 0:
        raise ValueError(f"{function}: {name}: expected shape (n,), got {tuple(ends.shape)}")
    places = ends.tolist()
    lengths = [end - start for start, end in zip(places, places[1:])]
    if places[0] != 0 or places[-1] > tokens or min(lengths, default=0) < 0:
        raise ValueError(
            f"{function}: {name}: expected ascending numbers from 0 to at most {tokens}, "
            f"the tokens there are, got {places}"
        )
    return lengths


def attend_packed(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    form: Form,
    queries: list[int],
    keys: list[int],
    want: bool = False,
) -> Attended:
    """As ``attend``; shares are padded, (B, H, longest Sq, longest Sk), logarithms (B, H, Sq)."""
    tokens, used = q.size(0), sum(queries)
    q, k, v = q[:used], k[: sum(keys)], v[: sum(keys)]
    batch = len(queries)
    uniform = batch > 0 and len(set(queries)) == 1 and len(set(keys)) == 1
    logarithms = shares = None
    if used == 0:
        out = q
        if want:
            longest = max(keys, default=0)
            logarithms = q.new_zeros((batch, q.size(1), 0), dtype=torch.float32)
            shares = q.new_zeros((batch, q.size(1), 0, longest))
    elif uniform:
        q, k, v = (
            t.reshape(batch, n[0], *t.shape[1:]) for t, n in ((q, queries), (k, keys), (v, keys))
        )
        out, logarithms, shares = attend(q, k, v, form, want=want)
        out = out.flatten(0, 1)
    elif not want and batch <= _npu.most_packed and _npu.can(q, form):
        out = _npu.packed(q, k, v, form, queries, keys)
    else:
        rows, longest = _places(queries, q.device)
        columns, most = _places(keys, q.device)
        q = _padded(q, rows, batch, longest)
        k, v = (_padded(t, columns, batch, most) for t in (k, v))
        lengths = Lengths(*(torch.tensor(n, device=q.device) for n in (queries, keys)))
        out, logarithms, shares = attend(q, k, v, form, lengths, want)
        out = out.flatten(0, 1).index_select(0, rows)
    return F.pad(out, (0, 0, 0, 0, 0, tokens - used)), logarithms, shares


def _places(lengths: list[int], device: torch.device) -> tuple[Tensor, int]:
    """Where each token lies when sequences are padded to the longest, and its length."""
    longest, length = max(lengths), torch.tensor(lengths)
    ahead = torch.arange(len(lengths)) * longest - (length.cumsum(0) - length)
    return (torch.arange(sum(lengths)) + ahead.repeat_interleave(length)).to(device), longest


def _padded(tokens: Tensor, places: Tensor, batch: int, longest: int) -> Tensor:
    beside = tokens.new_zeros(batch * longest, *tokens.shape[1:])
    return beside.index_copy(0, places, tokens).view(batch, longest, *tokens.shape[1:])
