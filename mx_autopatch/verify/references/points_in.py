"""Points in boxes and polygons, and what is pooled of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .sampling import largest

__all__ = [
    "points_in_boxes",
    "points_in_boxes_part",
    "points_in_polygons",
    "roiaware_pool3d",
    "roipoint_pool3d",
]


def local(point: Sequence[float], box: Sequence[float]) -> tuple[float, float, float]:
    """Coordinates along the sides of a box, from its lowest corner."""
    x, y, z = (p - b for p, b in zip(point, box[:3]))
    cos, sin = math.cos(box[6]), math.sin(box[6])
    return x * cos + y * sin + box[3] / 2, y * cos - x * sin + box[4] / 2, z


def inside(point: Sequence[float], box: Sequence[float]) -> bool:
    """Top and bottom belong to the box, its sides do not."""
    x, y, z = local(point, box)
    return 0 < x < box[3] and 0 < y < box[4] and 0 <= z <= box[5]


def points_in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Every point and every box of an image."""
    table = [
        [[inside(p, b) for b in bs] for p in ps] for ps, bs in zip(points.tolist(), boxes.tolist())
    ]
    return torch.tensor(table, dtype=torch.int32).view(*points.shape[:2], boxes.shape[1])


def points_in_boxes_part(points: Tensor, boxes: Tensor) -> Tensor:
    """The first box of each point, or -1."""
    rows = points_in_boxes(points, boxes).flatten(0, 1).tolist()
    first = [row.index(1) if any(row) else -1 for row in rows]
    return torch.tensor(first, dtype=torch.int32).view(points.shape[:2])


def points_in_polygons(points: Tensor, polygons: Tensor) -> Tensor:
    """Whether a ray to the right crosses an odd number of sides.

    As mmcv's kernel does, it stops counting at a side that the point is on, unless that is
    level: from the side between the last corner and the first one on.
    """
    table = []
    for x, y in points.tolist():
        row = []
        for corners in polygons.view(-1, 4, 2).tolist():
            odd = False
            for (x1, y1), (x2, y2) in zip(corners, corners[-1:] + corners[:-1]):
                at_corner = (x, y) in ((x1, y1), (x2, y2))
                crosses = (y1 < y) != (y2 < y)
                there = x1 + (y - y1) * (x2 - x1) / (y2 - y1) if crosses else math.nan
                if at_corner or there == x:
                    break
                odd ^= there > x
            row.append(float(odd))
        table.append(row)
    return torch.tensor(table, dtype=torch.float64).view(len(points), len(polygons))


def roiaware_pool3d(
    rois: Tensor,
    pts: Tensor,
    pts_feature: Tensor,
    out_size: int | Sequence[int],
    max_pts_per_voxel: int = 128,
    mode: str = "max",
) -> tuple[Tensor, Tensor, Tensor]:
    """Point by point into the voxels of each box, then voxel by voxel."""
    size = [out_size] * 3 if isinstance(out_size, int) else list(out_size)
    channels = pts_feature.shape[1]
    lists = torch.zeros(len(rois), *size, max_pts_per_voxel, dtype=torch.int32)
    for box, own in zip(rois.tolist(), lists):
        for k, point in enumerate(pts.tolist()):
            if not inside(point, box):
                continue
            places = zip(local(point, box), box[3:6], size)
            voxel = own[tuple(min(max(int(c / (e / n)), 0), n - 1) for c, e, n in places)]
            if voxel[0] < max_pts_per_voxel - 1:
                voxel[0] += 1
                voxel[voxel[0]] = k
    rows, argmax = [], []
    for count, *points in lists.flatten(0, 3).tolist():
        chosen = points[:count]
        winners = torch.full((channels,), -1, dtype=torch.int32)
        if not chosen:
            rows.append(pts_feature.new_zeros(channels))
        elif mode == "avg":
            rows.append(pts_feature[chosen].mean(0))
        else:
            rows.append(largest([pts_feature[k] for k in chosen]))
            winners = torch.tensor(chosen, dtype=torch.int32)[pts_feature[chosen].argmax(0)]
        argmax.append(winners)
    shape = len(rois), *size, channels
    return torch.stack(rows).view(shape), torch.stack(argmax).view(shape), lists


def roipoint_pool3d(
    points: Tensor, point_features: Tensor, boxes3d: Tensor, num_sampled_points: int = 512
) -> tuple[Tensor, Tensor]:
    """The first points in each box, once again from the first on until there are enough."""
    rows, empty = [], []
    table = points_in_boxes(points, boxes3d)
    for point, feature, image in zip(points, point_features, table):
        for mask in image.unbind(1):
            own = mask.nonzero()[:, 0].tolist()[:num_sampled_points]
            empty.append(int(not own))
            index = [own[k % len(own)] for k in range(num_sampled_points)] if own else []
            row = torch.cat((point[index], feature[index]), 1)
            none = row.new_zeros(num_sampled_points, row.shape[1])
            rows.append(row if own else none)
    shape = *boxes3d.shape[:2], num_sampled_points, 3 + point_features.shape[2]
    return torch.stack(rows).view(shape), torch.tensor(empty, dtype=torch.int32).view(shape[:2])
