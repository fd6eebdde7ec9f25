"""Sums of samples and of points, weighted, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .sampling import sample

__all__ = [
    "assign_score_withk",
    "bev_pool",
    "bev_pool_v2",
    "criss_cross_affinity",
    "criss_cross_map",
    "deformable_aggregation",
    "ms_deform_attn",
]


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """For each query and head, samples of all levels times their weights."""
    levels = list(zip(spatial_shapes.tolist(), level_start_index.tolist()))
    batch, queries, heads, _, points, _ = sampling_locations.shape
    rows = []
    for b in range(batch):
        for q in range(queries):
            for head in range(heads):
                total = value.new_zeros(value.shape[3])
                for level, ((height, width), start) in enumerate(levels):
                    image = value[b, start : start + height * width, head].T
                    image = image.reshape(-1, height, width)
                    for point in range(points):
                        x, y = sampling_locations[b, q, head, level, point]
                        seen = sample(image, y * height - 0.5, x * width - 0.5)
                        total = total + seen * attention_weights[b, q, head, level, point]
                rows.append(total)
    shape = batch, queries, heads * value.shape[3]
    return torch.stack(rows).view(shape) if rows else value.new_zeros(shape)


def deformable_aggregation(
    feature_maps: Tensor,
    spatial_shape: Tensor,
    scale_start_index: Tensor,
    sampling_location: Tensor,
    weights: Tensor,
) -> Tensor:
    """For each anchor, samples of its points in all cameras and scales that see them."""
    batch, anchors, points, cameras, _ = sampling_location.shape
    channels, groups = feature_maps.shape[2], weights.shape[-1]
    rows = []
    for b in range(batch):
        for anchor in range(anchors):
            total = feature_maps.new_zeros(channels)
            for point in range(points):
                for camera in range(cameras):
                    x, y = sampling_location[b, anchor, point, camera]
                    if not (0 < x < 1 and 0 < y < 1):
                        continue
                    for scale, (height, width) in enumerate(spatial_shape[camera].tolist()):
                        start = int(scale_start_index[camera, scale])
                        image = feature_maps[b, start : start + height * width].T
                        image = image.reshape(channels, height, width)
                        seen = sample(image, y * height - 0.5, x * width - 0.5)
                        weight = weights[b, anchor, point, camera, scale]
                        total = total + seen * weight.repeat_interleave(channels // groups)
            rows.append(total)
    shape = batch, anchors, channels
    return torch.stack(rows).view(shape) if rows else feature_maps.new_zeros(shape)


def _plus(out: Tensor, place: tuple[int | slice, ...], row: Tensor) -> Tensor:
    more = torch.zeros_like(out)
    more[place] = row
    return out + more


def bev_pool(feats: Tensor, coords: Tensor, B: int, D: int, H: int, W: int) -> Tensor:
    """Each point added to its cell, unless that is outside."""
    out = feats.new_zeros(B, feats.shape[1], D, H, W)
    for row, (h, w, d, b) in zip(feats, coords.tolist()):
        if 0 <= h < H and 0 <= w < W and 0 <= d < D and 0 <= b < B:
            out = _plus(out, (b, slice(None), d, h, w), row)
    return out


def bev_pool_v2(
    depth: Tensor,
    feat: Tensor,
    ranks_depth: Tensor,
    ranks_feat: Tensor,
    ranks_bev: Tensor,
    bev_feat_shape: Sequence[int],
) -> Tensor:
    """Each pixel added to a cell, times the depth there."""
    *grid, channels = bev_feat_shape
    depths, rows = depth.flatten(), feat.reshape(-1, channels)
    out = feat.new_zeros(*grid, channels).flatten(0, 3)
    for at, pixel, cell in zip(*(r.tolist() for r in (ranks_depth, ranks_feat, ranks_bev))):
        if 0 <= cell < len(out):
            out = _plus(out, (cell,), depths[at] * rows[pixel])
    return out.view(*grid, channels).permute(0, 4, 1, 2, 3)


def _seen(height: int, width: int, y: int, x: int) -> list[tuple[int, int]]:
    """The pixels that (y, x) looks at: its row, then the others of its column."""
    return [(y, i) for i in range(width)] + [(i, x) for i in range(height) if i != y]


def criss_cross_affinity(query: Tensor, key: Tensor) -> Tensor:
    """Inner products with what each pixel looks at."""
    height, width = query.shape[2:]
    columns = [
        torch.stack(
            [(query[:, :, y, x] * key[:, :, p, q]).sum(1) for p, q in _seen(height, width, y, x)],
            1,
        )
        for y in range(height)
        for x in range(width)
    ]
    return torch.stack(columns, 2).unflatten(2, (height, width))


def criss_cross_map(weight: Tensor, value: Tensor) -> Tensor:
    """Sums of what each pixel looks at."""
    height, width = value.shape[2:]
    pixels = []
    for y in range(height):
        for x in range(width):
            total = torch.zeros_like(value[:, :, 0, 0])
            for k, (p, q) in enumerate(_seen(height, width, y, x)):
                total = total + weight[:, k, y, x, None] * value[:, :, p, q]
            pixels.append(total)
    return torch.stack(pixels, 2).unflatten(2, (height, width))


def assign_score_withk(
    scores: Tensor, point_features: Tensor, center_features: Tensor, knn_idx: Tensor
) -> Tensor:
    """Scores times the difference of each neighbour and the first one of its row."""
    batch, centres, neighbours = knn_idx.shape
    points, _, channels = point_features.shape[1:]
    rows = []
    for b in range(batch):
        for n in range(centres):
            centre = int(knn_idx[b, n, 0]) if neighbours else 0
            for k in range(neighbours):
                other = int(knn_idx[b, n, k])
                if 0 <= other < points and 0 <= centre < points:
                    difference = point_features[b, other] - center_features[b, centre]
                    rows.append((scores[b, n, k, :, None] * difference).sum(0))
                else:
                    rows.append(point_features.new_zeros(channels))
    shape = batch, centres, neighbours, channels
    out = torch.stack(rows).view(shape) if rows else scores.new_zeros(shape)
    return out.permute(0, 3, 1, 2)
