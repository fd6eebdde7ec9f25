"""Mixtures of experts: choosing, sorting and merging tokens; products in groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mx_autopatch.softnpu.npu.reference import narrowed, reference, unsupported, vjp, widened

__all__: list[str] = []


@reference("npu_moe_gating_top_k_softmax")
def npu_moe_gating_top_k_softmax(
    x: Tensor, finished: Tensor | None = None, k: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """The k largest probabilities of each row, their experts, and numbers for the pairs.

    Args:
        x: Logits ``(..., experts)``.
        finished: True for rows that take no part; their expert is the one after the last.

    Returns:
        Three of ``(..., k)``: probabilities; experts, int32; int32 that count through the
        pairs column by column.
    """
    probabilities = torch.softmax(widened(x), -1)
    experts = probabilities.argsort(dim=-1, descending=True, stable=True)[..., :k]
    y = probabilities.gather(-1, experts).to(x.dtype)
    if finished is not None:
        experts = torch.where(finished.bool().unsqueeze(-1), x.size(-1), experts)
    rows = experts.shape[:-1].numel()
    numbers = torch.arange(rows * k, device=x.device).view(k, rows).T
    return y, experts.int(), numbers.reshape(experts.shape).int()


@reference("npu_moe_init_routing")
def npu_moe_init_routing(
    x: Tensor, row_idx: Tensor, expert_idx: Tensor, active_num: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens sorted by expert; where each pair has gone; the sorted experts.

    Args:
        x: ``(rows, H)``.
        row_idx: ``(rows, k)``, as ``npu_moe_gating_top_k_softmax`` numbers them.
        expert_idx: ``(rows, k)``.
        active_num: How many rows are wanted, each k times.
    """
    rows, k = expert_idx.shape
    experts, order = expert_idx.reshape(-1).sort(stable=True)
    source = row_idx.reshape(-1)[order].long()
    places = torch.empty_like(source)
    places[source] = torch.arange(len(source), device=x.device)
    count = min(active_num, rows) * k
    return x[source[:count] % rows], places.to(row_idx.dtype), experts.to(row_idx.dtype)


@reference("npu_moe_compute_expert_tokens")
def npu_moe_compute_expert_tokens(sorted_expert_for_source_row: Tensor, num_expert: int) -> Tensor:
    """Where the tokens of each expert end, int32 ``(num_expert,)``."""
    experts = torch.arange(num_expert, device=sorted_expert_for_source_row.device)
    ends = torch.searchsorted(
        sorted_expert_for_source_row, experts.to(sorted_expert_for_source_row.dtype), right=True
    )
    return ends.int()


