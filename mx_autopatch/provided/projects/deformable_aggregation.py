"""The extension ``deformable_aggregation_ext`` of Sparse4D, SparseDrive and their kin."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["deformable_aggregation_backward", "deformable_aggregation_forward"]


def deformable_aggregation_forward(
    mc_ms_feat: Tensor,
    spatial_shape: Tensor,
    scale_start_index: Tensor,
    sampling_location: Tensor,
    weights: Tensor,
) -> Tensor:
    """(B, anchors, C); see ``mx_autopatch.ops.deformable_aggregation``."""
    from mx_autopatch.ops.deformable_aggregation import deformable_aggregation

    return deformable_aggregation(
        mc_ms_feat, spatial_shape, scale_start_index, sampling_location, weights
    )


def deformable_aggregation_backward(
    mc_ms_feat: Tensor,
    spatial_shape: Tensor,
    scale_start_index: Tensor,
    sampling_location: Tensor,
    weights: Tensor,
    grad_output: Tensor,
    grad_mc_ms_feat: Tensor,
    grad_sampling_location: Tensor,
    grad_weights: Tensor,
) -> None:
    """Fill in the three gradients."""
    from mx_autopatch.ops.deformable_aggregation import deformable_aggregation_backward_op

    grads = deformable_aggregation_backward_op(
        grad_output, mc_ms_feat, spatial_shape, scale_start_index, sampling_location, weights
    )
    for target, grad in zip((grad_mc_ms_feat, grad_sampling_location, grad_weights), grads):
        target.copy_(grad)
