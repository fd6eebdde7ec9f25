"""Bilinear samples of images that are zero outside, and their derivatives.

Sampling is linear in the pixels: a sample is a bag of four rows with weights. Its
slope along y or x is a bag of the same rows with other weights, and the gradient
in the pixels is the same entries, bagged by pixel instead of by sample. So all of
them are weighted gathers, and none needs an addition by several threads to one place.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._bilinear import linear_taps, weighted_bags

__all__ = [
    "Taps",
    "bilinear_taps",
    "border_taps",
    "sampled",
    "scattered",
    "with_zero_row",
]


@dataclass(frozen=True)
class Taps:
    """Four entries a sample, in the order of (y, x) = 00, 01, 10, 11."""

    row: Tensor  # (..., 4) int64, -1 outside
    y: Tensor  # (..., 2) weights of the lower and the upper line, 0 outside
    x: Tensor
    y_slope: Tensor  # (..., 2) derivatives of those: -1 and 1, or 0 outside
    x_slope: Tensor

    def weight(self) -> Tensor:
        """(..., 4)"""
        return _outer(self.y, self.x)

    def slopes(self) -> tuple[Tensor, Tensor]:
        """(..., 4) derivatives of the weights by y and by x."""
        return _outer(self.y_slope, self.x), _outer(self.y, self.x_slope)


def _outer(y: Tensor, x: Tensor) -> Tensor:
    return (y[..., :, None] * x[..., None, :]).flatten(-2)


def with_zero_row(rows: Tensor) -> Tensor:
    """``rows`` (N, C) and one row of zeros, which stands for all pixels outside.

    A weight of 0 on some pixel would not do instead, because 0 * inf is NaN.
    """
    return torch.cat((rows, rows.new_zeros(1, rows.shape[1])))


def bilinear_taps(
    y: Tensor, x: Tensor, height: Tensor | int, width: Tensor | int, first: Tensor, step: int
) -> Taps:
    """The four pixels around each point, on images that are zero outside.

    Args:
        y, x: coordinates in pixels, of one shape; pixel centres are integers. NaN, and
            everything a pixel or more outside, has no tap.
        height, width: of the image of each point.
        first: row of the first pixel of the image of each point.
        step: rows from one pixel to the next.
    """
    inside = (y > -1) & (y < height) & (x > -1) & (x < width)
    y_line, y_counts, y, y_slope = _two(y, inside, height)
    x_line, x_counts, x, x_slope = _two(x, inside, width)
    scale = width[..., None] if isinstance(width, Tensor) else width
    y_line = (y_line * scale).mul_(step).add_(first[..., None])
    row = (y_line[..., :, None] + x_line.mul_(step)[..., None, :]).flatten(-2)
    row.masked_fill_(~(y_counts[..., :, None] & x_counts[..., None, :]).flatten(-2), -1)
    return Taps(row, y, x, y_slope, x_slope)


def _two(
    coordinate: Tensor, inside: Tensor, size: Tensor | int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lines around each coordinate, which of them count, their weights and slopes."""
    coordinate = torch.where(inside, coordinate, 0.0)
    low = coordinate.floor()
    part = coordinate - low
    low = low.long()
    counts = torch.stack((inside & (low >= 0), inside & (low + 1 < size)), -1)
    weight = torch.stack((1 - part, part), -1).mul_(counts)
    return torch.stack((low, low + 1), -1), counts, weight, counts * weight.new_tensor((-1, 1))


def border_taps(y: Tensor, x: Tensor, height: int, width: int, first: Tensor) -> Taps:
    """``bilinear_taps`` where up to one pixel outside counts as the border pixel.

    That is how RoIs are sampled. ``first`` counts pixels, as in ``pixel_rows``.
    """
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y_line, y_weight = linear_taps(y, height)
    x_line, x_weight = linear_taps(x, width)
    row = (y_line * width + first[..., None])[..., :, None] + x_line[..., None, :]
    row = row.flatten(-2).masked_fill_(~inside[..., None], -1)

    def slope(coordinate: Tensor, size: int) -> Tensor:
        free = inside & (coordinate >= 0) & (coordinate < size - 1)
        return free[..., None] * coordinate.new_tensor((-1, 1))

    return Taps(row, y_weight, x_weight, slope(y, height), slope(x, width))


def sampled(rows: Tensor, row: Tensor, weight: Tensor, size: int | Tensor = 4) -> Tensor:
    """(N, C) weighted sums over entries.

    Args:
        rows: as ``with_zero_row`` has them.
        row, weight: of each entry; the row -1 is the row of zeros.
        size: entries of each sum, or (N,) those of every sum on its own.
    """
    row = row.flatten()
    row = torch.where(row < 0, rows.shape[0] - 1, row)
    if isinstance(size, int):
        size = row.new_full((row.numel() // size,), size)
    return weighted_bags(rows, row, weight.flatten().to(rows.dtype), size)


def scattered(
    grad: Tensor, row: Tensor, weight: Tensor, rows: int, size: int | Tensor = 4
) -> Tensor:
    """The transpose of ``sampled``: from (N, C) to the ``rows`` rows, without the zero row."""
    if rows < 1 << 31:
        row = row.int()  # sorts in half the time
    row, order = row.flatten().sort(stable=True)
    # Rows of -1 are first now, and are a bag of their own.
    count = (row + 1).bincount(minlength=rows + 1)
    if isinstance(size, int):
        bag = order.div(size, rounding_mode="floor")
    else:
        bag = torch.arange(size.numel(), device=row.device).repeat_interleave(size)
        bag = bag.index_select(0, order)
    weight = weight.flatten().to(grad.dtype).index_select(0, order)
    return weighted_bags(grad, bag, weight, count)[1:]
