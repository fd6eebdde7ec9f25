"""Deformable aggregation by mx_driving; torch_npu has no operator for it."""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

from .._check import compute_dtype
from ..deformable_aggregation import (
    deformable_aggregation_backward_op,
    deformable_aggregation_op,
)
from ._binding import bind, bind_differentiable, vjp
from ._mx_driving import mx_driving

__all__: list[str] = []

# The limits that mx_driving documents.
_MOST_IMAGES, _MOST_ANCHORS, _MOST_POINTS = 128, 2048, 2048
_MOST_CAMERAS, _MOST_SCALES, _MOST_CHANNELS, _GROUPS = 6, 4, 256, 8


def _function(
    feature_maps: Tensor,
    spatial_shape: Tensor,
    scale_start_index: Tensor,
    sampling_location: Tensor,
    weights: Tensor,
) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
    """Of the three floating tensors; None if it does not cover the call.

    Its documentation has the location as ``y, x`` and within the image. Its code has it as
    Sparse4D's, ``x, y``, and leaves out what is beyond.
    """
    function = mx_driving("deformable_aggregation") or mx_driving("npu_deformable_aggregation")
    batch, anchors, points, cameras, scales, groups = weights.shape
    channels = feature_maps.shape[2]
    covered = (
        compute_dtype(feature_maps.dtype) == torch.float32
        and min(feature_maps.numel(), weights.numel()) > 0
        and batch <= _MOST_IMAGES
        and anchors <= _MOST_ANCHORS
        and points <= _MOST_POINTS
        and cameras <= _MOST_CAMERAS
        and scales <= _MOST_SCALES
        and groups == _GROUPS
        and channels <= _MOST_CHANNELS
        and channels // groups % 8 == 0
    )
    if function is None or not covered:
        return None
    found, shapes, starts = function, spatial_shape.int(), scale_start_index.int()
    return lambda maps, locations, weights: found(maps, shapes, starts, locations, weights)


def _forward(
    feature_maps: Tensor,
    spatial_shape: Tensor,
    scale_start_index: Tensor,
    sampling_location: Tensor,
    weights: Tensor,
) -> Tensor | None:
    function = _function(feature_maps, spatial_shape, scale_start_index, sampling_location, weights)
    if function is None:
        return None
    # Half precision in float32, as everywhere: rounded once.
    output = function(feature_maps.float(), sampling_location.float(), weights.float())
    return output.to(feature_maps.dtype)


def _backward(
    grad_output: Tensor,
    feature_maps: Tensor,
    spatial_shape: Tensor,
    scale_start_index: Tensor,
    sampling_location: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """For who calls the backward operator: it has kept nothing."""
    function = _function(feature_maps, spatial_shape, scale_start_index, sampling_location, weights)
    if function is None:
        return None
    tensors = feature_maps, sampling_location, weights
    grads = vjp(function, tuple(t.float() for t in tensors), grad_output.float())
    first, second, third = (g.to(t.dtype) for g, t in zip(grads, tensors))
    return first, second, third


bind_differentiable(deformable_aggregation_op, _forward)
bind(deformable_aggregation_backward_op, _backward)
