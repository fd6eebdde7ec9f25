"""What the attention operators have in common: layouts, masks, and the computation.

Inside, everything is ``(batch, heads, sequence, width)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor

from mx_autopatch.softnpu.npu.reference import unsupported, widened

__all__ = [
    "COMPRESSED",
    "Attended",
    "Mask",
    "attend",
    "from_heads",
    "segments",
    "sparse_mask",
    "to_heads",
]

Mask = Optional[Tensor]

#: Sizes of the mask that stands for a triangle, by sparse mode.
COMPRESSED = {2: (2048, 2048), 3: (2048, 2048), 4: (2048, 2048), 6: (3072, 2048)}

Attended = tuple[Tensor, Tensor, Tensor]


def to_heads(tensor: Tensor, layout: str, heads: int) -> Tensor:
    """``(B, N, S, D)`` of BSH, SBH, BSND or BNSD; ``(1, N, T, D)`` of TND."""
    if layout == "BNSD":
        return tensor
    if layout == "BSND":
        return tensor.transpose(1, 2)
    if layout == "BSH":
        return tensor.unflatten(2, (heads, -1)).transpose(1, 2)
    if layout == "SBH":
        return tensor.unflatten(2, (heads, -1)).permute(1, 2, 0, 3)
    if layout == "TND":
        return tensor.transpose(0, 1).unsqueeze(0)
    raise RuntimeError(f"input_layout {layout!r}: expected BSH, SBH, BSND, BNSD or TND")


def from_heads(tensor: Tensor, layout: str) -> Tensor:
    """The opposite of ``to_heads``."""
    if layout == "BNSD":
        return tensor.contiguous()
    if layout == "BSND":
        return tensor.transpose(1, 2).contiguous()
    if layout == "BSH":
        return tensor.transpose(1, 2).flatten(2)
    if layout == "SBH":
        return tensor.permute(2, 0, 1, 3).flatten(2)
    return tensor.squeeze(0).transpose(0, 1).contiguous()


def segments(ends: Sequence[int]) -> list[slice]:
    """The sequences of a packed batch, whose ends are given; zeros at the end are empty."""
    result, start = [], 0
    for end in ends:
        result.append(slice(start, max(start, int(end))))
        start = max(start, int(end))
    return result


def sparse_mask(
    operator: str,
    mode: int,
    mask: Mask,
    rows: int,
    columns: int,
    before: int,
    after: int,
    prefix: int | None = None,
    strict: bool = False,
) -> Mask:
    """What is masked, as booleans that broadcast to ``(B, N, rows, columns)``.

    Without a mask everything is computed, whatever the mode. A mask that stands for a
    triangle (modes 2, 3, 4 and 6) must have the size that these have on the hardware.

    Args:
        before, after: How far from its own place a row looks, in modes 0 and 4.
        prefix: Columns that every row of this sequence sees, in mode 6.
        strict: In mode 0, refuse a band that hides what the mask shows.
    """
    if mask is None:
        return None
    if mode not in (0, 1, 2, 3, 4, 5, 6):
        unsupported(operator, f"sparse_mode {mode}")
    if mode in COMPRESSED and tuple(mask.shape[-2:]) != COMPRESSED[mode]:
        raise RuntimeError(
            f"{operator}: sparse_mode {mode} takes an atten_mask of {COMPRESSED[mode]}, which "
            f"stands for a triangle; got {tuple(mask.shape)}"
        )
    hidden = mask.bool()
    if mode in (1, 5):
        return hidden
    row = torch.arange(rows, device=mask.device).view(-1, 1)
    column = torch.arange(columns, device=mask.device)
    # Modes 0 and 2 count from the upper left corner, the others from the lower right.
    ahead = column - row if mode in (0, 2) else column - row - (columns - rows)
    if mode == 0:
        outside = (ahead > after) | (ahead < -before)
        if strict and bool((outside & ~hidden).any()):
            unsupported(
                operator,
                f"an atten_mask that shows what pre_tockens={before} or next_tockens={after} "
                "hides (the hardware leaves open what happens)",
            )
        return hidden | outside
    if mode == 4:
        return (ahead > after) | (ahead < -before)
    if mode == 6:
        return (ahead > 0) & (column >= (0 if prefix is None else prefix))
    return ahead > 0


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    *,
    hidden: Mask = None,
    bias: Tensor | None = None,
    bias_first: bool = True,
    kept: Tensor | None = None,
    keep_prob: float = 1.0,
) -> Attended:
    """Attention, and maximum and sum of each row's exponentials.

    A row of which everything is masked gives zeros.

    Args:
        query: ``(B, N, S, D)``; key and value have N heads, or a divisor of it.
        hidden: True where a logit does not count.
        bias: Added to the logits, before they are scaled if ``bias_first``.
        kept: Probabilities that dropout keeps, which are then divided by ``keep_prob``.

    Returns:
        ``(B, N, S, D_v)``, and two of ``(B, N, S, 1)``, all in at least float32.
    """
    q, k, v = widened(query), widened(key), widened(value)
    groups = q.size(1) // k.size(1)
    if groups > 1:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    logits = q @ k.transpose(2, 3)
    if bias is not None and bias_first:
        logits = (logits + widened(bias)) * scale
    elif bias is not None:
        logits = logits * scale + widened(bias)
    else:
        logits = logits * scale
    if hidden is not None:
        logits = logits.masked_fill(hidden, float("-inf"))
    if logits.size(3):
        highest = logits.detach().amax(3, keepdim=True)
    else:
        highest = logits.new_full((*logits.shape[:3], 1), float("-inf"))
    empty = highest == float("-inf")
    exponentials = (logits - highest.masked_fill(empty, 0.0)).exp()
    total = exponentials.sum(3, keepdim=True)
    shares = exponentials / total.masked_fill(empty, 1.0)
    if kept is not None:
        shares = torch.where(kept, shares / keep_prob, 0.0)
    return shares @ v, highest, total