@reference("npu_moe_finalize_routing")
def npu_moe_finalize_routing(
    expanded_permuted_rows: Tensor,
    skip1: Tensor | None,
    skip2: Tensor | None,
    bias: Tensor | None,
    scales: Tensor | None,
    expanded_src_to_dst_row: Tensor,
    export_for_source_row: Tensor | None,
    drop_pad_mode: int | None = 0,
    k: int | None = 1,
) -> Tensor:
    """Skips plus the scaled sum of what a row's experts have made of it.

    Args:
        expanded_permuted_rows: ``(rows * k, H)``, or ``(experts, capacity, H)``.
        expanded_src_to_dst_row: ``(k * rows,)``, column by column; -1 for what was dropped.
        drop_pad_mode: 0 or 1; places row by row (2 and 3) are refused.
    """
    if drop_pad_mode not in (None, 0, 1):
        unsupported("npu_moe_finalize_routing", f"drop_pad_mode {drop_pad_mode}")
    pairs = expanded_src_to_dst_row.numel()
    each = scales.size(1) if scales is not None else (k or 1)
    values = widened(expanded_permuted_rows).reshape(-1, expanded_permuted_rows.size(-1))
    places = expanded_src_to_dst_row.long().view(each, pairs // each).T
    made = torch.where((places >= 0).unsqueeze(2), values[places.clamp(min=0)], 0.0)
    if bias is not None and export_for_source_row is not None:
        made = made + widened(bias)[export_for_source_row.long()]
    if scales is not None:
        made = made * widened(scales).unsqueeze(2)
    out = made.sum(1)
    for skip in (skip1, skip2):
        if skip is not None:
            out = out + widened(skip)
    return out.to(expanded_permuted_rows.dtype)


def _unpadded(operator: str, padded_mode: bool, restore_shape: Sequence[int] | None) -> None:
    if padded_mode:
        unsupported(operator, "padded_mode=True")


@reference("npu_moe_token_permute")
def npu_moe_token_permute(
    tokens: Tensor,
    indices: Tensor,
    num_out_tokens: int | None = None,
    padded_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    """Tokens sorted by expert, and where each pair has gone, int32.

    Args:
        tokens: ``(rows, H)``.
        indices: Experts, ``(rows,)`` or ``(rows, k)``.
        num_out_tokens: How many are kept; counted from the end if negative, None for all.
    """
    _unpadded("npu_moe_token_permute", padded_mode, None)
    each = 1 if indices.dim() == 1 else indices.size(1)
    order = indices.reshape(-1).argsort(stable=True)
    count = num_out_tokens or 0
    count = min(count, order.numel()) if count > 0 else order.numel() + count
    return tokens[order[:count] // each], order.argsort(stable=True).int()


def _permute_gradient(
    grad: Tensor, sorted_indices: Tensor, rows: int, dtype: torch.dtype, each: int
) -> Tensor:
    source = sorted_indices.long().argsort()[: grad.size(0)] // each
    whole = grad.new_zeros(rows, grad.size(1), dtype=widened(grad).dtype)
    return whole.index_add_(0, source, widened(grad)).to(dtype)


@reference("npu_moe_token_permute_grad")
def npu_moe_token_permute_grad(
    tokens: Tensor,
    grad_permuted_tokens: Tensor,
    indices: Tensor,
    sorted_indices: Tensor,
    padded_mode: bool = False,
) -> Tensor:
    _unpadded("npu_moe_token_permute_grad", padded_mode, None)
    each = 1 if indices.dim() == 1 else indices.size(1)
    return _permute_gradient(
        grad_permuted_tokens, sorted_indices, tokens.size(0), tokens.dtype, each
    )


@reference("npu_moe_token_permute_grad_v2")
def npu_moe_token_permute_grad_v2(
    grad_permuted_tokens: Tensor,
    sorted_indices: Tensor,
    tokens_size_0: int,
    tokens_dtype: torch.dtype,
    num_topK: int,
    padded_mode: bool = False,
) -> Tensor:
    _unpadded("npu_moe_token_permute_grad_v2", padded_mode, None)
    return _permute_gradient(
        grad_permuted_tokens, sorted_indices, tokens_size_0, tokens_dtype, num_topK
    )


def _merged(permuted: Tensor, places: Tensor, probs: Tensor | None) -> Tensor:
    """The sum of a row's copies, times their probabilities; copies beyond the end are zero."""
    each = 1 if probs is None else probs.size(1)
    index = places.long()
    there = (index < permuted.size(0)).unsqueeze(1)
    copies = torch.where(there, widened(permuted)[index.clamp(max=permuted.size(0) - 1)], 0.0)
    copies = copies.view(-1, each, permuted.size(1))
    if probs is not None:
        copies = copies * widened(probs).unsqueeze(2)
    return copies.sum(1).to(permuted.dtype)


@reference("_npu_moe_token_unpermute")
def _npu_moe_token_unpermute(
    permuted_tokens: Tensor,
    sorted_indices: Tensor,
    probs: Tensor | None = None,
    padded_mode: bool = False,
    restore_shape: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """The opposite of ``npu_moe_token_permute``; and the tokens as they came, for backward.

    Args:
        probs: ``(rows, k)``; None if each token went to one expert.
    """
    _unpadded("npu_moe_token_unpermute", padded_mode, restore_shape)
    return _merged(permuted_tokens, sorted_indices, probs), permuted_tokens


def _unpermute_gradients(
    permuted: Tensor, grad: Tensor, places: Tensor, probs: Tensor | None
) -> tuple[Any, Any]:
    def forward(tokens: Tensor, shares: Tensor | None) -> Tensor:
        return _merged(tokens, places, shares)

    found = vjp(forward, [permuted, probs], [grad])
    if probs is None:
        return found[0], None
    return narrowed(found, (permuted, probs))[0], found[1]


@reference("npu_moe_token_unpermute_grad")
def npu_moe_token_unpermute_grad(
    permuted_tokens: Tensor,
    grad_unpermuted_tokens: Tensor,
    sorted_indices: Tensor,
    probs: Tensor | None = None,
    padded_mode: bool = False,
    restore_shape: Sequence[int] | None = None,
) -> tuple[Any, Any]:
    """Gradients of the tokens and of ``probs``, None without them."""
    _unpadded("npu_moe_token_unpermute_grad", padded_mode, restore_shape)
    return _unpermute_gradients(permuted_tokens, grad_unpermuted_tokens, sorted_indices, probs)


@reference("npu_moe_token_unpermute_grad_v2")
def npu_moe_token_unpermute_grad_v2(
    grad_unpermuted_tokens: Tensor,
    sorted_indices: Tensor,
    permuted_tokens_size_0: int,
    permuted_tokens_dtype: torch.dtype,
    probs: Tensor | None = None,
    padded_mode: bool = False,
    restore_shape: Sequence[int] | None = None,
    permuted_tokens: Tensor | None = None,
) -> tuple[Any, Any]:
    """Gradients of the tokens, which only ``probs`` need, and of these."""
    _unpadded("npu_moe_token_unpermute_grad_v2", padded_mode, restore_shape)
    tokens = permuted_tokens
    if tokens is None:
        width = grad_unpermuted_tokens.size(1)
        tokens = grad_unpermuted_tokens.new_zeros(
            permuted_tokens_size_0, width, dtype=permuted_tokens_dtype
        )
    return _unpermute_gradients(tokens, grad_unpermuted_tokens, sorted_indices, probs)
