"""What the poolings of RoIs share: bins as bags of pixels, taken some RoIs at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Callable

import torch
from torch import Tensor

from ._bilinear import pixel_rows
from ._check import check_same_device, check_tensor, compute_dtype
from ._sampling import sampled, scattered, with_zero_row

__all__ = [
    "Bags",
    "RoiSamples",
    "adaptive_grid",
    "check_pooling",
    "check_pooling_backward",
    "define_pooling",
    "pool",
    "pool_backward",
    "register_linear",
    "roi_images",
]

# Some RoIs, then row (-1: none) and weight of the entries of their bins, in the order
# of the bins, and how many entries each bin has.
Bags = Iterator[tuple[slice, Tensor, Tensor, Tensor]]

_MAX_GRID = 1 << 24  # float32 counts no further


def check_pooling(
    op: str, input: Tensor, rois: Tensor, columns: int, output_size: Any
) -> list[int]:
    """Raise unless ``input`` and ``rois`` are images and RoIs; return the bins along y and x."""
    check_tensor(op, "input", input, ("B", "C", "H", "W"))
    check_tensor(op, "rois", rois, ("R", columns))
    check_same_device(op, input=input, rois=rois)
    bins = [output_size] * 2 if isinstance(output_size, int) else list(output_size)
    if len(bins) != 2 or min(bins) < 1:
        raise ValueError(f"{op}: output_size: expected one or two sizes >= 1, got {output_size}")
    return bins


def check_pooling_backward(
    op: str, grad_output: Tensor, rois: Tensor, columns: int, input_shape: Sequence[int]
) -> list[int]:
    """Raise unless they fit; return the shape of the gradient in the input."""
    check_tensor(op, "grad_output", grad_output, ("R", "C", "height", "width"))
    check_tensor(op, "rois", rois, (grad_output.shape[0], columns))
    check_same_device(op, grad_output=grad_output, rois=rois)
    if len(input_shape) != 4 or input_shape[1] != grad_output.shape[1]:
        raise ValueError(
            f"{op}: input_shape: expected (B, {grad_output.shape[1]}, H, W), "
            f"got {tuple(input_shape)}"
        )
    return list(input_shape)


def roi_images(op: str, rois: Tensor, images: int) -> Tensor:
    """(R,) index of the image of each RoI.

    On the CPU indices out of range raise. Elsewhere looking at them would make the
    host wait for the device.
    """
    image = rois[:, 0].long()
    if image.device.type == "cpu" and image.numel():
        low, high = (int(t) for t in image.aminmax())
        if not 0 <= low <= high < images:
            raise ValueError(
                f"{op}: rois: expected an image index in [0, {images}) in column 0, "
                f"got {low} to {high}"
            )
    return image


def adaptive_grid(length: Tensor, bins: int, sampling_ratio: int) -> Tensor:
    """(R,) samples of a bin along one axis; ``length`` is that of the RoIs."""
    if sampling_ratio > 0:
        return torch.full_like(length, sampling_ratio, dtype=torch.int64)
    return (length / bins).ceil().nan_to_num(0.0, 0.0, 0.0).clamp(0, _MAX_GRID).long()


class RoiSamples:
    """A grid of samples in each bin of RoIs, each RoI with a grid of its own.

    Everything that is not a parameter has one element a sample; samples are ordered by
    RoI, then bin.

    Args:
        grid_y, grid_x: (R,) samples of a bin along either axis.
        bins: along y and x.
    """

    def __init__(self, grid_y: Tensor, grid_x: Tensor, bins: list[int]) -> None:
        self.count = (grid_y * grid_x).repeat_interleave(bins[0] * bins[1])
        bin = torch.arange(self.count.numel(), device=self.count.device)
        bin = bin.repeat_interleave(self.count)
        rank = torch.arange(bin.numel(), device=bin.device)
        rank -= (self.count.cumsum(0) - self.count)[bin]
        self.roi = bin.div(bins[0] * bins[1], rounding_mode="floor")
        self.bin_y = bin.div(bins[1], rounding_mode="floor") % bins[0]
        self.bin_x = bin % bins[1]
        self.bin = bin
        self.grid_y, self.grid_x = grid_y[self.roi], grid_x[self.roi]
        self.number_y = rank.div(self.grid_x, rounding_mode="floor")
        self.number_x = rank % self.grid_x

    def y(self, start: Tensor, step: Tensor) -> Tensor:
        """Where the samples are along y: (R,) start of the RoI and length of a bin.

        Summed in the compiled operators' order, so that roundings agree.
        """
        return start[self.roi] + self.bin_y * step[self.roi] + self.y_in_bin(step)

    def x(self, start: Tensor, step: Tensor) -> Tensor:
        return start[self.roi] + self.bin_x * step[self.roi] + self.x_in_bin(step)

    def y_in_bin(self, step: Tensor) -> Tensor:
        """From where the bin starts."""
        return (self.number_y + 0.5) * step[self.roi] / self.grid_y

    def x_in_bin(self, step: Tensor) -> Tensor:
        return (self.number_x + 0.5) * step[self.roi] / self.grid_x

    def each(self) -> Tensor:
        """(N, 1) how many samples share the bin."""
        return (self.grid_y * self.grid_x)[:, None]


def pool(input: Tensor, bags: Bags, rois: int, bins: list[int]) -> Tensor:
    """(R, C, *bins), the weighted sums over all bags, in the dtype of ``input``."""
    channels = input.shape[1]
    dtype = compute_dtype(input.dtype)
    output = input.new_zeros((rois, bins[0] * bins[1], channels), dtype=dtype)
    if output.numel() and input.numel():
        rows = with_zero_row(pixel_rows(input).to(dtype))
        for part, row, weight, count in bags:
            output[part] = sampled(rows, row, weight, count).view(-1, *output.shape[1:])
    result = input.new_empty((rois, channels, *bins))
    result.flatten(2).copy_(output.transpose(1, 2))
    return result


def pool_backward(grad_output: Tensor, bags: Bags, input_shape: list[int]) -> Tensor:
    """The transpose of ``pool``: (B, C, H, W) in the dtype of ``grad_output``."""
    images, channels, height, width = input_shape
    grad_input = grad_output.new_zeros(input_shape)
    if not (grad_output.numel() and grad_input.numel()):
        return grad_input
    grads = pixel_rows(grad_output).to(compute_dtype(grad_output.dtype))
    grads = grads.reshape(grad_output.shape[0], -1, channels)
    total: Tensor | None = None
    for part, row, weight, count in bags:
        grad = grads[part].flatten(0, 1)
        more = scattered(grad, row, weight, images * height * width, count)
        total = more if total is None else total.add_(more)
    assert total is not None  # as there are RoIs
    # Image by image: torch transposes a matrix in blocks, twice as fast as it permutes.
    for plane, rows in zip(grad_input.flatten(2), total.chunk(images)):
        plane.copy_(rows.T)
    return grad_input


def register_linear(op: Any, backward_op: Any) -> None:
    """The fake kernels and the autograd formula of a pooling that is linear in its input.

    Args:
        op: of (input, rois, output_size, *options) -> (R, C, *output_size).
        backward_op: of (grad_output, rois, input_shape, *options).
    """

    def fake(input: Tensor, rois: Tensor, output_size: list[int], *options: Any) -> Tensor:
        return input.new_empty((rois.shape[0], input.shape[1], *output_size))

    def fake_backward(
        grad_output: Tensor, rois: Tensor, input_shape: list[int], *options: Any
    ) -> Tensor:
        return grad_output.new_empty(input_shape)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, rois, _, *ctx.options = inputs
        ctx.input_shape = input.shape
        ctx.save_for_backward(rois)

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_input = backward_op(grad, *ctx.saved_tensors, ctx.input_shape, *ctx.options)
        return grad_input, None, None, *(None for _ in ctx.options)

    op.register_fake(fake)
    backward_op.register_fake(fake_backward)
    op.register_autograd(backward, setup_context=setup_context)


def define_pooling(name: str, options: str, bags: Callable[..., Bags]) -> tuple[Any, Any]:
    """Operators ``mx_autopatch::<name>`` and ``<name>_backward`` that pool over ``bags``.

    Args:
        options: their part of the schema.
        bags: of (name, rois, bins, input_shape, *options).
    """

    @torch.library.custom_op(
        f"mx_autopatch::{name}",
        mutates_args=(),
        schema=f"(Tensor input, Tensor rois, SymInt[] output_size, {options}) -> Tensor",
    )
    def op(input: Tensor, rois: Tensor, output_size: list[int], *options: Any) -> Tensor:
        parts = bags(name, rois, output_size, input.shape, *options)
        return pool(input, parts, rois.shape[0], output_size)

    @torch.library.custom_op(
        f"mx_autopatch::{name}_backward",
        mutates_args=(),
        schema=f"(Tensor grad_output, Tensor rois, SymInt[] input_shape, {options}) -> Tensor",
    )
    def backward_op(
        grad_output: Tensor, rois: Tensor, input_shape: list[int], *options: Any
    ) -> Tensor:
        bins = list(grad_output.shape[2:])
        parts = bags(f"{name}_backward", rois, bins, input_shape, *options)
        return pool_backward(grad_output, parts, input_shape)

    register_linear(op, backward_op)
    return op, backward_op
