"""Neighbours, samples and groups of points, point by point."""

from __future__ import annotations

import math
from typing import Callable

import torch
from torch import Tensor

__all__ = [
    "ball_query",
    "chamfer_distance",
    "furthest_point_sampling",
    "furthest_point_sampling_with_dist",
    "gather_points",
    "group_points",
    "knn",
    "sort_vertices",
    "squares",
    "stack_ball_query",
    "stack_group_points",
    "three_interpolate",
    "three_nn",
]


def squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances (B, N, M) of points (B, N, D) and (B, M, D)."""
    return (a[:, :, None] - b[:, None]).square().sum(-1)


def _ints(rows: object, *shape: int) -> Tensor:
    return torch.tensor(rows, dtype=torch.int32).view(shape)


def ball_query(
    center_xyz: Tensor, xyz: Tensor, min_radius: float, max_radius: float, sample_num: int
) -> Tensor:
    """The first points within the radii of each centre, or at it."""
    rows = []
    for distances in squares(center_xyz, xyz).flatten(0, 1).tolist():
        own = [k for k, d in enumerate(distances) if d == 0 or min_radius**2 <= d < max_radius**2]
        own = own[:sample_num]
        rows.append(own + [own[0] if own else 0] * (sample_num - len(own)))
    return _ints(rows, *center_xyz.shape[:2], sample_num)


def stack_ball_query(
    center_xyz: Tensor,
    center_xyz_batch_cnt: Tensor,
    xyz: Tensor,
    xyz_batch_cnt: Tensor,
    max_radius: float,
    sample_num: int,
) -> Tensor:
    """The same in batches one after the other; -1, then 0 where there is none."""
    rows = []
    batches = zip(
        center_xyz.split(center_xyz_batch_cnt.tolist()), xyz.split(xyz_batch_cnt.tolist())
    )
    for centres, points in batches:
        for distances in squares(centres[None], points[None])[0].tolist():
            own = [k for k, d in enumerate(distances) if d < max_radius**2][:sample_num]
            none = [-1] + [0] * (sample_num - 1)
            rows.append(own + own[:1] * (sample_num - len(own)) if own else none)
    return _ints(rows, len(center_xyz), sample_num)


def knn(k: int, xyz: Tensor, center_xyz: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest points, of equally near ones the first."""
    values, indices = [], []
    for distances in squares(center_xyz, xyz).flatten(0, 1).tolist():
        order = sorted(range(len(distances)), key=lambda n: distances[n])[:k]  # stable
        missing = k - len(order)
        values.append([distances[n] for n in order] + [math.inf] * missing)
        indices.append(order + [0] * missing)
    shape = *center_xyz.shape[:2], k
    return torch.tensor(values, dtype=torch.float64).view(shape), _ints(indices, *shape)


def three_nn(target: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """The three nearest points."""
    return knn(3, source, target)


def furthest_point_sampling(points_xyz: Tensor, num_points: int) -> Tensor:
    """The first point, then the one furthest from all before; of equals the first."""
    return furthest_point_sampling_with_dist(squares(points_xyz, points_xyz), num_points)


def furthest_point_sampling_with_dist(points_dist: Tensor, num_points: int) -> Tensor:
    """The same of distances."""
    rows = []
    for distances in points_dist:
        chosen = [0]
        while len(chosen) < num_points:
            least = distances[chosen].amin(0).tolist()
            chosen.append(least.index(max(least)))
        rows.append(chosen[:num_points])
    return _ints(rows, len(points_dist), num_points)


def gather_points(features: Tensor, indices: Tensor) -> Tensor:
    """Columns, image by image."""
    return torch.stack([each[:, index.long()] for each, index in zip(features, indices)])


def group_points(features: Tensor, indices: Tensor) -> Tensor:
    """Likewise."""
    return gather_points(features, indices)


def stack_group_points(
    features: Tensor, features_batch_cnt: Tensor, indices: Tensor, indices_batch_cnt: Tensor
) -> Tensor:
    """Rows, batch by batch; 0 for an index that is outside."""
    groups = []
    none = features.new_zeros(features.shape[1])
    batches = zip(
        features.split(features_batch_cnt.tolist()), indices.split(indices_batch_cnt.tolist())
    )
    for rows, index in batches:
        for own in index.tolist():
            groups.append(torch.stack([rows[k] if 0 <= k < len(rows) else none for k in own], 1))
    return torch.stack(groups) if groups else features.new_zeros(0, len(none), indices.shape[1])


def three_interpolate(features: Tensor, indices: Tensor, weight: Tensor) -> Tensor:
    """Three columns each, times their weights."""
    images = zip(features, indices.long(), weight)
    return torch.stack([(each[:, index] * share).sum(-1) for each, index, share in images])


def chamfer_distance(xyz1: Tensor, xyz2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Squared distances to the nearest point of the other set, the first of equals."""
    table = squares(xyz1, xyz2)
    idx1, idx2 = table.argmin(2), table.argmin(1)
    near1 = table.gather(2, idx1[..., None])[..., 0]
    near2 = table.gather(1, idx2[:, None])[:, 0]
    return near1, near2, idx1.int(), idx2.int()


def sort_vertices(vertices: Tensor, mask: Tensor, num_valid: Tensor) -> Tensor:
    """Corners by their angle; then the first of them again, then what is not valid."""
    rows = []
    for corners, valid in zip(vertices.flatten(0, 1).tolist(), mask.flatten(0, 1).tolist()):
        padding = valid.index(False, 8)
        angle = _angles(corners)
        order = sorted((k for k, there in enumerate(valid) if there), key=angle)
        own = [k for n, k in enumerate(order) if n == 0 or angle(k) != angle(order[n - 1])]
        own = [*own, own[0]] if len(own) > 2 else []
        rows.append((own + [padding] * 9)[:9])
    return _ints(rows, *vertices.shape[:2], 9)


def _angles(corners: list[list[float]]) -> Callable[[int], float]:
    return lambda k: math.atan2(corners[k][1], corners[k][0]) % (2 * math.pi)
