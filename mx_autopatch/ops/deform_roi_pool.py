"""Deformable RoI pooling.

Dai et al. 2017, "Deformable Convolutional Networks"; bins are averaged as in RoIAlign.
Upstream: ``mmcv.ops.deform_roi_pool`` (compiled for CUDA only), mmcv 1.3 - 2.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ._bilinear import pixel_rows
from ._check import check_same_device, check_tensor, compute_dtype
from ._pooling import (
    Bags,
    RoiSamples,
    adaptive_grid,
    check_pooling,
    pool,
    pool_backward,
    roi_images,
)
from ._roi_grid import split
from ._sampling import Taps, border_taps, sampled, with_zero_row

__all__ = ["deform_roi_pool", "deform_roi_pool_backward"]


def deform_roi_pool(
    input: Tensor,
    rois: Tensor,
    offset: Tensor | None,
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    gamma: float = 0.1,
) -> Tensor:
    """RoIAlign, averaging and aligned, with each bin moved by an offset of its own.

    Args:
        input: (B, C, H, W) floating.
        rois: (R, 5) floating, ``image index, x1, y1, x2, y2`` in image coordinates.
        offset: (R, 2, height, width), x first, in units of ``gamma`` times the RoI's width
            and height; None or empty moves nothing.
        output_size: bins ``(height, width)``, or one number for both.
        spatial_scale: factor from image to ``input`` coordinates.
        sampling_ratio: samples a bin along each axis; 0 (or less) takes
            ``ceil(RoI size / bins)``, for each RoI and axis on its own.
        gamma: see offset.

    Returns:
        (R, C, height, width) in the dtype of ``input``, differentiable once, in ``input``
        and ``offset``. A sample more than a pixel outside the image is 0. Half precision is
        calculated in float32 and rounded once. Where a sample lies on or beyond the border
        line of the image, the gradient in the offset is that of the function calculated;
        the CUDA kernel's differs there.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape or size, different devices, or (found on the CPU only,
            elsewhere undefined) an image index out of range.
    """
    bins = check_pooling("deform_roi_pool", input, rois, 5, output_size)
    offset = _check_offset("deform_roi_pool", input, rois, offset, bins)
    options = float(spatial_scale), int(sampling_ratio), float(gamma)
    return deform_roi_pool_op(input, rois, offset, bins, *options)


def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor | None,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> tuple[Tensor, Tensor]:
    """Gradients in ``input`` and ``offset`` (empty without offset)."""
    name = "deform_roi_pool_backward"
    check_tensor(name, "grad_output", grad_output, ("R", "C", "height", "width"))
    bins = check_pooling(name, input, rois, 5, grad_output.shape[2:])
    check_tensor(name, "grad_output", grad_output, (rois.shape[0], input.shape[1], *bins))
    offset = _check_offset(name, input, rois, offset, bins)
    check_same_device(name, input=input, grad_output=grad_output)
    options = float(spatial_scale), int(sampling_ratio), float(gamma)
    return deform_roi_pool_backward_op(grad_output, input, rois, offset, *options, [True, True])


def _check_offset(
    op: str, input: Tensor, rois: Tensor, offset: Tensor | None, bins: list[int]
) -> Tensor | None:
    if offset is None or (offset.dim() == 1 and offset.numel() == 0):
        return None  # the latter is how mmcv passes "no offset"
    check_tensor(op, "offset", offset, (rois.shape[0], 2, *bins))
    check_same_device(op, input=input, offset=offset)
    return offset


class _Pooling:
    """The samples of all bins, and what an offset moves them by."""

    def __init__(
        self,
        op: str,
        input: Tensor,
        rois: Tensor,
        offset: Tensor | None,
        bins: list[int],
        spatial_scale: float,
        sampling_ratio: int,
        gamma: float,
    ) -> None:
        images, _, *self.size = input.shape
        self.bins, self.offset = bins, offset
        self.image = roi_images(op, rois, images)
        corners = rois[:, 1:].to(compute_dtype(rois.dtype)) * spatial_scale - 0.5
        self.start, size = corners[:, :2], corners[:, 2:] - corners[:, :2]
        self.step = size / torch.tensor((bins[1], bins[0]), device=size.device)
        self.unit = (gamma * size)[:, :, None, None]  # of the offset, in pixels
        self.grid_x = adaptive_grid(size[:, 0], bins[1], sampling_ratio)
        self.grid_y = adaptive_grid(size[:, 1], bins[0], sampling_ratio)

    def parts(self) -> Iterator[tuple[slice, RoiSamples, Taps]]:
        height, width = self.size
        for part in split(4 * self.bins[0] * self.bins[1] * self.grid_y * self.grid_x + 1):
            samples = RoiSamples(self.grid_y[part], self.grid_x[part], self.bins)
            x = samples.x(self.start[part, 0], self.step[part, 0])
            y = samples.y(self.start[part, 1], self.step[part, 1])
            if self.offset is not None:
                moved = (self.offset[part] * self.unit[part]).transpose(0, 1).flatten(1)
                x, y = x + moved[0][samples.bin], y + moved[1][samples.bin]
            first = self.image[part][samples.roi] * (height * width)
            yield part, samples, border_taps(y, x, height, width, first)

    def bags(self) -> Bags:
        for part, samples, taps in self.parts():
            yield part, taps.row, taps.weight() / samples.each(), 4 * samples.count

    def grad_offset(self, grad_output: Tensor, input: Tensor) -> Tensor:
        dtype = compute_dtype(input.dtype)
        rows = with_zero_row(pixel_rows(input).to(dtype))
        grads = pixel_rows(grad_output).to(dtype).reshape(grad_output.shape[0], -1, rows.shape[1])
        grad = grads.new_empty((2, *grads.shape[:2]))
        for part, samples, taps in self.parts():
            for axis, slope in zip((1, 0), taps.slopes()):
                share = slope / samples.each()
                values = sampled(rows, taps.row, share, 4 * samples.count)
                grad[axis, part] = values.view(grads[part].shape).mul_(grads[part]).sum(2)
        return grad.transpose(0, 1).unflatten(2, self.bins) * self.unit


_OPTIONS = "float spatial_scale, int sampling_ratio, float gamma"


@torch.library.custom_op(
    "mx_autopatch::deform_roi_pool",
    mutates_args=(),
    schema="(Tensor input, Tensor rois, Tensor? offset, SymInt[] output_size, "
    f"{_OPTIONS}) -> Tensor",
)
def deform_roi_pool_op(
    input: Tensor, rois: Tensor, offset: Tensor | None, output_size: list[int], *options: Any
) -> Tensor:
    pooling = _Pooling("deform_roi_pool", input, rois, offset, output_size, *options)
    return pool(input, pooling.bags(), rois.shape[0], output_size)


@torch.library.custom_op(
    "mx_autopatch::deform_roi_pool_backward",
    mutates_args=(),
    schema="(Tensor grad_output, Tensor input, Tensor rois, Tensor? offset, "
    f"{_OPTIONS}, bool[] needed) -> (Tensor grad_input, Tensor grad_offset)",
)
def deform_roi_pool_backward_op(
    grad_output: Tensor, input: Tensor, rois: Tensor, offset: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor]:
    needed = options[-1]
    grad_input, grad_offset = _gradients(input, offset, needed)
    bins = list(grad_output.shape[2:])
    pooling = _Pooling("deform_roi_pool_backward", input, rois, offset, bins, *options[:-1])
    if needed[0]:
        grad_input = pool_backward(grad_output, pooling.bags(), list(input.shape))
        grad_input = grad_input.to(input.dtype)
    if grad_offset.numel():
        if input.numel():
            grad_offset.copy_(pooling.grad_offset(grad_output, input))
        else:
            grad_offset.zero_()
    return grad_input, grad_offset


def _gradients(input: Tensor, offset: Tensor | None, needed: list[bool]) -> tuple[Tensor, Tensor]:
    grad_input = input.new_empty(input.shape if needed[0] else (0,))
    if offset is None or not needed[1]:
        return grad_input, input.new_empty((0,))
    return grad_input, offset.new_empty(offset.shape)


@deform_roi_pool_op.register_fake
def _(
    input: Tensor, rois: Tensor, offset: Tensor | None, output_size: list[int], *options: Any
) -> Tensor:
    return input.new_empty((rois.shape[0], input.shape[1], *output_size))


@deform_roi_pool_backward_op.register_fake
def _(
    grad_output: Tensor, input: Tensor, rois: Tensor, offset: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor]:
    return _gradients(input, offset, options[-1])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, rois, offset, _, *ctx.options = inputs
    ctx.save_for_backward(input, rois, offset)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needed = [ctx.needs_input_grad[0], ctx.needs_input_grad[2]]
    grads = deform_roi_pool_backward_op(grad, *ctx.saved_tensors, *ctx.options, needed)
    grad_input, grad_offset = (g if want else None for g, want in zip(grads, needed))
    return grad_input, None, grad_offset, None, None, None, None


deform_roi_pool_op.register_autograd(_backward, setup_context=_setup_context)
