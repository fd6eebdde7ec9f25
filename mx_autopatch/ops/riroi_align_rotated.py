"""RoIAlign of rotated boxes on features with orientations, rotation-invariant.

Han et al. 2021, "ReDet: A Rotation-equivariant Detector for Aerial Object Detection".
Upstream: ``mmcv.ops.riroi_align_rotated`` (compiled for CUDA only), mmcv 1.3.17 - 2.2.

Turning a RoI turns its features in space, which ``roi_align_rotated`` does, and shifts
their orientations cyclically, by a fraction: then two neighbours are mixed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ._check import compute_dtype
from ._pooling import (
    check_pooling,
    check_pooling_backward,
    pool,
    pool_backward,
    register_linear,
)
from .roi_align_rotated import rotated_bags

__all__ = ["riroi_align_rotated", "riroi_align_rotated_backward"]


def riroi_align_rotated(
    input: Tensor,
    rois: Tensor,
    output_size: int | Sequence[int],
    spatial_scale: float,
    num_samples: int = 0,
    num_orientations: int = 8,
    clockwise: bool = False,
) -> Tensor:
    """``roi_align_rotated`` whose output does not depend on how the scene is turned.

    Args:
        input: (B, C * num_orientations, H, W) floating, orientations innermost.
        rois: as there, with pixel centres at integers (``aligned=False`` of there).
        output_size: bins ``(height, width)``, or one number for both.
        spatial_scale: factor from image to ``input`` coordinates.
        num_samples: the ``sampling_ratio`` of there.
        num_orientations: of which each is another ``2 pi / num_orientations`` on.
        clockwise: the sense of the angle in the image.

    Returns:
        (R, C * num_orientations, height, width); orientation o is made of the
        orientations o - k and o - k + 1 of the turned features, with
        ``k + fraction = angle * num_orientations / 2 pi``. Otherwise as there. For angles
        below -2 pi the CUDA kernel reads elsewhere; here angles may be any.

    Raises:
        TypeError, ValueError: as there, or channels that are no multiple of the orientations.
    """
    name = "riroi_align_rotated"
    bins = check_pooling(name, input, rois, 6, output_size)
    options = float(spatial_scale), int(num_samples), int(num_orientations), bool(clockwise)
    _check_orientations(name, "input", input.shape[1], num_orientations)
    return riroi_align_rotated_op(input, rois, bins, *options)


def riroi_align_rotated_backward(
    grad_output: Tensor,
    rois: Tensor,
    input_shape: Sequence[int],
    spatial_scale: float,
    num_samples: int,
    num_orientations: int,
    clockwise: bool,
) -> Tensor:
    """Gradient in ``input`` of shape ``input_shape``; the other arguments as forward had them."""
    name = "riroi_align_rotated_backward"
    shape = check_pooling_backward(name, grad_output, rois, 6, input_shape)
    options = float(spatial_scale), int(num_samples), int(num_orientations), bool(clockwise)
    _check_orientations(name, "grad_output", grad_output.shape[1], num_orientations)
    return riroi_align_rotated_backward_op(grad_output, rois, shape, *options)


def _check_orientations(op: str, name: str, channels: int, num_orientations: int) -> None:
    if num_orientations < 1 or channels % num_orientations:
        raise ValueError(
            f"{op}: num_orientations: expected a divisor of the {channels} channels of {name}, "
            f"got {num_orientations}"
        )


def _turn(rois: Tensor, orientations: int) -> tuple[Tensor, Tensor]:
    """For each RoI the first of the two orientations (R, orientations), and the second's share."""
    turn = rois[:, 5].to(compute_dtype(rois.dtype)) * orientations / (2 * math.pi)
    whole = turn.floor()
    number = torch.arange(orientations, device=rois.device)
    return (number - whole.long()[:, None]) % orientations, (turn - whole)[
        :, None, None, None, None
    ]


def _by_orientation(features: Tensor, orientations: int) -> Tensor:
    return features.unflatten(1, (-1, orientations)).to(compute_dtype(features.dtype))


def _pick(features: Tensor, orientation: Tensor) -> Tensor:
    """Features (R, C, orientations, h, w) of the orientations (R, orientations)."""
    return features.gather(2, orientation[:, None, :, None, None].expand(features.shape))


_OPTIONS = "float spatial_scale, int num_samples, int num_orientations, bool clockwise"


@torch.library.custom_op(
    "mx_autopatch::riroi_align_rotated",
    mutates_args=(),
    schema=f"(Tensor input, Tensor rois, SymInt[] output_size, {_OPTIONS}) -> Tensor",
)
def riroi_align_rotated_op(
    input: Tensor,
    rois: Tensor,
    output_size: list[int],
    spatial_scale: float,
    num_samples: int,
    num_orientations: int,
    clockwise: bool,
) -> Tensor:
    options = spatial_scale, num_samples, False, clockwise
    bags = rotated_bags("riroi_align_rotated", rois, output_size, input.shape, *options)
    pooled = pool(input.to(compute_dtype(input.dtype)), bags, rois.shape[0], output_size)
    if not pooled.numel():
        return pooled.to(input.dtype)
    pooled = _by_orientation(pooled, num_orientations)
    first, share = _turn(rois, num_orientations)
    second = (first + 1) % num_orientations
    share = share.to(pooled.dtype)
    mixed = _pick(pooled, first).mul_(1 - share).add_(_pick(pooled, second).mul_(share))
    return mixed.flatten(1, 2).to(input.dtype)


@torch.library.custom_op(
    "mx_autopatch::riroi_align_rotated_backward",
    mutates_args=(),
    schema=f"(Tensor grad_output, Tensor rois, SymInt[] input_shape, {_OPTIONS}) -> Tensor",
)
def riroi_align_rotated_backward_op(
    grad_output: Tensor,
    rois: Tensor,
    input_shape: list[int],
    spatial_scale: float,
    num_samples: int,
    num_orientations: int,
    clockwise: bool,
) -> Tensor:
    if not grad_output.numel():
        return grad_output.new_zeros(input_shape)
    grad = _by_orientation(grad_output, num_orientations)
    first, share = _turn(rois, num_orientations)
    second = (first + 1) % num_orientations
    share = share.to(grad.dtype)
    # The transpose of picking: a permutation, undone by its inverse.
    mixed = _pick(grad * (1 - share), first.argsort(1))
    mixed += _pick(grad * share, second.argsort(1))
    bins = list(grad_output.shape[2:])
    options = spatial_scale, num_samples, False, clockwise
    bags = rotated_bags("riroi_align_rotated_backward", rois, bins, input_shape, *options)
    return pool_backward(mixed.flatten(1, 2), bags, input_shape).to(grad_output.dtype)


register_linear(riroi_align_rotated_op, riroi_align_rotated_backward_op)
