"""Values of images between their pixels."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["bilinear"]


def bilinear(images: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Interpolate linearly between the four pixels around each point; zero outside and for NaN.

    A point on a pixel belongs to the cell to its right and below, so the gradient there is
    the one-sided one that compiled kernels have.

    Args:
        images: ``(B, C, H, W)``.
        y: Rows, ``(B, P)``; pixel centres are at whole numbers.
        x: Columns, ``(B, P)``.

    Returns:
        ``(B, C, P)``; differentiable in all three.
    """
    channels, height, width = images.shape[1:]
    flat = images.flatten(2)
    # Compiled kernels ask whether a point is inside, which NaN is not.
    y, x = y.masked_fill(y.isnan(), -2), x.masked_fill(x.isnan(), -2)
    top, left = y.detach().floor(), x.detach().floor()
    result = images.new_zeros(())
    for row, row_share in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, column_share in ((left, 1 - (x - left)), (left + 1, x - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            index = place.long().unsqueeze(1).expand(-1, channels, -1)
            share = torch.where(inside, row_share * column_share, 0.0).unsqueeze(1)
            result = result + flat.gather(2, index) * share
    return result
