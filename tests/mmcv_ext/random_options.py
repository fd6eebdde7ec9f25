"""Random options and tensors for mmcv.ops, and how its results are compared with plain loops.

Each seed draws everything anew: strides, groups, modes, sizes down to none, regions beyond
the image. Some seeds run; more, with another first one, by hand:
``MMCV_OPS_SEEDS=1000:1200 pytest tests/mmcv_ext/test_random_maps.py``.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Any, Callable

import pytest
import torch
from torch import Tensor

FIRST, LAST = map(int, os.environ.get("MMCV_OPS_SEEDS", "0:6").split(":"))
seeds = pytest.mark.parametrize("seed", range(FIRST, LAST))


class Draw(random.Random):
    """Random options and float64 tensors."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._torch = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._torch, dtype=torch.float64)

    def uniform_(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._torch, dtype=torch.float64)

    def whole(self, high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=self._torch)

    def pair(self, low: int, high: int) -> tuple[int, int]:
        return self.randint(low, high), self.randint(low, high)

    def flag(self) -> bool:
        return self.random() < 0.5

    def image(self, channels: int) -> Tensor:
        return self.normal(self.randint(1, 2), channels, self.randint(1, 7), self.randint(1, 7))

    def corners(self, image: Tensor, scale: float) -> Tensor:
        """(R, 5) RoIs within the image, across its border and outside."""
        number = self.choice((0, 1, 4))
        height, width = (n / scale for n in image.shape[2:])
        extent = torch.tensor([width, height, width, height])
        corners = (self.uniform_(number, 4) * 1.6 - 0.3) * extent
        if self.flag():  # in order; else some are inside out
            low, high = corners.view(-1, 2, 2).sort(1).values.unbind(1)
            corners = torch.cat((low, high), 1)
        return torch.cat((self.whole(len(image), number, 1), corners), 1)

    def turned(self, image: Tensor, scale: float) -> Tensor:
        """(R, 6) likewise, turned."""
        image_index, x1, y1, x2, y2 = self.corners(image, scale).unbind(1)
        size = (x2 - x1).abs(), (y2 - y1).abs()
        angle = self.normal(len(x1)) * 4
        return torch.stack((image_index, (x1 + x2) / 2, (y1 + y2) / 2, *size, angle), 1)

    def boxes(self, number: int) -> Tensor:
        """(N, 4) with whole coordinates from 0 on: overlaps are exact, and some are equal."""
        low = self.whole(24, number, 2)
        return torch.cat((low, low + self.whole(12, number, 2) + 1), 1).double()

    def scores(self, number: int) -> Tensor:
        return self.whole(64, number).double() / 64


def compare(
    ours: Callable[..., Any],
    plain: Callable[..., Any],
    tensors: Sequence[Tensor],
    wrt: int,
    tolerance: float = 1e-9,
) -> None:
    """Results, and gradients in the first ``wrt`` tensors."""
    found = []
    for function in (ours, plain):
        leaves = [t.clone().requires_grad_(n < wrt) for n, t in enumerate(tensors)]
        output = function(*leaves)
        loss = (output * torch.arange(1.0, output.numel() + 1).cos().view(output.shape)).sum()
        # Where a loop added nothing there is no graph.
        loss = loss + sum(leaf.sum() * 0 for leaf in leaves[:wrt])
        grads = torch.autograd.grad(loss, leaves[:wrt]) if wrt else ()
        found.append((output.detach(), *grads))
    for got, want in zip(*found):
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)
