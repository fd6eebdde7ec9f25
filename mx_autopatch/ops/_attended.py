"""The maps that deformable attention looks at, and the points that it looks for."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ._check import compute_dtype

__all__ = ["Maps", "Points", "query_parts"]


class Maps:
    """The levels as rows of channels, each within two lines of zeros.

    A point is looked for no further away than these, so all of its taps exist, and those
    of a point beyond the map are zeros. (To give such taps a weight of 0 would not do,
    because 0 * inf is NaN.)
    """

    def __init__(self, value: Tensor, spatial_shapes: Tensor, level_start_index: Tensor) -> None:
        self.batch, _, self.heads, self.channels = value.shape
        self.shapes, self.starts = spatial_shapes.tolist(), level_start_index.tolist()
        self._check(value.shape[1])
        sizes = [(height + 4) * (width + 4) for height, width in self.shapes]
        self.begins = [sum(sizes[:i]) for i in range(len(sizes))]
        self.size = sum(sizes)
        rows = value.new_zeros(
            (self.batch, self.size, self.heads, self.channels), dtype=compute_dtype(value.dtype)
        )
        for inner, pixels in self._levels(rows, value):
            inner.copy_(pixels)
        self.rows = rows.view(-1, self.channels)

    def _check(self, pixels: int) -> None:
        for (height, width), start in zip(self.shapes, self.starts):
            if min(height, width, start) < 0 or start + height * width > pixels:
                raise ValueError(
                    f"ms_deform_attn: spatial_shapes: expected levels within the {pixels} pixels "
                    f"of value, got {self.shapes} from {self.starts}"
                )

    def _levels(self, rows: Tensor, value: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Views (B, H, W, heads, D) of each level in ``rows`` and in ``value``."""
        for (height, width), begin, start in zip(self.shapes, self.begins, self.starts):
            framed = rows[:, begin : begin + (height + 4) * (width + 4)]
            framed = framed.unflatten(1, (height + 4, width + 4))
            pixels = value[:, start : start + height * width].unflatten(1, (height, width))
            yield framed[:, 2:-2, 2:-2], pixels

    def add_to_value(self, rows: Tensor, value: Tensor) -> None:
        """What the pixels among ``rows`` are, added to theirs of ``value``."""
        rows = rows.view(self.batch, self.size, self.heads, self.channels)
        for inner, pixels in self._levels(rows, value):
            pixels += inner


class Points:
    """Points of some queries of all images: (queries, heads, levels, points) throughout."""

    def __init__(
        self, maps: Maps, locations: Tensor, attention: Tensor, image: Tensor, shapes: Tensor
    ) -> None:
        locations = locations.to(compute_dtype(locations.dtype))
        height, width = (t[:, None] for t in shapes.unbind(1))
        x, self.x = _floor(locations[..., 0], width)
        y, self.y = _floor(locations[..., 1], height)
        stride = width + 4
        begins = torch.tensor(maps.begins, device=shapes.device)[:, None] + 2 * stride + 2
        head = torch.arange(maps.heads, device=shapes.device)[:, None, None]
        row = (y * stride).add_(x).add_(begins).add_(image[:, None, None, None] * maps.size)
        row = row.mul_(maps.heads).add_(head)
        below = row + stride * maps.heads
        # Four taps, and in each of them all points of a head one after the other.
        self.row = torch.stack((row, row + maps.heads, below, below + maps.heads), 2)
        self.attention = attention.to(maps.rows.dtype)

    def weight(self) -> Tensor:
        below = self.attention * self.y
        above = self.attention - below
        above_right, below_right = above * self.x, below * self.x
        four = above - above_right, above_right, below - below_right, below_right
        return torch.stack(four, 2).to(self.attention.dtype)

    def gradients(self, maps: Maps, grad: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
        """In locations and attention, of ``grad`` (queries, heads, D)."""
        # index_select and a row times a matrix take a fraction of the time of indexing and
        # of a matrix times a column.
        taps = maps.rows.index_select(0, self.row.flatten())
        taps = taps.view(grad.shape[0] * maps.heads, -1, maps.channels)
        dots = torch.bmm(grad.reshape(-1, 1, maps.channels), taps.transpose(1, 2))
        dots = dots.view(self.row.shape)
        left, right, below_left, below_right = dots.unbind(2)
        along, along_below = right - left, below_right - below_left
        above = left + self.x * along
        down = below_left + self.x * along_below - above
        along = along + self.y * (along_below - along)
        slopes = torch.stack((along, down), -1)
        slopes = slopes.mul_(self.attention[..., None]).mul_(shapes.flip(1)[:, None])
        return slopes, above + self.y * down


def _floor(fraction: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The pixel line before each coordinate, and how far beyond it that is."""
    at = fraction * size - 0.5
    # NaN, and what lies beyond, to between two lines of zeros.
    at = torch.where(at > -1, at, -2).minimum(size.to(at.dtype))
    line = at.floor()
    return line.long(), at - line


def query_parts(locations: Tensor, points: int) -> Iterator[tuple[slice, Tensor]]:
    """Some queries at a time of all images' (B * Q, ...), and their images."""
    batch, queries = locations.shape[:2]
    step = max(points // max(locations[0, 0, ..., 0].numel(), 1), 1)
    image = torch.arange(batch, device=locations.device).repeat_interleave(queries)
    for begin in range(0, batch * queries, step):
        part = slice(begin, begin + step)
        yield part, image[part]
