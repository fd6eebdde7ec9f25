"""Multi-scale deformable attention by mx_driving; torch_npu has no operator for it."""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

from .._check import compute_dtype
from ..ms_deform_attn import ms_deform_attn_backward_op, ms_deform_attn_op
from ._binding import bind, bind_differentiable, vjp
from ._mx_driving import mx_driving

__all__: list[str] = []

# The limits that mx_driving documents.
_MOST_HEADS, _MOST_CHANNELS, _MOST_POINTS = 8, 256, 64


def _function(value: Tensor, attention_weights: Tensor) -> Callable[..., Tensor] | None:
    """Of all five tensors; None if there is none, or it does not cover the call."""
    function = mx_driving("multi_scale_deformable_attn")
    heads, channels = value.shape[2:]
    covered = (
        compute_dtype(value.dtype) == torch.float32
        and min(value.numel(), attention_weights.numel()) > 0
        and channels % 8 == 0
        and channels <= _MOST_CHANNELS
        and heads <= _MOST_HEADS
        and attention_weights.shape[3] * attention_weights.shape[4] <= _MOST_POINTS
    )
    return function if covered else None


def _forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor | None:
    function = _function(value, attention_weights)
    if function is None:
        return None
    # Half precision in float32, as everywhere: rounded once.
    wide = value.float(), sampling_locations.float(), attention_weights.float()
    output = function(wide[0], spatial_shapes, level_start_index, wide[1], wide[2])
    return output.to(value.dtype)


def _backward(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor] | None:
    function = _function(value, attention_weights)
    if function is None:
        return None
    found, tensors = function, (value, sampling_locations, attention_weights)

    def attend(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return found(value, spatial_shapes, level_start_index, locations, weights)

    grads = vjp(attend, tuple(t.float() for t in tensors), grad_output.float())
    first, second, third = (
        g.to(t.dtype) if want else t.new_empty(0) for g, t, want in zip(grads, tensors, needed)
    )
    return first, second, third


bind_differentiable(ms_deform_attn_op, _forward)
bind(ms_deform_attn_backward_op, _backward)
