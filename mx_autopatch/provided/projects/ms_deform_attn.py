"""The extension ``MultiScaleDeformableAttention`` of Deformable DETR, Mask2Former and their kin.

Its functions have the names of mmcv's, but return the gradients in place of filling them in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ms_deform_attn_backward", "ms_deform_attn_forward"]


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_loc: Tensor,
    attn_weight: Tensor,
    im2col_step: int,
) -> Tensor:
    """(B, Q, heads * D); see ``mx_autopatch.ops.ms_deform_attn``."""
    from mx_autopatch.ops.ms_deform_attn import ms_deform_attn

    return ms_deform_attn(value, spatial_shapes, level_start_index, sampling_loc, attn_weight)


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_loc: Tensor,
    attn_weight: Tensor,
    grad_output: Tensor,
    im2col_step: int,
) -> list[Tensor]:
    """Gradients in ``value``, ``sampling_loc`` and ``attn_weight``."""
    from mx_autopatch.ops.ms_deform_attn import ms_deform_attn_backward as backward

    tensors = value, spatial_shapes, level_start_index, sampling_loc, attn_weight
    return list(backward(grad_output, *tensors))
