"""Pooling of turned and curved regions and along the sides of boxes, sample by sample."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .pooling import samples_of, stacked
from .sampling import border_sample, largest, pair

__all__ = [
    "bezier_align",
    "border_align",
    "riroi_align_rotated",
    "roi_align_rotated",
    "rotated_feature_align",
]


def roi_align_rotated(
    input: Tensor,
    rois: Tensor,
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
    clockwise: bool = False,
) -> Tensor:
    """The mean of samples on a grid that is turned about the centre of the RoI."""
    bins = pair(output_size)
    values = []
    for image, *box, angle in rois:
        cx, cy, w, h = (t * spatial_scale for t in box)
        if aligned:
            cx, cy = cx - 0.5, cy - 0.5
        else:
            w, h = w.clamp(min=1), h.clamp(min=1)
        angle = -angle if clockwise else angle
        for v, u in _grids(bins, (h, w), sampling_ratio):
            total = input.new_zeros(input.shape[1])
            for dv in v:
                for du in u:
                    # Turned from the u axis, to the right, towards the -v axis, up.
                    x = cx + du * angle.cos() + dv * angle.sin()
                    y = cy - du * angle.sin() + dv * angle.cos()
                    total = total + border_sample(input[int(image)], y, x)
            values.append(total / max(len(v) * len(u), 1))
    return stacked(values, len(rois), bins, input.shape[1])


def _grids(
    bins: tuple[int, int], size: tuple[Tensor, Tensor], ratio: int
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """For each bin its samples along both axes, from the centre of the RoI."""
    count = [samples_of(length, n, ratio) for length, n in zip(size, bins)]
    for place in ((p, q) for p in range(bins[0]) for q in range(bins[1])):
        y, x = (
            [((bin + (i + 0.5) / m) / n - 0.5) * length for i in range(m)]
            for bin, m, n, length in zip(place, count, bins, size)
        )
        yield y, x


def riroi_align_rotated(
    input: Tensor,
    rois: Tensor,
    output_size: int | Sequence[int],
    spatial_scale: float,
    num_samples: int = 0,
    num_orientations: int = 8,
    clockwise: bool = False,
) -> Tensor:
    """Turned pooling, then orientations shifted by the angle and interpolated between two."""
    pooled = roi_align_rotated(
        input, rois, output_size, spatial_scale, num_samples, False, clockwise
    )
    features = pooled.unflatten(1, (-1, num_orientations))
    shifted = []
    for feature, angle in zip(features, rois[:, 5]):
        turn = float(angle) / (2 * math.pi) * num_orientations
        k = math.floor(turn)
        here = [feature[:, (o - k) % num_orientations] for o in range(num_orientations)]
        there = [feature[:, (o - k + 1) % num_orientations] for o in range(num_orientations)]
        moved = [a + (turn - k) * (b - a) for a, b in zip(here, there)]
        shifted.append(torch.stack(moved, 1).flatten(0, 1))
    return torch.stack(shifted) if shifted else pooled


def bezier_align(
    input: Tensor,
    rois: Tensor,
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """The mean of samples in upright bins that lie between two curves."""
    bins = pair(output_size)
    values = []
    for image, *numbers in rois:
        points = torch.stack(numbers).view(8, 2) * spatial_scale
        upper, lower = points[:4], points[4:].flip(0)
        w, h = torch.maximum((upper[0] - upper[3]).abs(), (lower[0] - lower[3]).abs())
        if not aligned:
            w, h = w.clamp(min=1), h.clamp(min=1)
        grid_y, grid_x = (samples_of(n, b, sampling_ratio) for n, b in zip((h, w), bins))
        for p in range(bins[0]):
            for q in range(bins[1]):
                above, below = _bezier(upper, q / bins[1]), _bezier(lower, q / bins[1])
                cx, cy = above + p / bins[0] * (below - above) - (0.5 if aligned else 0)
                total = input.new_zeros(input.shape[1])
                for i in range(grid_y):
                    for j in range(grid_x):
                        y = cy + ((i + 0.5) / grid_y - 0.5) * h / bins[0]
                        x = cx + ((j + 0.5) / grid_x - 0.5) * w / bins[1]
                        total = total + border_sample(input[int(image)], y, x)
                values.append(total / max(grid_y * grid_x, 1))
    return stacked(values, len(rois), bins, input.shape[1])


def _bezier(points: Tensor, t: float) -> Tensor:
    """A cubic Bezier curve (4, 2) at a parameter."""
    share = [math.comb(3, k) * t**k * (1 - t) ** (3 - k) for k in range(4)]
    return (points.new_tensor(share)[:, None] * points).sum(0)


def border_align(input: Tensor, boxes: Tensor, pool_size: int) -> Tensor:
    """The largest of samples from corner to corner, for each side in channels of its own."""
    images = []
    for image, group in zip(input.unflatten(1, (4, -1)), boxes):
        values = []
        for x1, y1, x2, y2 in group:
            w, h, none = x2 - x1, y2 - y1, x1 * 0
            sides = (x1, y1, w, none), (x1, y1, none, h), (x2, y2, -w, none), (x2, y2, none, -h)
            for side, (x, y, dx, dy) in zip(image, sides):
                steps = [i / pool_size for i in range(pool_size + 1)]
                values.append(largest([border_sample(side, y + dy * t, x + dx * t) for t in steps]))
        stacked = torch.stack(values, 1) if values else image.new_zeros(image.shape[1], 0)
        images.append(stacked.view(image.shape[1], len(group), 4))
    return torch.stack(images)


def rotated_feature_align(
    features: Tensor, boxes: Tensor, spatial_scale: float = 1 / 8, points: int = 1
) -> Tensor:
    """Each pixel plus samples at the centre and the corners of its box."""
    rows = []
    for image, group in zip(features, boxes):
        for p in range(features.shape[2]):
            for q in range(features.shape[3]):
                y, x, w, h, angle = group[p, q]
                cos, sin = angle.cos(), angle.sin()
                total = image[:, p, q]
                for i, j in ((0, 0), (1, 1), (-1, 1), (-1, -1), (1, -1))[:points]:
                    dx = (i * w * cos - j * h * sin) / 2
                    dy = (i * w * sin + j * h * cos) / 2
                    place = (y + dy) * spatial_scale, (x + dx) * spatial_scale
                    total = total + border_sample(image, *place)
                rows.append(total)
    batch, channels, height, width = features.shape
    return torch.stack(rows).view(batch, height, width, channels).permute(0, 3, 1, 2)
