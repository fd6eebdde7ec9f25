"""The extension's functions that work, in its calling convention.

Operators are imported in the bodies, so that the module costs nothing until one
is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "get_compiler_version",
    "get_compiling_cuda_version",
    "nms",
    "roi_align_backward",
    "roi_align_forward",
    "sigmoid_focal_loss_backward",
    "sigmoid_focal_loss_forward",
    "softmax_focal_loss_backward",
    "softmax_focal_loss_forward",
]

_POOL_MODES = ("max", "avg")  # as mmcv numbers them


def get_compiler_version() -> str:
    """What mmcv's environment report shows as "MMCV Compiler"."""
    return "none (operators by mx_autopatch, on torch)"


def get_compiling_cuda_version() -> str:
    """What mmcv's environment report shows as "MMCV CUDA Compiler"."""
    return "not available"  # the words of mmcv's own build without CUDA


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    from mx_autopatch.ops import nms

    return nms(boxes, scores, iou_threshold, offset)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill in ``output``, and in max mode ``argmax_y`` and ``argmax_x``."""
    from mx_autopatch.ops.roi_align import roi_align_forward

    results = roi_align_forward(
        input,
        rois,
        (aligned_height, aligned_width),
        spatial_scale,
        sampling_ratio,
        _POOL_MODES[pool_mode],
        aligned,
    )
    for argument, result in zip((output, argmax_y, argmax_x), results):
        argument.copy_(result)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill in ``grad_input``."""
    from mx_autopatch.ops.roi_align import roi_align_backward

    grad_input.copy_(
        roi_align_backward(
            grad_output,
            rois,
            argmax_y,
            argmax_x,
            tuple(grad_input.shape),
            spatial_scale,
            sampling_ratio,
            _POOL_MODES[pool_mode],
            aligned,
        )
    )


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill in ``output``, element by element; an empty ``weight`` is none."""
    from mx_autopatch.ops.focal_loss import sigmoid_focal_loss

    output.copy_(sigmoid_focal_loss(input, target, gamma, alpha, weight))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill in ``grad_input``, the derivative of each element by its logit."""
    from mx_autopatch.ops.focal_loss import sigmoid_focal_loss_backward

    grad_input.copy_(sigmoid_focal_loss_backward(input, target, gamma, alpha, weight))


def softmax_focal_loss_forward(
    softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill in ``output`` (N,); an empty ``weight`` is none."""
    from mx_autopatch.ops.softmax_focal_loss import softmax_focal_loss

    logits = _logits(softmax)
    weight = weight.to(logits.dtype)
    output.copy_(softmax_focal_loss(logits, target, gamma, alpha, weight))


def softmax_focal_loss_backward(
    softmax: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fill in ``grad_input``, the derivatives of each row's loss by its logits."""
    from mx_autopatch.ops.softmax_focal_loss import softmax_focal_loss_backward

    logits = _logits(softmax)
    weight = weight.to(logits.dtype)
    grad_input.copy_(softmax_focal_loss_backward(logits, target, gamma, alpha, weight))


def _logits(softmax: Tensor) -> Tensor:
    """Logits of these probabilities, limited as the compiled function limits them."""
    import torch

    wide = softmax if softmax.dtype == torch.float64 else softmax.float()
    return wide.clamp(min=torch.finfo(torch.float32).tiny).log()
