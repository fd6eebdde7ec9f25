"""Attention by its definition, one query at a time in float64."""

from __future__ import annotations

import torch


def row_logits(q, k, i, h, *, scale, left, right, shift, softcap=0.0, slope=0.0):
    """Logits of query ``i`` of head ``h``; ``-inf`` for keys that it does not see."""
    group = q.size(1) // k.size(1)
    logits = (k[:, h // group] @ q[i, h]) * scale
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    j = torch.arange(k.size(0))
    ahead = j - (i + shift)
    logits = logits - slope * ahead.abs()
    hidden = torch.zeros(len(j), dtype=torch.bool)
    if right >= 0:
        hidden |= ahead > right
    if left >= 0:
        hidden |= ahead < -left
    return logits.masked_fill(hidden, float("-inf"))


def attention(
    q,
    k,
    v,
    *,
    causal=False,
    window=(-1, -1),
    scale=None,
    softcap=0.0,
    slopes=None,
    upper_left=False,
):
    """Result (Sq, H, D), logarithms (H, Sq) and shares (H, Sq, Sk) of one sequence."""
    q, k, v = (t.double() for t in (q, k, v))
    queries, heads, width = q.shape
    group = heads // k.size(1)
    settings = {
        "scale": width**-0.5 if scale is None else scale,
        "left": window[0],
        "right": 0 if causal else window[1],
        "shift": 0 if upper_left else k.size(0) - queries,
        "softcap": softcap,
    }
    out, logarithms, shares = [], [], []
    for h in range(heads):
        for i in range(queries):
            slope = 0.0 if slopes is None else slopes[h].double()
            logits = row_logits(q, k, i, h, slope=slope, **settings)
            if bool((logits == float("-inf")).all()):
                share = torch.zeros_like(logits)
                logarithms.append(torch.tensor(float("inf"), dtype=torch.float64))
            else:
                share = logits.softmax(0)
                logarithms.append(logits.logsumexp(0))
            shares.append(share)
            out.append(share @ v[:, h // group])
    shape = (heads, queries)
    stacked = torch.stack(out).view(*shape, width).transpose(0, 1) if out else q * 0
    empty = q.new_zeros(shape)
    logarithm = torch.stack(logarithms).view(shape) if out else empty
    share = torch.stack(shares).view(*shape, -1) if out else q.new_zeros(*shape, k.size(0))
    return stacked, logarithm, share
