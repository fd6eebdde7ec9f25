"""From padded sequences to sequences behind each other, and back."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "index_first_axis",
    "index_first_axis_residual",
    "index_put_first_axis",
    "pad_input",
    "unpad_input",
    "unpad_input_for_concatenated_sequences",
]


def index_first_axis(input: Tensor, indices: Tensor) -> Tensor:
    """The rows that ``indices`` names."""
    return input.index_select(0, indices)


def index_first_axis_residual(input: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that ``indices`` names, and the whole input again."""
    return input.index_select(0, indices), input.view_as(input)


def index_put_first_axis(values: Tensor, indices: Tensor, first_axis_dim: int) -> Tensor:
    """Zeros of ``first_axis_dim`` rows, with ``values`` in the rows that ``indices`` names."""
    return values.new_zeros(first_axis_dim, *values.shape[1:]).index_copy(0, indices, values)


def unpad_input(
    hidden_states: Tensor, attention_mask: Tensor, unused_mask: Tensor | None = None
) -> Any:
    """The tokens that count, of (batch, S, ...) states.

    Args:
        attention_mask: (batch, S), 1 or True for what counts.
        unused_mask: (batch, S), likewise for tokens that are kept but do not count, as of
            flash-attn 2.7.

    Returns:
        (tokens, ...), their indices among all, int32 (batch + 1,) ends of sequences, and the
        length of the longest. With ``unused_mask`` also int32 (batch,), how many count.
    """
    if attention_mask.dim() != 2 or attention_mask.shape != hidden_states.shape[:2]:
        raise ValueError(
            f"unpad_input: attention_mask: expected shape {tuple(hidden_states.shape[:2])}, "
            f"got {tuple(attention_mask.shape)}"
        )
    if unused_mask is None:
        return _unpadded(hidden_states, attention_mask)
    kept = attention_mask + unused_mask
    return (*_unpadded(hidden_states, kept), attention_mask.sum(-1, dtype=torch.int32))


def _unpadded(states: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    lengths = kept.sum(-1, dtype=torch.int32)
    indices = kept.flatten().nonzero().flatten()
    ends = F.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
    longest = int(lengths.max()) if lengths.numel() else 0
    return index_first_axis(states.flatten(0, 1), indices), indices, ends, longest


def unpad_input_for_concatenated_sequences(
    hidden_states: Tensor, attention_mask_in_length: Tensor
) -> tuple[Tensor, Tensor, Tensor, int]:
    """The first four results of ``unpad_input`` where a row holds several sequences.

    Args:
        attention_mask_in_length: (batch, S) integers: a row begins with the lengths of the
            sequences that it holds one after another; the rest is 0.
    """
    lengths = attention_mask_in_length
    position = torch.arange(lengths.size(-1), device=lengths.device)
    kept = position < lengths.sum(-1, keepdim=True)
    tokens, indices, _, _ = _unpadded(hidden_states, kept)
    each = lengths[lengths > 0]
    ends = F.pad(each.cumsum(0, dtype=torch.int32), (1, 0))
    return tokens, indices, ends, int(each.max()) if each.numel() else 0


def pad_input(hidden_states: Tensor, indices: Tensor, batch: int, seqlen: int) -> Tensor:
    """(batch, seqlen, ...) of the tokens, zeros where there is none."""
    rows = index_put_first_axis(hidden_states, indices, batch * seqlen)
    return rows.view(batch, seqlen, *rows.shape[1:])
