"""The sampling grid of axis-aligned RoIs, one axis at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ._bilinear import linear_taps

__all__ = ["Axis", "Shared", "bag_cost", "bags", "roi_axes", "split"]

# Entries of bags built at a time (some 60 bytes each), which bounds the memory.
_ENTRIES = 1 << 22
_MAX_GRID = 1 << 24  # float32 counts no further


class Shared(Protocol):
    """Bins along one axis of which ``bags`` can be made."""

    @property
    def bins(self) -> int: ...

    @property
    def size(self) -> int: ...

    def shares(self) -> Tensor:
        """Share (R, bins, size) of every pixel line in each bin."""


@dataclass(frozen=True)
class Axis:
    """R RoIs along one axis, in coordinates of the feature map."""

    start: Tensor  # (R,) where the first bin begins
    step: Tensor  # (R,) length of a bin
    grid: Tensor  # (R,) samples in a bin, int64
    bins: int
    size: int  # pixels of the feature map
    span: int  # samples looked at in a bin, at most

    def __getitem__(self, rois: slice | Tensor) -> Axis:
        grid = self.grid[rois]
        span = min(self.span, int(grid.amax()))
        return Axis(self.start[rois], self.step[rois], grid, self.bins, self.size, span)

    def samples(self) -> tuple[Tensor, Tensor]:
        """Coordinates of the samples (R, bins, span), and which of them count (R, span).

        Calculated in the compiled operator's order, so that roundings agree.
        """
        start, step, grid = (t[:, None, None] for t in (self.start, self.step, self.grid))
        number = torch.arange(self.span, device=start.device)
        begin = start + torch.arange(self.bins, device=start.device)[:, None] * step
        # In a bin that reaches far beyond the image, begin with the last sample before it.
        first = ((-1 - begin) * grid / step - 1.5).nan_to_num(0.0, 0.0, 0.0)
        first = first.clamp(0, _MAX_GRID).long().minimum((grid - self.span).clamp(min=0))
        coordinate = begin + ((first + number).to(step) + 0.5) * step / grid
        return coordinate, number < self.grid[:, None]

    def shares(self) -> Tensor:
        """Share (R, bins, size) of every pixel line in the average over a bin."""
        coordinate, counts = self.samples()
        index, weight = linear_taps(coordinate, self.size)
        grid = self.grid[:, None, None, None]
        weight = torch.where(counts[:, None, :, None], weight / grid, 0.0)
        share = weight.new_zeros(index.shape[0], self.bins, self.size)
        return share.scatter_add_(2, index.flatten(2), weight.flatten(2))

    def lines(self) -> Tensor:
        """(R,) about how many pixel lines a bin touches, never many fewer."""
        dense = self.step.nan_to_num(0.0).clamp(0, self.size).long() + 3
        return torch.minimum(2 * self.grid, dense).clamp(max=self.size)


def roi_axes(
    rois: Tensor,
    bins: list[int],
    sizes: list[int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> tuple[Axis, Axis]:
    """The y and x axis of RoIs (R, 5); ``bins`` and ``sizes`` are (y, x)."""
    corners = rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    x1, y1, x2, y2 = corners.unbind(1)

    def axis(low: Tensor, high: Tensor, bins: int, size: int) -> Axis:
        length = high - low
        step = (length if aligned else length.clamp(min=1)) / bins
        if sampling_ratio > 0:
            grid = torch.full_like(step, sampling_ratio, dtype=torch.int64)
            return Axis(low, step, grid, bins, size, sampling_ratio)
        grid = step.ceil().nan_to_num(0.0, 0.0, 0.0).clamp(0, _MAX_GRID).long()
        # Samples of an adaptive grid lie more than half a pixel apart.
        span = min(int(grid.amax()), 2 * size + 8)
        return Axis(low, step, grid, bins, size, span)

    return axis(y1, y2, bins[0], sizes[0]), axis(x1, x2, bins[1], sizes[1])


def split(cost: Tensor) -> Iterator[slice]:
    """Divide RoIs, whose ``cost`` (R,) is in entries of bags, to bound the memory."""
    part = cost.cumsum(0) // _ENTRIES
    begin = 0
    for length in part.unique_consecutive(return_counts=True)[1].tolist():
        yield slice(begin, begin + length)
        begin += length


def bag_cost(y: Axis, x: Axis) -> Tensor:
    """(R,) about how many entries ``bags`` needs for each RoI."""
    shares = y.bins * (y.size + y.span) + x.bins * (x.size + x.span)
    return y.bins * x.bins * y.lines() * x.lines() + shares


def bags(image: Tensor, y: Shared, x: Shared) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The pixels that each bin averages.

    Args:
        image: (R,) index of the image of each RoI, int64.

    Returns:
        For each entry, in order of the bins: its bin, its pixel (a row of
        ``pixel_rows``) and its weight; and how many entries each bin has.
    """
    y_roi, y_pixel, y_weight, y_count, y_begin = _taps(y)
    _, x_pixel, x_weight, x_count, x_begin = _taps(x)
    row = (image[y_roi] * y.size + y_pixel) * x.size

    shape = (image.shape[0], y.bins, x.bins)
    count = (y_count[:, :, None] * x_count[:, None, :]).flatten()
    bin = torch.arange(count.numel(), device=count.device).repeat_interleave(count)
    # Within its bin, an entry's rank counts through the x taps for each y tap.
    rank = torch.arange(bin.numel(), device=count.device) - (count.cumsum(0) - count)[bin]
    width = x_count[:, None, :].expand(shape).flatten()[bin]
    y_rank = rank.div(width, rounding_mode="floor")
    y_tap = y_begin[:, :, None].expand(shape).flatten()[bin].add_(y_rank)
    x_tap = x_begin[:, None, :].expand(shape).flatten()[bin].add_(rank.sub_(y_rank.mul_(width)))
    return bin, row[y_tap].add_(x_pixel[x_tap]), y_weight[y_tap].mul_(x_weight[x_tap]), count


def _taps(axis: Shared) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """RoI, pixel line and weight of all taps; for each bin (R, bins) their number and first."""
    share = axis.shares()
    roi, bin, pixel = share.nonzero().unbind(1)  # sorted by RoI, then bin
    count = (share != 0).sum(2)
    begin = count.flatten().cumsum(0).view_as(count) - count
    return roi, pixel, share[roi, bin, pixel], count, begin
