"""Deformable aggregation: samples of all cameras and scales, weighted and summed.

Lin et al. 2023, "Sparse4D v2: Recurrent Temporal Fusion with Sparse Model", section 3.2.
Upstream: the extension ``deformable_aggregation_ext`` that the Sparse4D family compiles.

An instance is one weighted gather: four pixels of each scale for each of its points in each
camera. Most points are in one camera or two, so the others are left out first. A group of
channels has weights of its own, and is a gather of its own on the same pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._bilinear import weighted_bags
from ._check import check_same_device, check_tensor, compute_dtype
from ._sampling import Taps, bilinear_taps, sampled, with_zero_row

__all__ = ["deformable_aggregation"]

_INTEGERS = (torch.int32, torch.int64)
_NUMBERS = 1 << 20  # at a time in backward, so that they stay in the cache


def deformable_aggregation(
    feature_maps: Tensor,
    spatial_shape: Tensor,
    scale_start_index: Tensor,
    sampling_location: Tensor,
    weights: Tensor,
) -> Tensor:
    """Sum samples of feature maps, weighted by group of channels.

    Args:
        feature_maps: (B, S, C) floating; the maps of all cameras and scales one after
            another, each flattened in rows.
        spatial_shape: (cameras, scales, 2) int32 or int64, height and width.
        scale_start_index: (cameras, scales) int32 or int64, where in S each map begins.
        sampling_location: (B, anchors, points, cameras, 2) floating, ``x, y`` with the
            image from 0 to 1. A point at 0, at 1 or beyond counts nothing, nor does NaN.
            Between pixels it is interpolated; a map is 0 outside.
        weights: (B, anchors, points, cameras, scales, groups) floating.

    Returns:
        (B, anchors, C) in the dtype of ``feature_maps``, differentiable once in
        ``feature_maps``, ``sampling_location`` and ``weights``. Half precision is
        calculated in float32 and rounded once.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape, channels that the groups do not divide, different devices,
            or (found on the CPU only, elsewhere undefined) a map that reaches beyond S.
    """
    tensors = feature_maps, spatial_shape, scale_start_index, sampling_location, weights
    check_arguments("deformable_aggregation", *tensors)
    return deformable_aggregation_op(*tensors)


def check_arguments(
    op: str,
    feature_maps: Tensor,
    spatial_shape: Tensor,
    scale_start_index: Tensor,
    sampling_location: Tensor,
    weights: Tensor,
) -> None:
    """Raise unless these are arguments of ``deformable_aggregation``."""
    check_tensor(op, "feature_maps", feature_maps, ("B", "S", "C"))
    integers = {"spatial_shape": spatial_shape, "scale_start_index": scale_start_index}
    for name, tensor in integers.items():
        if isinstance(tensor, Tensor) and tensor.dtype not in _INTEGERS:
            raise TypeError(
                f"{op}: {name}: expected torch.int32 or torch.int64, got {tensor.dtype}"
            )
    dtype = getattr(spatial_shape, "dtype", None)
    check_tensor(op, "spatial_shape", spatial_shape, ("cameras", "scales", 2), dtype)
    cameras, scales, _ = spatial_shape.shape
    dtype = getattr(scale_start_index, "dtype", None)
    check_tensor(op, "scale_start_index", scale_start_index, (cameras, scales), dtype)
    batch, _, channels = feature_maps.shape
    shape: tuple[str | int, ...] = (batch, "anchors", "points", cameras, 2)
    check_tensor(op, "sampling_location", sampling_location, shape)
    shape = (*sampling_location.shape[:4], scales, "groups")
    check_tensor(op, "weights", weights, shape)
    if not weights.shape[5] or channels % weights.shape[5]:
        raise ValueError(
            f"{op}: weights: expected a number of groups that divides the {channels} channels "
            f"of feature_maps, got {weights.shape[5]}"
        )
    check_same_device(
        op,
        feature_maps=feature_maps,
        spatial_shape=spatial_shape,
        scale_start_index=scale_start_index,
        sampling_location=sampling_location,
        weights=weights,
    )


class _Samples:
    """The V points that some camera sees: four taps on each of its L scales."""

    def __init__(
        self,
        feature_maps: Tensor,
        spatial_shape: Tensor,
        scale_start_index: Tensor,
        sampling_location: Tensor,
        weights: Tensor,
    ) -> None:
        batch, pixels, channels = feature_maps.shape
        shapes, starts = spatial_shape.long(), scale_start_index.long()
        _check_maps(pixels, shapes, starts)
        self.anchors = sampling_location.shape[1] * batch
        dtype = compute_dtype(feature_maps.dtype)
        self.rows = feature_maps.reshape(-1, channels).to(dtype)
        inside = ((sampling_location > 0) & (sampling_location < 1)).all(-1)
        image, anchor, point, camera = inside.nonzero(as_tuple=True)
        self.where = image, anchor, point, camera
        #: The instance of each, in ascending order.
        self.bag = image * sampling_location.shape[1] + anchor
        self.sizes = shapes[camera]
        height, width = self.sizes.unbind(2)
        x, y = sampling_location[self.where].to(compute_dtype(sampling_location.dtype)).unbind(1)
        first = starts[camera] + image[:, None] * pixels
        self.taps: Taps = bilinear_taps(
            y[:, None] * height - 0.5, x[:, None] * width - 0.5, height, width, first, 1
        )
        self.weights = weights[self.where].to(dtype)  # (V, L, groups)

    def count(self) -> Tensor:
        """(anchors,) the entries of each."""
        scales = self.sizes.shape[1]
        return self.bag.bincount(minlength=self.anchors) * scales * 4


def _check_maps(pixels: int, shapes: Tensor, starts: Tensor) -> None:
    if shapes.device.type != "cpu" or not shapes.numel():
        return  # elsewhere looking at the values would make the host wait for the device
    end = int((starts + shapes.prod(2)).max())
    if end > pixels or int(starts.min()) < 0 or int(shapes.min()) < 0:
        raise ValueError(
            f"deformable_aggregation: spatial_shape: expected maps within the {pixels} pixels "
            f"of feature_maps, got {shapes.tolist()} from {starts.tolist()}"
        )


_TENSORS = (
    "Tensor feature_maps, Tensor spatial_shape, Tensor scale_start_index, "
    "Tensor sampling_location, Tensor weights"
)


@torch.library.custom_op(
    "mx_autopatch::deformable_aggregation", mutates_args=(), schema=f"({_TENSORS}) -> Tensor"
)
def deformable_aggregation_op(
    feature_maps: Tensor,
    spatial_shape: Tensor,
    scale_start_index: Tensor,
    sampling_location: Tensor,
    weights: Tensor,
) -> Tensor:
    batch, anchors, channels = *sampling_location.shape[:2], feature_maps.shape[2]
    output = feature_maps.new_zeros((batch, anchors, channels))
    if not (output.numel() and feature_maps.numel() and weights.numel()):
        return output
    some = _Samples(feature_maps, spatial_shape, scale_start_index, sampling_location, weights)
    tap_weights, count = some.taps.weight(), some.count()
    parts = zip(
        output.flatten(0, 1).chunk(weights.shape[5], 1),
        some.rows.chunk(weights.shape[5], 1),
        some.weights.unbind(2),
    )
    for part, rows, weight in parts:
        entries = tap_weights * weight[..., None]
        part.copy_(sampled(with_zero_row(rows), some.taps.row, entries, count))
    return output


@torch.library.custom_op(
    "mx_autopatch::deformable_aggregation_backward",
    mutates_args=(),
    schema=f"(Tensor grad_output, {_TENSORS}) -> (Tensor, Tensor, Tensor)",
)
def deformable_aggregation_backward_op(
    grad_output: Tensor,
    feature_maps: Tensor,
    spatial_shape: Tensor,
    scale_start_index: Tensor,
    sampling_location: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    tensors = feature_maps, sampling_location, weights
    grad_maps, grad_location, grad_weights = (t.new_zeros(t.shape) for t in tensors)
    if not (grad_output.numel() and feature_maps.numel() and weights.numel()):
        return grad_maps, grad_location, grad_weights
    some = _Samples(feature_maps, spatial_shape, scale_start_index, sampling_location, weights)
    grad = grad_output.reshape(some.anchors, -1).to(some.rows.dtype)
    grad_maps.copy_(_of_maps(some, grad).view(grad_maps.shape))
    by_location, by_weights = _of_points(some, grad)
    grad_location[some.where] = by_location.to(grad_location.dtype)
    grad_weights[some.where] = by_weights.to(grad_weights.dtype)
    return grad_maps, grad_location, grad_weights


def _of_maps(some: _Samples, grad: Tensor) -> Tensor:
    """(pixels, C): the same entries, now bagged by pixel, so nothing is added by two at once."""
    groups, pixels = some.weights.shape[2], some.rows.shape[0]
    row, order = some.taps.row.flatten().sort(stable=True)
    count = (row + 1).bincount(minlength=pixels + 1)  # those of no pixel are first
    per_point = some.taps.row[0].numel() if len(some.bag) else 1
    point = order.div(per_point, rounding_mode="floor")
    bag = some.bag.index_select(0, point)
    tap_weights = some.taps.weight()
    parts = []
    for part, weight in zip(grad.chunk(groups, 1), some.weights.unbind(2)):
        entries = (tap_weights * weight[..., None]).flatten()[order]
        parts.append(weighted_bags(part, bag, entries, count)[1:])
    return torch.cat(parts, 1)


def _of_points(some: _Samples, grad: Tensor) -> tuple[Tensor, Tensor]:
    """(V, 2) in the locations and (V, L, groups) in the weights."""
    groups, taps = some.weights.shape[2], some.taps
    rows = with_zero_row(some.rows)
    by_location = rows.new_zeros((len(some.bag), 2))
    by_weights = rows.new_zeros(some.weights.shape)
    tap_weights, (by_y, by_x) = taps.weight(), taps.slopes()
    step = max(_NUMBERS // max(taps.row[:1].numel() * rows.shape[1], 1), 1)
    for part in (slice(i, i + step) for i in range(0, len(some.bag), step)):
        row = taps.row[part]
        pixels = rows[torch.where(row < 0, rows.shape[0] - 1, row)]  # (V, L, 4, C)
        products = pixels.mul_(grad[some.bag[part]][:, None, None])
        dots = products.unflatten(3, (groups, -1)).sum(4)  # (V, L, 4, groups)
        by_weights[part] = (dots * tap_weights[part][..., None]).sum(2)
        weighted = (dots * some.weights[part][:, :, None]).sum(3)  # (V, L, 4)
        slopes = torch.stack(((weighted * by_x[part]).sum(2), (weighted * by_y[part]).sum(2)), 2)
        by_location[part] = (slopes * some.sizes[part].flip(2)).sum(1)
    return by_location, by_weights


@deformable_aggregation_op.register_fake
def _(
    feature_maps: Tensor,
    spatial_shape: Tensor,
    scale_start_index: Tensor,
    sampling_location: Tensor,
    weights: Tensor,
) -> Tensor:
    return feature_maps.new_empty((*sampling_location.shape[:2], feature_maps.shape[2]))


@deformable_aggregation_backward_op.register_fake
def _(
    grad_output: Tensor,
    feature_maps: Tensor,
    spatial_shape: Tensor,
    scale_start_index: Tensor,
    sampling_location: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    tensors = feature_maps, sampling_location, weights
    first, second, third = (t.new_empty(t.shape) for t in tensors)
    return first, second, third


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = deformable_aggregation_backward_op(grad, *ctx.saved_tensors)
    return grads[0], None, None, grads[1], grads[2]


deformable_aggregation_op.register_autograd(_backward, setup_context=_setup_context)
