"""Pooling of regions, one sample after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .sampling import border_sample, largest, pair, sample

__all__ = ["deform_roi_pool", "prroi_pool", "roi_align", "roi_pool", "samples_of", "stacked"]


def samples_of(length: Tensor | float, bins: int, ratio: int) -> int:
    """Samples of a bin along an axis."""
    return ratio if ratio > 0 else math.ceil(length / bins)


def stacked(values: list[Tensor], rois: int, bins: tuple[int, int], channels: int) -> Tensor:
    """(R, C, height, width) of values in the order of RoI, row and column."""
    if not values:
        return torch.zeros(rois, channels, *bins, dtype=torch.float64)
    return torch.stack(values).view(rois, *bins, -1).permute(0, 3, 1, 2)


def roi_align(
    input: Tensor,
    rois: Tensor,
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: str = "avg",
    aligned: bool = True,
) -> Tensor:
    """The mean or the maximum of samples on a grid in each bin."""
    bins = pair(output_size)
    values = []
    for image, *corners in rois:
        x1, y1, x2, y2 = (c * spatial_scale - (0.5 if aligned else 0.0) for c in corners)
        h, w = y2 - y1, x2 - x1
        if not aligned:
            h, w = h.clamp(min=1), w.clamp(min=1)
        grid_y = samples_of(h, bins[0], sampling_ratio)
        grid_x = samples_of(w, bins[1], sampling_ratio)
        for p in range(bins[0]):
            for q in range(bins[1]):
                samples = [
                    border_sample(
                        input[int(image)],
                        y1 + (p + (i + 0.5) / grid_y) * h / bins[0],
                        x1 + (q + (j + 0.5) / grid_x) * w / bins[1],
                    )
                    for i in range(grid_y)
                    for j in range(grid_x)
                ]
                if not samples:
                    values.append(input.new_zeros(input.shape[1]))
                else:
                    values.append(
                        torch.stack(samples).mean(0) if pool_mode == "avg" else largest(samples)
                    )
    return stacked(values, len(rois), bins, input.shape[1])


def roi_pool(
    input: Tensor, rois: Tensor, output_size: int | Sequence[int], spatial_scale: float = 1.0
) -> Tensor:
    """The largest of the pixels that a bin touches."""
    bins = pair(output_size)
    values = []
    for image, x1, y1, x2, y2 in rois.tolist():
        x1, y1 = x1 * spatial_scale, y1 * spatial_scale
        x2, y2 = (x2 + 1) * spatial_scale, (y2 + 1) * spatial_scale
        for p in range(bins[0]):
            for q in range(bins[1]):
                rows = _pixels(y1, y2, p, bins[0], input.shape[2])
                columns = _pixels(x1, x2, q, bins[1], input.shape[3])
                touched = [input[int(image), :, y, x] for y in rows for x in columns]
                values.append(largest(touched) if touched else input.new_zeros(input.shape[1]))
    return stacked(values, len(rois), bins, input.shape[1])


def _pixels(low: float, high: float, bin: int, bins: int, size: int) -> range:
    """Those of an axis that a bin touches; none of a RoI that ends before it begins."""
    step = (high - low) / bins
    begin, end = math.floor(low + bin * step), math.ceil(low + (bin + 1) * step)
    return range(max(begin, 0), min(end, size) if high > low else 0)


def prroi_pool(
    input: Tensor, rois: Tensor, output_size: int | Sequence[int], spatial_scale: float = 1.0
) -> Tensor:
    """The mean of the interpolated image, as an integral.

    It is bilinear between pixels, so its value in the middle of such a piece times the area
    is the integral over it.
    """
    bins = pair(output_size)
    values = []
    for image, *corners in rois:
        x1, y1, x2, y2 = (c * spatial_scale for c in corners)
        h, w = (y2 - y1) / bins[0], (x2 - x1) / bins[1]
        for p in range(bins[0]):
            for q in range(bins[1]):
                total = input.new_zeros(input.shape[1])
                if h > 0 and w > 0:
                    for a, b in _pieces(y1 + p * h, y1 + (p + 1) * h):
                        for c, d in _pieces(x1 + q * w, x1 + (q + 1) * w):
                            value = sample(input[int(image)], (a + b) / 2, (c + d) / 2)
                            total = total + value * ((b - a) * (d - c)) / (h * w)
                values.append(total)
    return stacked(values, len(rois), bins, input.shape[1])


def _pieces(low: Tensor, high: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Intervals between whole numbers."""
    inner = range(int(low.floor()) + 1, int(high.ceil()))
    edges = [low, *(low.new_tensor(edge) for edge in inner), high]
    yield from zip(edges, edges[1:])


def deform_roi_pool(
    input: Tensor,
    rois: Tensor,
    offset: Tensor | None,
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    gamma: float = 0.1,
) -> Tensor:
    """The mean of samples in bins, each moved by its offset times the size of the RoI."""
    bins = pair(output_size)
    if offset is None:
        offset = input.new_zeros(len(rois), 2, *bins)
    values = []
    for (image, *corners), moved in zip(rois, offset):
        x1, y1, x2, y2 = (c * spatial_scale - 0.5 for c in corners)
        h, w = y2 - y1, x2 - x1
        grid_y = samples_of(h, bins[0], sampling_ratio)
        grid_x = samples_of(w, bins[1], sampling_ratio)
        for p in range(bins[0]):
            for q in range(bins[1]):
                dx, dy = gamma * w * moved[0, p, q], gamma * h * moved[1, p, q]
                total = input.new_zeros(input.shape[1])
                for i in range(grid_y):
                    for j in range(grid_x):
                        y = y1 + dy + (p + (i + 0.5) / grid_y) * h / bins[0]
                        x = x1 + dx + (q + (j + 0.5) / grid_x) * w / bins[1]
                        total = total + border_sample(input[int(image)], y, x)
                values.append(total / max(grid_y * grid_x, 1))
    return stacked(values, len(rois), bins, input.shape[1])
