"""The columns of a deformable convolution, and what their gradient does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ._bilinear import pixel_rows
from ._check import compute_dtype
from ._sampling import bilinear_taps, sampled, scattered, with_zero_row

__all__ = ["DeformColumns", "by_group", "image_parts", "weight_matrix"]

_ELEMENTS = 1 << 22  # of columns at a time, but at least one image


def image_parts(images: int, size: list[int], matrix: Tensor) -> Iterator[slice]:
    """Divide the images, so that few columns exist at a time.

    Args:
        size: of the output.
        matrix: (groups, *, elements of a column and group).
    """
    each = size[0] * size[1] * matrix.shape[0] * matrix.shape[2]
    step = max(_ELEMENTS // max(each, 1), 1)
    for begin in range(0, images, step):
        yield slice(begin, begin + step)


def weight_matrix(weight: Tensor, groups: int) -> Tensor:
    """(groups, O / groups, kh * kw * C / groups), in the dtype to calculate in."""
    rows = weight.permute(0, 2, 3, 1).reshape(groups, weight.shape[0] // groups, -1)
    return rows.to(compute_dtype(weight.dtype))


def by_group(columns: Tensor, groups: int) -> Tensor:
    """Columns (N, taps, C) as (groups, N, taps * C / groups)."""
    pixels, taps, channels = columns.shape
    columns = columns.view(pixels, taps, groups, channels // groups)
    return columns.permute(2, 0, 1, 3).reshape(groups, pixels, -1)


class DeformColumns:
    """Samples of images at each output pixel and tap of the kernel.

    As a tensor: (B * Ho * Wo, kh * kw, C), in the dtype to calculate in.
    """

    def __init__(
        self,
        input: Tensor,
        offset: Tensor,
        mask: Tensor | None,
        kernel: Sequence[int],
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        deform_groups: int,
    ) -> None:
        dtype = compute_dtype(input.dtype)
        images, self.channels, height, width = input.shape
        self.input_size, self.groups = input.shape, deform_groups
        self.kernel, self.size = list(kernel), list(offset.shape[2:])

        # Images, group, tap, axis, y, x: to images, y, x, tap, group, in which channels
        # of the columns then follow each other as in the input.
        offset = offset.to(dtype).reshape(images, deform_groups, -1, 2, *self.size)
        offset_y, offset_x = offset.permute(3, 0, 4, 5, 2, 1)
        starts = [
            torch.arange(n, device=input.device, dtype=dtype) * s - p
            for n, s, p in zip(self.size, stride, padding)
        ]
        steps = [
            torch.arange(k, device=input.device, dtype=dtype) * d
            for k, d in zip(self.kernel, dilation)
        ]
        taps_y, taps_x = (t.flatten() for t in torch.meshgrid(*steps, indexing="ij"))
        y = starts[0][:, None, None, None] + taps_y[:, None] + offset_y
        x = starts[1][:, None, None] + taps_x[:, None] + offset_x
        image = torch.arange(images, device=input.device) * (height * width * deform_groups)
        first = image[:, None] + torch.arange(deform_groups, device=input.device)
        self.taps = bilinear_taps(y, x, height, width, first[:, None, None, None], deform_groups)

        rows = pixel_rows(input).to(dtype).reshape(-1, self.channels // deform_groups)
        self.rows = with_zero_row(rows)
        self.mask: Tensor | None = None
        if mask is not None:
            mask = mask.to(dtype).reshape(images, deform_groups, -1, *self.size)
            self.mask = mask.permute(0, 3, 4, 2, 1)

    def _weight(self) -> Tensor:
        weight = self.taps.weight()
        return weight if self.mask is None else weight * self.mask[..., None]

    def values(self) -> Tensor:
        columns = sampled(self.rows, self.taps.row, self._weight())
        return columns.view(-1, self.kernel[0] * self.kernel[1], self.channels)

    def grad_input(self, grad: Tensor) -> Tensor:
        images, channels, height, width = self.input_size
        grad = grad.reshape(-1, channels // self.groups)
        rows = scattered(grad, self.taps.row, self._weight(), self.rows.shape[0] - 1)
        return rows.view(images, height, width, channels).permute(0, 3, 1, 2)

    def grad_offset(self, grad: Tensor) -> Tensor:
        slopes = [self._dot(grad, slope) for slope in self.taps.slopes()]
        both = torch.stack(slopes, -1)
        if self.mask is not None:
            both *= self.mask[..., None]
        # Images, y, x, tap, group, axis: to images, group, tap, axis, y, x.
        return both.permute(0, 4, 3, 5, 1, 2).flatten(1, 3)

    def grad_mask(self, grad: Tensor) -> Tensor:
        return self._dot(grad, self.taps.weight()).permute(0, 4, 3, 1, 2).flatten(1, 2)

    def _dot(self, grad: Tensor, weight: Tensor) -> Tensor:
        """What a unit of each sample's ``weight`` changes; shaped (B, Ho, Wo, taps, groups)."""
        values = sampled(self.rows, self.taps.row, weight)
        return values.mul_(grad.reshape(values.shape)).sum(1).view(weight.shape[:-1])
