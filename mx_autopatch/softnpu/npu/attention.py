"""Flash attention as it is trained with: ``npu_fusion_attention``, its versions and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor

from mx_autopatch.softnpu.npu import scaled_dot_product as sdp
from mx_autopatch.softnpu.npu.dropout import keep, unpacked
from mx_autopatch.softnpu.npu.reference import narrowed, reference, unsupported, vjp

__all__ = [
    "FAR",
    "Lengths",
    "Settings",
    "backward",
    "checked",
    "draws",
    "dropped",
    "forward",
]

FAR = 2147483647
Lengths = Optional[Sequence[int]]


class Settings(NamedTuple):
    """Everything that is not a tensor with a gradient."""

    operator: str
    heads: int
    layout: str
    scale: float
    mask: Tensor | None = None
    keep_prob: float = 1.0
    before: int = FAR
    after: int = FAR
    prefix: Lengths = None
    query_ends: Lengths = None
    key_ends: Lengths = None
    sparse_mode: int = 0
    bias_first: bool = True
    softmax_layout: str = ""
    kept: Tensor | None = None

    def sizes(self, query: Tensor, key: Tensor) -> list[tuple[int, int]]:
        """Rows and columns of each sequence: of one if they are not packed."""
        if self.layout == "TND":
            if self.query_ends is None or self.key_ends is None:
                raise RuntimeError(
                    f"{self.operator}: layout TND needs actual_seq_qlen and actual_seq_kvlen"
                )
            pairs = zip(sdp.segments(self.query_ends), sdp.segments(self.key_ends))
            return [(q.stop - q.start, k.stop - k.start) for q, k in pairs]
        axis = {"BSH": 1, "BSND": 1, "SBH": 0}.get(self.layout, 2)
        return [(query.size(axis), key.size(axis))]

    def probabilities(self, query: Tensor, key: Tensor) -> int:
        """How many probabilities there are."""
        batch = {"SBH": query.size(1), "TND": 1}.get(self.layout, query.size(0))
        return batch * self.heads * sum(q * k for q, k in self.sizes(query, key))


def _key_heads(query: Tensor, key: Tensor, settings: Settings) -> int:
    if settings.layout in ("BSH", "SBH"):
        return key.size(2) * settings.heads // query.size(2)
    return key.size(1) if settings.layout in ("BNSD", "TND") else key.size(2)


def _one(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, settings: Settings, at: int, used: int
) -> sdp.Attended:
    """Sequences of one length, the first of which is number ``at`` of the batch."""
    rows, columns = q.size(2), k.size(2)
    if bias is not None and bias.size(2) not in (1, rows):
        unsupported(settings.operator, f"a compressed pse of {tuple(bias.shape)}")
    mask = settings.mask
    if mask is not None and settings.layout == "TND" and settings.sparse_mode in (0, 1):
        mask = mask[..., :rows, :columns]

    def hidden(prefix: int | None) -> sdp.Mask:
        return sdp.sparse_mask(
            *(settings.operator, settings.sparse_mode, mask, rows, columns),
            *(settings.before, settings.after, prefix),
            strict=True,
        )

    masked: sdp.Mask
    if settings.sparse_mode == 6 and mask is not None and settings.prefix is not None:
        prefixes = settings.prefix[at : at + q.size(0)]
        masked = torch.stack([h for h in map(hidden, prefixes) if h is not None]).unsqueeze(1)
    else:
        masked = hidden(None)
    kept = settings.kept
    if kept is not None:
        shape = (q.size(0), q.size(1), rows, columns)
        kept = kept[used : used + torch.Size(shape).numel()].view(shape)
    return sdp.attend(
        *(q, k, v, settings.scale),
        hidden=masked,
        bias=bias,
        bias_first=settings.bias_first,
        kept=kept,
        keep_prob=settings.keep_prob,
    )


def forward(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, settings: Settings
) -> sdp.Attended:
    """The result in the layout of the query; maximum and sum with eight copies each."""
    key_heads = _key_heads(query, key, settings)
    q = sdp.to_heads(query, settings.layout, settings.heads)
    k, v = (sdp.to_heads(t, settings.layout, key_heads) for t in (key, value))
    if q.size(1) != settings.heads or q.size(1) % k.size(1):
        raise RuntimeError(
            f"{settings.operator}: head_num is {settings.heads}, but the query has {q.size(1)} "
            f"heads and the key {k.size(1)}"
        )
    if settings.layout != "TND":
        out, highest, total = _one(q, k, v, bias, settings, 0, 0)
        out = sdp.from_heads(out, settings.layout)
        statistics = [s.float().repeat(1, 1, 1, 8) for s in (highest, total)]
        return out.to(query.dtype), statistics[0], statistics[1]
    if bias is not None:
        unsupported(settings.operator, "pse of packed sequences")
    if settings.query_ends is None or settings.key_ends is None:
        settings.sizes(query, key)  # says what is missing
    assert settings.query_ends is not None
    assert settings.key_ends is not None
    pairs = zip(sdp.segments(settings.query_ends), sdp.segments(settings.key_ends))
    parts, used = [], 0
    for at, (rows, columns) in enumerate(pairs):
        part = q[:, :, rows], k[:, :, columns], v[:, :, columns]
        parts.append(_one(*part, bias, settings, at, used))
        used += settings.heads * (rows.stop - rows.start) * (columns.stop - columns.start)
    joined = []
    for tensors in zip(*parts):
        whole = torch.cat(tensors, 2)
        rest = q.size(2) - whole.size(2)  # sequences that take no part
        joined.append(torch.nn.functional.pad(whole, (0, 0, 0, rest)))
    out = sdp.from_heads(joined[0], "TND").to(query.dtype)
    statistics = []
    for one in joined[1:]:
        copies = one.squeeze(0).float().repeat(1, 1, 8)
        if settings.softmax_layout == "TND":
            statistics.append(copies.transpose(0, 1).contiguous())
        else:  # in memory heads come first, whatever the shape says
            statistics.append(copies.reshape(copies.size(1), copies.size(0), 8))
    return out, statistics[0], statistics[1]


def checked(operator: str, padding_mask: Tensor | None, sink: Tensor | None) -> None:
    if padding_mask is not None:
        unsupported(operator, "padding_mask")
    if sink is not None:
        unsupported(operator, "sink")


def dropped(
    settings: Settings, query: Tensor, key: Tensor, mask: Tensor | None, seed: int, offset: int
) -> tuple[Settings, int, int, int]:
    """Settings with what dropout keeps; seed, offset and number of what was drawn."""
    count = settings.probabilities(query, key)
    if not 0 < settings.keep_prob <= 1:
        raise RuntimeError(f"{settings.operator}: keep_prob {settings.keep_prob} is not in (0, 1]")
    if settings.keep_prob == 1:
        return settings, seed, offset, count
    if mask is not None:
        return settings._replace(kept=unpacked(mask, (count,))), seed, offset, count
    seed = seed or int(torch.randint(1, 1 << 62, ()))
    kept = keep(count, settings.keep_prob, seed, offset).to(query.device)
    return settings._replace(kept=kept), seed, offset, count


def draws(given: dict[str, Any]) -> bool:
    dropped = float(given.get("keep_prob", 1.0)) < 1
    return dropped and given.get("dropout_mask") is None and not given.get("seed")


@reference("npu_fusion_attention", random=draws)
def npu_fusion_attention(
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
    actual_seq_qlen: Lengths = None,
    actual_seq_kvlen: Lengths = None,
    sparse_mode: int = 0,
    gen_mask_parallel: bool = True,
    sync: bool = False,
    softmax_layout: str = "",
    sink: Tensor | None = None,
    dropout_mask: Tensor | None = None,
    seed: int = 0,
    offset: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, int, int, int]:
    """``dropout(softmax(mask(scale * (pse + query @ key.T)))) @ value``.

    Args:
        query: In ``input_layout``: BSH, SBH, BSND, BNSD, or TND (sequences of different
            lengths behind each other, whose ends ``actual_seq_qlen`` gives). Key and value
            may have fewer heads, a divisor of ``head_num``.
        pse: ``(B, N, Sq, Skv)``, also with ones for B or Sq; not the compressed form.
        atten_mask: 1 or True for what does not count; None for everything, whatever
            ``sparse_mode`` is. See ``scaled_dot_product.sparse_mask``.

    Returns:
        The result; maximum and sum of the softmax, float32 ``(B, N, Sq, 8)``, of TND
        ``(T, N, 8)``; an empty tensor; seed, offset and length of the dropout mask.
    """
    checked("npu_fusion_attention", padding_mask, sink)
    settings = Settings(
        *("npu_fusion_attention", head_num, input_layout, scale, atten_mask, keep_prob),
        *(pre_tockens, next_tockens, prefix, actual_seq_qlen, actual_seq_kvlen, sparse_mode),
        softmax_layout=softmax_layout,
    )
    settings, seed, offset, count = dropped(settings, query, key, dropout_mask, seed, offset)
    out, highest, total = forward(query, key, value, pse, settings)
    return out, highest, total, query.new_empty(0), seed, offset, count


def backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pse: Tensor | None,
    dy: Tensor,
    settings: Settings,
    seed: int,
    offset: int,
) -> tuple[Any, ...]:
    """Gradients of query, key, value and pse (None without one), in their dtypes."""
    if settings.keep_prob < 1:
        kept = keep(settings.probabilities(query, key), settings.keep_prob, seed, offset)
        settings = settings._replace(kept=kept.to(query.device))

    def again(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        return forward(q, k, v, bias, settings)[0]

    found = vjp(again, [query, key, value, pse], [dy])
    like = [query, key, value] if pse is None else [query, key, value, pse]
    return (*narrowed(found, like), *([None] if pse is None else []))


@reference("npu_fusion_attention_grad")
def npu_fusion_attention_grad(
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
    seed: int = 0,
    offset: int = 0,
    numels: int = 0,
    prefix: Lengths = None,
    actual_seq_qlen: Lengths = None,
    actual_seq_kvlen: Lengths = None,
    sparse_mode: int = 0,
    gen_mask_parallel: bool = True,
    sync: bool = False,
    softmax_layout: str = "",
    sink: Tensor | None = None,
) -> tuple[Any, ...]:
    """Gradients of query, key, value, pse and sink, the last an empty tensor.

    They are computed anew from the inputs; dropout's choice follows from seed and offset.
    """
    checked("npu_fusion_attention_grad", padding_mask, sink)
    settings = Settings(
        *("npu_fusion_attention_grad", head_num, input_layout, scale_value, atten_mask, keep_prob),
        *(pre_tockens, next_tockens, prefix, actual_seq_qlen, actual_seq_kvlen, sparse_mode),
    )
    found = backward(query, key, value, pse, dy, settings, seed, offset)
    return (*found, torch.empty(0, device=query.device))
