"""Attention of the extension, in its calling convention."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ms_deform_attn_backward", "ms_deform_attn_forward"]


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    from mx_autopatch.ops.ms_deform_attn import ms_deform_attn

    return ms_deform_attn(
        value, value_spatial_shapes, value_level_start_index, sampling_locations, attention_weights
    )


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor | int,
    grad_sampling_loc: Tensor | None = None,
    grad_attn_weight: Tensor | None = None,
    im2col_step: int = 64,
) -> list[Tensor] | None:
    """Fill in the three gradients.

    mmcv 1.3.2 passes ``im2col_step`` in the place of the first, and wants the
    gradients returned.
    """
    from mx_autopatch.ops.ms_deform_attn import ms_deform_attn_backward

    tensors = value, value_spatial_shapes, value_level_start_index
    grads = ms_deform_attn_backward(grad_output, *tensors, sampling_locations, attention_weights)
    if grad_sampling_loc is None or grad_attn_weight is None or isinstance(grad_value, int):
        return list(grads)
    for target, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads):
        target.copy_(grad)
    return None
