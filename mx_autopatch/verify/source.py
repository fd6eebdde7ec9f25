"""Random arguments that every dtype represents exactly.

Numbers are multiples of 1/32 between -4 and 4, halfway between two such, or whole and below
256. So bfloat16, half and float32 get the very same values as the float64 reference does;
distances and areas are exact in float32, and a comparison that the operator makes falls on the
same side.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Source"]

_STEP = 32


class Source:
    """Makes float64 tensors on the CPU.

    Args:
        seed: of the random numbers.
        coarse: from few different numbers, so that many are equal.
    """

    def __init__(self, seed: int, coarse: bool = False) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._coarse = coarse

    def values(self, *shape: int) -> Tensor:
        """Of a normal distribution."""
        drawn = torch.randn(shape, generator=self._generator, dtype=torch.float64).clamp(-4, 4)
        return drawn.round() if self._coarse else (drawn * _STEP).round() / _STEP

    def unit(self, *shape: int) -> Tensor:
        """Between 0 and 1."""
        steps = 2 if self._coarse else _STEP
        return self.whole(steps + 1, *shape).double() / steps

    def between(self, *shape: int) -> Tensor:
        """``values`` that are never whole, where an interpolation has two derivatives."""
        steps = 1 if self._coarse else _STEP
        drawn = torch.randn(shape, generator=self._generator, dtype=torch.float64)
        return ((drawn * steps).floor().clamp(-4 * steps, 4 * steps - 1) + 0.5) / steps

    def inside(self, *shape: int) -> Tensor:
        """Between 0 and 1, and on images of 2, 3, 4 or 6 pixels likewise between two."""
        steps = _STEP // 4 if self._coarse else _STEP
        return (self.whole(steps, *shape).double() + 0.5) / steps

    def whole(self, high: int, *shape: int) -> Tensor:
        """int64 in [0, ``high``)."""
        return torch.randint(0, high, shape, generator=self._generator)

    def boxes(self, number: int, extent: int = 128) -> Tensor:
        """(number, 4) corners in whole pixels; sizes from 1 to a quarter of ``extent``."""
        grid = extent // 8 if self._coarse else 1
        corner = self.whole(3 * extent // 4 // grid, number, 2) * grid
        size = (self.whole(extent // 4 // grid, number, 2) + 1) * grid
        return torch.cat((corner, corner + size), 1).double()

    def turned(self, number: int, extent: int = 128) -> Tensor:
        """(number, 5) ``x, y, w, h, angle``."""
        x1, y1, x2, y2 = self.boxes(number, extent).unbind(1)
        # Halves of whole numbers below 128 are exact in every dtype.
        width, height = x2 - x1, y2 - y1
        return torch.stack((x1, y1, width, height, self.values(number)), 1)

    def boxes3d(self, *shape: int) -> Tensor:
        r"""(\*shape, 7) ``x, y, z, dx, dy, dz, heading`` among points of ``values``."""
        place, size, heading = self.values(*shape, 3), self.unit(*shape, 3), self.values(*shape, 1)
        return torch.cat((place, size + 1, heading), -1)

    def rois(self, number: int, images: int, extent: int = 128) -> Tensor:
        """(number, 5) image and corners."""
        return torch.cat((self.whole(images, number, 1).double(), self.boxes(number, extent)), 1)

    def scores(self, number: int) -> Tensor:
        """(number,) different whole numbers over 256, equal ones where coarse."""
        if self._coarse:
            return self.unit(number)
        order = torch.randperm(max(number, 256), generator=self._generator)[:number]
        return (order % 256).double() / 256

    def order(self, number: int) -> Tensor:
        """(number,) all of 0 to ``number`` - 1, shuffled."""
        return torch.randperm(number, generator=self._generator)
