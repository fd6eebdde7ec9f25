"""Leaky ReLU that remembers what it did, in two bits a pixel; and the sizes around it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu, pad

__all__ = ["activate", "packed", "seen", "signs_shape", "sizes_of", "taps"]


def activate(
    value: Tensor, signs: Tensor | None, offset: list[int], gain: float, slope: float, clamp: float
) -> tuple[Tensor, Tensor]:
    """The activated values, and what was done to each: 0, 1 or 2, uint8."""
    value = value * gain
    if signs is None:
        code = (value < 0).to(torch.uint8)
        value = leaky_relu(value, slope)
        limited = value.abs() > clamp
        return value.clamp(-clamp, clamp), code.masked_fill_(limited, 2)
    shift = torch.tensor((0, 2, 4, 6), dtype=torch.uint8, device=signs.device)
    code = (signs[..., None] >> shift).bitwise_and_(3).flatten(3)
    code = _moved(code, offset, list(value.shape[2:]))
    value = torch.where(code.bitwise_and(1).bool(), value * slope, value)
    return value.masked_fill(code.bitwise_and(2).bool(), 0), code


def _moved(code: Tensor, offset: list[int], size: list[int]) -> Tensor:
    """What ``code`` has from (x, y) on for an image of ``size`` (y, x); 0 beyond it."""
    moved = code.new_zeros((*code.shape[:2], *size))
    to, of = [], []
    for start, length, known in zip(reversed(offset), size, code.shape[2:]):
        begin, end = max(start, 0), min(start + length, known)
        if begin >= end:
            return moved
        to.append(slice(begin - start, end - start))
        of.append(slice(begin, end))
    moved[:, :, to[0], to[1]] = code[:, :, of[0], of[1]]
    return moved


def packed(code: Tensor) -> Tensor:
    code = pad(code, (0, -code.shape[3] % 16)).unflatten(3, (-1, 4))
    place = torch.tensor((1, 4, 16, 64), dtype=torch.uint8, device=code.device)
    return (code * place).sum(4, dtype=torch.uint8)


def signs_shape(shape: Sequence[int], size: list[int]) -> tuple[int, ...]:
    return *shape[:2], size[0], (size[1] + 15) // 16 * 4


def sizes_of(
    shape: Sequence[int], filter_up: Tensor, filter_down: Tensor, sizes: list[int]
) -> tuple[list[int], list[int]]:
    """Sizes (y, x) of the up-sampled image and of the output."""
    up, down, *padding = sizes[:6]
    middle, size = [], []
    for i in (0, 1):
        n = shape[2 + i] * up + padding[2 * i] + padding[2 * i + 1] - taps(filter_up, i) + 1
        middle.append(n)
        size.append((n - taps(filter_down, i)) // down + 1)
    return middle, size


def taps(filter: Tensor, axis: int) -> int:
    """Of a filter along y or x; one of one dimension is one of both axes."""
    return filter.shape[0] if axis == 0 else filter.shape[-1]


def seen(size: list[int], filter_down: Tensor, down: int) -> list[int]:
    """Size (y, x) of the part of the up-sampled image that an output depends on."""
    return [(n - 1) * down + taps(filter_down, i) for i, n in enumerate(size)]
