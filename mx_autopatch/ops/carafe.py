"""CARAFE: upsampling with a kernel of its own for each pixel.

Wang et al. 2019, "CARAFE: Content-Aware ReAssembly of FEatures".
Upstream: ``mmcv.ops.carafe`` and ``carafe_naive`` (compiled for CUDA only), mmcv 1.3 - 2.2.
The two calculate the same.

An output pixel is a bag of the pixels around its source, weighted by its mask: one weighted
gather for all of them, without a copy of the neighbourhoods.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ._bilinear import pixel_rows
from ._check import check_same_device, check_tensor, compute_dtype
from ._sampling import sampled, scattered, with_zero_row

__all__ = ["carafe", "carafe_backward"]

_ELEMENTS = 1 << 20  # of neighbourhoods at a time, in the gradient of the masks


def carafe(
    features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> Tensor:
    """Upsample, each output pixel a weighted sum around its source.

    Args:
        features: (B, C, H, W) floating; 0 outside.
        masks: (B, group_size * kernel_size ** 2, H * scale_factor, W * scale_factor), for
            each group the weights of the window's pixels, row by row.
        kernel_size: of the window, odd.
        group_size: the channels in so many groups, each with masks of its own.
        scale_factor: of the size.

    Returns:
        (B, C, H * scale_factor, W * scale_factor) in the dtype of ``features``,
        differentiable once. Half precision is calculated in float32 and rounded once.

    Raises:
        TypeError: an argument is no tensor, not floating, or of different dtypes.
        ValueError: wrong shape or size, or different devices.
    """
    _check("carafe", features, masks, kernel_size, group_size, scale_factor)
    return carafe_op(features, masks, kernel_size, group_size, scale_factor)


def carafe_backward(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> tuple[Tensor, Tensor]:
    """Gradients in ``features`` and ``masks``."""
    name = "carafe_backward"
    _check(name, features, masks, kernel_size, group_size, scale_factor)
    shape = (*features.shape[:2], *masks.shape[2:])
    check_tensor(name, "grad_output", grad_output, shape, features.dtype)
    check_same_device(name, features=features, grad_output=grad_output)
    options = kernel_size, group_size, scale_factor
    return carafe_backward_op(grad_output, features, masks, *options, [True, True])


def _check(
    op: str,
    features: Tensor,
    masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    check_tensor(op, "features", features, ("B", "C", "H", "W"))
    batch, channels, height, width = features.shape
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"{op}: kernel_size: expected an odd number, got {kernel_size}")
    if scale_factor < 1:
        raise ValueError(f"{op}: scale_factor: expected at least 1, got {scale_factor}")
    if group_size < 1 or channels % group_size:
        raise ValueError(
            f"{op}: group_size: expected a divisor of the {channels} channels of features, "
            f"got {group_size}"
        )
    size = height * scale_factor, width * scale_factor
    shape = (batch, group_size * kernel_size**2, *size)
    check_tensor(op, "masks", masks, shape, features.dtype)
    check_same_device(op, features=features, masks=masks)


class _Windows:
    """Pixels and groups as rows of channels, and the window around each of them.

    The order is that of image, y, x, group throughout, then the output pixels of one source
    along y and x, then the pixels of the window.
    """

    def __init__(
        self, features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale: int
    ) -> None:
        self.dtype = compute_dtype(features.dtype)
        self.shape, self.groups, self.scale = features.shape, group_size, scale
        self.window = kernel_size**2
        images, channels, height, width = features.shape
        rows = pixel_rows(features).to(self.dtype).reshape(-1, channels // group_size)
        self.rows = with_zero_row(rows)
        masks = masks.to(self.dtype).reshape(
            images, group_size, self.window, height, scale, width, scale
        )
        self.weight = masks.permute(0, 3, 5, 1, 4, 6, 2).reshape(-1, scale * scale, self.window)

        reach = torch.arange(kernel_size, device=rows.device) - kernel_size // 2
        y = torch.arange(height, device=rows.device)[:, None] + reach
        x = torch.arange(width, device=rows.device)[:, None] + reach
        inside = ((y >= 0) & (y < height))[:, None, :, None] & ((x >= 0) & (x < width))[:, None]
        row = (y * width)[:, None, :, None] + x[:, None]
        image = torch.arange(images, device=rows.device)[:, None, None, None] * (height * width)
        group = torch.arange(group_size, device=rows.device)[:, None]
        row = (image + row.flatten(2))[:, :, :, None] * group_size + group
        row.masked_fill_(~inside.flatten(2)[:, :, None], -1)
        self.row = row.view(-1, self.window)

    def entries(self) -> Tensor:
        return self.row[:, None].expand(self.weight.shape)

    def to_image(self, output: Tensor) -> Tensor:
        """Rows of output pixels as (B, C, H * scale, W * scale)."""
        images, channels, height, width = self.shape
        scale = self.scale
        output = output.view(images, height, width, self.groups, scale, scale, -1)
        output = output.permute(0, 3, 6, 1, 4, 2, 5)
        return output.reshape(images, channels, height * scale, width * scale)

    def from_image(self, grad: Tensor) -> Tensor:
        """The inverse: (sources, output pixels, channels of a group)."""
        images, channels, height, width = self.shape
        scale, groups = self.scale, self.groups
        shape = images, groups, channels // groups, height, scale, width, scale
        grad = grad.to(self.dtype).reshape(shape).permute(0, 3, 5, 1, 4, 6, 2)
        return grad.reshape(-1, scale * scale, channels // groups)

    def grad_masks(self, grad: Tensor) -> Tensor:
        dots = torch.empty_like(self.weight)
        for part in self._parts():
            row = self.row[part].flatten()
            window = self.rows.index_select(0, row.where(row >= 0, self.rows.shape[0] - 1))
            window = window.view(-1, self.window, self.rows.shape[1])
            torch.bmm(grad[part], window.transpose(1, 2), out=dots[part])
        images, _, height, width = self.shape
        scale = self.scale
        dots = dots.view(images, height, width, self.groups, scale, scale, self.window)
        dots = dots.permute(0, 3, 6, 1, 4, 2, 5)
        return dots.reshape(images, -1, height * scale, width * scale)

    def _parts(self) -> Iterator[slice]:
        step = max(_ELEMENTS // (self.window * self.rows.shape[1]), 1)
        for begin in range(0, self.row.shape[0], step):
            yield slice(begin, begin + step)


_OPTIONS = "SymInt kernel_size, SymInt group_size, SymInt scale_factor"


@torch.library.custom_op(
    "mx_autopatch::carafe",
    mutates_args=(),
    schema=f"(Tensor features, Tensor masks, {_OPTIONS}) -> Tensor",
)
def carafe_op(
    features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> Tensor:
    if not (features.numel() and masks.numel()):
        return features.new_zeros((*features.shape[:2], *masks.shape[2:]))
    windows = _Windows(features, masks, kernel_size, group_size, scale_factor)
    output = sampled(windows.rows, windows.entries(), windows.weight, windows.window)
    return windows.to_image(output).to(features.dtype)


@torch.library.custom_op(
    "mx_autopatch::carafe_backward",
    mutates_args=(),
    schema=f"(Tensor grad_output, Tensor features, Tensor masks, {_OPTIONS}, bool[] needed)"
    " -> (Tensor grad_features, Tensor grad_masks)",
)
def carafe_backward_op(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
    needed: list[bool],
) -> tuple[Tensor, Tensor]:
    grad_features, grad_masks = _gradients(features, masks, needed)
    if not (features.numel() and masks.numel()):
        return grad_features.zero_(), grad_masks.zero_()
    windows = _Windows(features, masks, kernel_size, group_size, scale_factor)
    grad = windows.from_image(grad_output)
    if needed[0]:
        images, channels, height, width = features.shape
        rows = scattered(
            grad.flatten(0, 1),
            windows.entries(),
            windows.weight,
            windows.rows.shape[0] - 1,
            windows.window,
        )
        grad_features.copy_(rows.view(images, height, width, channels).permute(0, 3, 1, 2))
    if needed[1]:
        grad_masks.copy_(windows.grad_masks(grad))
    return grad_features, grad_masks


def _gradients(features: Tensor, masks: Tensor, needed: list[bool]) -> tuple[Tensor, Tensor]:
    grads = [t.new_empty(t.shape if n else (0,)) for t, n in zip((features, masks), needed)]
    return grads[0], grads[1]


@carafe_op.register_fake
def _(
    features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> Tensor:
    return features.new_empty((*features.shape[:2], *masks.shape[2:]))


@carafe_backward_op.register_fake
def _(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
    needed: list[bool],
) -> tuple[Tensor, Tensor]:
    return _gradients(features, masks, needed)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, masks, *ctx.options = inputs
    ctx.save_for_backward(features, masks)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needed = list(ctx.needs_input_grad[:2])
    grads = carafe_backward_op(grad, *ctx.saved_tensors, *ctx.options, needed)
    return *(g if n else None for g, n in zip(grads, needed)), None, None, None


carafe_op.register_autograd(_backward, setup_context=_setup_context)
