"""Operators that rearrange or refine features, in the extension's calling convention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._releases import tensors_first

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "active_rotated_filter_backward",
    "active_rotated_filter_forward",
    "assign_score_withk_backward",
    "assign_score_withk_forward",
    "rotated_feature_align_backward",
    "rotated_feature_align_forward",
    "tin_shift_backward",
    "tin_shift_forward",
]


def active_rotated_filter_forward(input: Tensor, indices: Tensor, output: Tensor) -> None:
    """Fill in ``output``."""
    from mx_autopatch.ops.active_rotated_filter import active_rotated_filter

    output.copy_(active_rotated_filter(input, indices))


def active_rotated_filter_backward(grad_out: Tensor, indices: Tensor, grad_in: Tensor) -> None:
    """Fill in ``grad_in``."""
    from mx_autopatch.ops.active_rotated_filter import active_rotated_filter_backward

    grad_in.copy_(active_rotated_filter_backward(grad_out, indices))


def rotated_feature_align_forward(
    features: Tensor, best_bboxes: Tensor, output: Tensor, spatial_scale: float, points: int
) -> None:
    """Fill in ``output``."""
    from mx_autopatch.ops.rotated_feature_align import rotated_feature_align

    output.copy_(rotated_feature_align(features, best_bboxes, spatial_scale, points))


def rotated_feature_align_backward(
    top_grad: Tensor, best_bboxes: Tensor, bottom_grad: Tensor, spatial_scale: float, points: int
) -> None:
    """Fill in ``bottom_grad``."""
    from mx_autopatch.ops.rotated_feature_align import rotated_feature_align_backward

    bottom_grad.copy_(rotated_feature_align_backward(top_grad, best_bboxes, spatial_scale, points))


def tin_shift_forward(input: Tensor, shift: Tensor, output: Tensor) -> None:
    """Fill in ``output``."""
    from mx_autopatch.ops.tin_shift import tin_shift

    output.copy_(tin_shift(input, shift))


def tin_shift_backward(grad_output: Tensor, shift: Tensor, grad_input: Tensor) -> None:
    """Fill in ``grad_input``."""
    from mx_autopatch.ops.tin_shift import tin_shift_backward

    grad_input.copy_(tin_shift_backward(grad_output, shift))


@tensors_first
def assign_score_withk_forward(
    points: Tensor,
    centers: Tensor,
    scores: Tensor,
    knn_idx: Tensor,
    output: Tensor,
    B: int,
    N0: int,
    N1: int,
    M: int,
    K: int,
    O: int,  # noqa: E741 - the compiled function's name
    aggregate: int,
) -> None:
    """Add to ``output``; ``aggregate`` is ignored, as by the compiled function."""
    from mx_autopatch.ops.assign_score_withk import assign_score_withk

    output.add_(assign_score_withk(scores, points, centers, knn_idx))


@tensors_first
def assign_score_withk_backward(
    grad_out: Tensor,
    points: Tensor,
    centers: Tensor,
    scores: Tensor,
    knn_idx: Tensor,
    grad_points: Tensor,
    grad_centers: Tensor,
    grad_scores: Tensor,
    B: int,
    N0: int,
    N1: int,
    M: int,
    K: int,
    O: int,  # noqa: E741 - the compiled function's name
    aggregate: int,
) -> None:
    """Add to the three gradients."""
    from mx_autopatch.ops.assign_score_withk import assign_score_withk_backward

    grads = assign_score_withk_backward(grad_out, scores, points, centers, knn_idx)
    for target, grad in zip((grad_scores, grad_points, grad_centers), grads):
        target.add_(grad)
