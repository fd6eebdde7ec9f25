"""Linear interpolation on pixel lines, and weighted gathers of pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

__all__ = ["linear_taps", "pixel_rows", "weighted_bags"]


def linear_taps(coordinate: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The two neighbours of each coordinate on ``size`` pixels, and their weights.

    Up to one pixel outside counts as the border pixel; beyond that, and for NaN,
    the weights are 0. Adds a last dimension of 2 to the indices (int64) and weights.
    """
    inside = (coordinate >= -1) & (coordinate <= size)
    coordinate = torch.where(inside, coordinate, 0.0).clamp(0, size - 1)
    low = coordinate.floor()
    upper = coordinate - low
    low = low.long()
    index = torch.stack((low, (low + 1).clamp(max=size - 1)), -1)
    return index, torch.stack((1 - upper, upper), -1) * inside[..., None]


def pixel_rows(images: Tensor) -> Tensor:
    """(B, C, H, W) as (B * H * W, C): each pixel a contiguous row of channels."""
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])


def weighted_bags(rows: Tensor, index: Tensor, weight: Tensor, count: Tensor) -> Tensor:
    """Bag k is the weighted sum of the next ``count[k]`` rows of ``rows[index]``; 0 if none."""
    ends = torch.cat((count.new_zeros(1), count.cumsum(0)))
    # embedding_bag is fast for contiguous rows only, which an expanded gradient is not.
    return embedding_bag(
        index,
        rows.contiguous(),
        ends,
        mode="sum",
        per_sample_weights=weight,
        include_last_offset=True,
    )
