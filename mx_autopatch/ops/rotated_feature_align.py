"""Features refined by those at the corners of each pixel's rotated box.

Yang et al. 2021, "R3Det: Refined Single-Stage Detector with Feature Refinement for
Rotating Object".
Upstream: ``mmcv.ops.rotated_feature_align`` (compiled), mmcv 1.3.17 - 2.2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._bilinear import pixel_rows
from ._check import check_same_device, check_tensor, compute_dtype
from ._sampling import border_taps, sampled, scattered, with_zero_row

__all__ = ["rotated_feature_align", "rotated_feature_align_backward"]


def rotated_feature_align(
    features: Tensor, boxes: Tensor, spatial_scale: float = 1 / 8, points: int = 1
) -> Tensor:
    """Add bilinear samples at the centre, or centre and corners, of a box to each pixel.

    Args:
        features: (B, C, H, W) floating.
        boxes: (B, H, W, 5) floating: for each pixel ``y, x, width, height, angle`` in image
            coordinates and radians. That y comes first is upstream's order.
        spatial_scale: factor from image to ``features`` coordinates.
        points: 1, the centre, or 5, the corners too.

    Returns:
        (B, C, H, W) in the dtype of ``features``, differentiable once, in ``features``
        only. A sample more than a pixel outside the image is 0. Half precision is
        calculated in float32 and rounded once.

    Raises:
        TypeError: an argument is no tensor or not floating.
        ValueError: wrong shape, different devices, or points neither 1 nor 5.
    """
    name = "rotated_feature_align"
    _check(name, "features", features, boxes, points)
    return rotated_feature_align_op(features, boxes, float(spatial_scale), int(points))


def rotated_feature_align_backward(
    grad_output: Tensor, boxes: Tensor, spatial_scale: float, points: int
) -> Tensor:
    """Gradient in ``features``."""
    name = "rotated_feature_align_backward"
    _check(name, "grad_output", grad_output, boxes, points)
    options = float(spatial_scale), int(points)
    return rotated_feature_align_backward_op(grad_output, boxes, *options)


def _check(op: str, name: str, features: Tensor, boxes: Tensor, points: int) -> None:
    check_tensor(op, name, features, ("B", "C", "H", "W"))
    batch, _, height, width = features.shape
    check_tensor(op, "boxes", boxes, (batch, height, width, 5))
    check_same_device(op, **{name: features, "boxes": boxes})
    if points not in (1, 5):
        raise ValueError(f"{op}: points: expected 1 or 5, got {points}")


def _entries(boxes: Tensor, spatial_scale: float, points: int) -> tuple[Tensor, Tensor]:
    """Rows and weights of the samples of each pixel: (pixels, points * 4)."""
    batch, height, width, _ = boxes.shape
    boxes = boxes.to(compute_dtype(boxes.dtype)).flatten(0, 2)
    y, x, w, h = (boxes[:, :4] * spatial_scale).unbind(1)
    y, x = y[:, None], x[:, None]
    if points == 5:
        cos, sin = boxes[:, 4].cos(), boxes[:, 4].sin()
        along = torch.stack((cos, sin)) * (w / 2)
        across = torch.stack((-sin, cos)) * (h / 2)
        # x and y of the centre and of the corners, from it.
        corners = [
            torch.zeros_like(along),
            along + across,
            across - along,
            -along - across,
            along - across,
        ]
        dx, dy = torch.stack(corners, -1)
        y, x = y + dy, x + dx
    image = torch.arange(batch, device=boxes.device).repeat_interleave(height * width)
    taps = border_taps(y, x, height, width, image[:, None] * (height * width))
    return taps.row.flatten(1), taps.weight().flatten(1)


_OPTIONS = "float spatial_scale, int points"


@torch.library.custom_op(
    "mx_autopatch::rotated_feature_align",
    mutates_args=(),
    schema=f"(Tensor features, Tensor boxes, {_OPTIONS}) -> Tensor",
)
def rotated_feature_align_op(
    features: Tensor, boxes: Tensor, spatial_scale: float, points: int
) -> Tensor:
    if not features.numel():
        return features.new_empty(features.shape)
    rows = with_zero_row(pixel_rows(features).to(compute_dtype(features.dtype)))
    row, weight = _entries(boxes, spatial_scale, points)
    output = sampled(rows, row, weight, row.shape[1]).add_(rows[:-1])
    return _to_images(output, features)


@torch.library.custom_op(
    "mx_autopatch::rotated_feature_align_backward",
    mutates_args=(),
    schema=f"(Tensor grad_output, Tensor boxes, {_OPTIONS}) -> Tensor",
)
def rotated_feature_align_backward_op(
    grad_output: Tensor, boxes: Tensor, spatial_scale: float, points: int
) -> Tensor:
    if not grad_output.numel():
        return grad_output.new_empty(grad_output.shape)
    rows = pixel_rows(grad_output).to(compute_dtype(grad_output.dtype))
    row, weight = _entries(boxes, spatial_scale, points)
    grad = scattered(rows.contiguous(), row, weight, rows.shape[0], row.shape[1])
    return _to_images(grad + rows, grad_output)


def _to_images(rows: Tensor, like: Tensor) -> Tensor:
    batch, channels, height, width = like.shape
    images = like.new_empty(like.shape)
    return images.copy_(rows.view(batch, height, width, channels).permute(0, 3, 1, 2))


@rotated_feature_align_op.register_fake
@rotated_feature_align_backward_op.register_fake
def _fake(features: Tensor, boxes: Tensor, spatial_scale: float, points: int) -> Tensor:
    return features.new_empty(features.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, boxes, *ctx.options = inputs
    ctx.save_for_backward(boxes)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad = rotated_feature_align_backward_op(grad, *ctx.saved_tensors, *ctx.options)
    return grad, None, None, None


rotated_feature_align_op.register_autograd(_backward, setup_context=_setup_context)
