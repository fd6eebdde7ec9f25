"""Images (C, H, W) at places between their pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["border_sample", "largest", "pair", "pixel", "sample"]


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """One number for both axes, or (y, x)."""
    y, x = (size, size) if isinstance(size, int) else size
    return y, x


def largest(samples: list[Tensor]) -> Tensor:
    """Element by element; of equals the first, NaN never unless it is alone."""
    stack = torch.stack(samples)
    first = stack.detach().nan_to_num(nan=-math.inf).argmax(0, keepdim=True)
    return stack.gather(0, first)[0]


def pixel(image: Tensor, y: int, x: int) -> Tensor:
    """One pixel (C,), zero outside."""
    inside = 0 <= y < image.shape[1] and 0 <= x < image.shape[2]
    return image[:, y, x] if inside else image.new_zeros(image.shape[0])


def sample(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Between pixels (C,), zero outside; NaN is outside."""
    if not (-1 < y < image.shape[1] and -1 < x < image.shape[2]):
        return image.new_zeros(image.shape[0])
    y0, x0 = int(y.floor()), int(x.floor())
    top = pixel(image, y0, x0) * (x0 + 1 - x) + pixel(image, y0, x0 + 1) * (x - x0)
    bottom = pixel(image, y0 + 1, x0) * (x0 + 1 - x) + pixel(image, y0 + 1, x0 + 1) * (x - x0)
    return top * (y0 + 1 - y) + bottom * (y - y0)


def border_sample(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """``sample``, with one more pixel around the image that repeats its border."""
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return image.new_zeros(image.shape[0])
    return sample(image, y.clamp(0, height - 1), x.clamp(0, width - 1))
