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

from ._bilinear import weighted_bags

__all__ = ["Taps", "bilinear_taps", "sampled", "scattered", "with_zero_row"]


@dataclass(frozen=True)
class Taps:
    """Four entries a sample: (..., 4) each."""

    row: Tensor  # int64
    weight: Tensor
    slope_y: Tensor  # derivatives of the weights
    slope_x: Tensor


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

    Returns:
        Entries whose row is -1 where a tap is outside, as ``sampled`` and ``scattered``
        want it.
    """
    inside = (y > -1) & (y < height) & (x > -1) & (x < width)
    y, x = (torch.where(inside, t, 0.0) for t in (y, x))
    y_low, x_low = y.floor(), x.floor()
    y_part, x_part = y - y_low, x - x_low
    y_low, x_low = y_low.long(), x_low.long()
    high_y, high_x = y_low + 1, x_low + 1
    row = (y_low * width).add_(x_low).mul_(step).add_(first)
    down = width * step
    counts = torch.stack(
        [
            inside & y_ok & x_ok
            for y_ok in (y_low >= 0, high_y < height)
            for x_ok in (x_low >= 0, high_x < width)
        ],
        -1,
    )
    rows = torch.stack((row, row + step, row + down, row + down + step), -1)
    y_rest, x_rest = 1 - y_part, 1 - x_part

    def four(*weights: Tensor) -> Tensor:
        return torch.stack(weights, -1).mul_(counts)

    return Taps(
        rows.masked_fill_(~counts, -1),
        four(y_rest * x_rest, y_rest * x_part, y_part * x_rest, y_part * x_part),
        four(-x_rest, -x_part, x_rest, x_part),
        four(-y_rest, y_rest, -y_part, y_part),
    )


def sampled(rows: Tensor, row: Tensor, weight: Tensor, size: int = 4) -> Tensor:
    """(N, C) weighted sums over each ``size`` entries; ``rows`` as ``with_zero_row`` has them."""
    row = row.flatten()
    row = torch.where(row < 0, rows.shape[0] - 1, row)
    count = row.new_full((row.numel() // size,), size)
    return weighted_bags(rows, row, weight.flatten().to(rows.dtype), count)


def scattered(grad: Tensor, row: Tensor, weight: Tensor, rows: int, size: int = 4) -> Tensor:
    """The transpose of ``sampled``: from (N, C) to the ``rows`` rows, without the zero row."""
    row, order = row.flatten().sort(stable=True)
    # Rows of -1 are first now, and are no bag.
    count = (row + 1).bincount(minlength=rows + 1)
    bag = order.div(size, rounding_mode="floor")
    weight = weight.flatten().to(grad.dtype)[order]
    return weighted_bags(grad, bag, weight, count)[1:]
