"""Point clouds: neighbours, groups, points in boxes and polygons."""

from __future__ import annotations

import torch
from torch import Tensor

from mx_autopatch import ops
from mx_autopatch.verify.check import Arguments, Check
from mx_autopatch.verify.references import attention
from mx_autopatch.verify.references import points as plain
from mx_autopatch.verify.references import points_in as inside
from mx_autopatch.verify.source import Source

__all__ = ["CHECKS"]


def _ball(source: Source, n: int) -> Arguments:
    centres, points = source.values(2, n, 3), source.values(2, 2 * n, 3)
    return {"center_xyz": centres, "xyz": points, "min_radius": 0.25, "max_radius": 1.5,
            "sample_num": 4}  # fmt: skip


def _counts(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int32)


def _stack_ball(source: Source, n: int) -> Arguments:
    centres, points = source.values(n, 3), source.values(3 * n, 3)
    return {"center_xyz": centres, "center_xyz_batch_cnt": _counts(n // 2, n - n // 2),
            "xyz": points, "xyz_batch_cnt": _counts(n, 2 * n), "max_radius": 1.5,
            "sample_num": 4}  # fmt: skip


def _knn(source: Source, n: int) -> Arguments:
    return {"k": 4, "xyz": source.values(2, n, 3), "center_xyz": source.values(2, n // 2, 3)}


def _two_sets(source: Source, n: int) -> Arguments:
    return {"target": source.values(2, n, 3), "source": source.values(2, n + 1, 3)}


def _furthest(source: Source, n: int) -> Arguments:
    return {"points_xyz": source.values(2, n, 3), "num_points": (n + 1) // 2}


def _furthest_dist(source: Source, n: int) -> Arguments:
    points = source.values(2, n, 3)
    distances = (points[:, :, None] - points[:, None]).abs().sum(-1)
    return {"points_dist": distances, "num_points": (n + 1) // 2}


def _gather(source: Source, n: int) -> Arguments:
    return {"features": source.values(2, 3, 7), "indices": source.whole(7, 2, n).int()}


def _group(source: Source, n: int) -> Arguments:
    return {"features": source.values(2, 3, 7), "indices": source.whole(7, 2, n, 2).int()}


def _stack_group(source: Source, n: int) -> Arguments:
    return {"features": source.values(9, 3), "features_batch_cnt": _counts(4, 5),
            "indices": source.whole(5, n, 2).int(),
            "indices_batch_cnt": _counts(n // 2, n - n // 2)}  # fmt: skip


def _interpolate(source: Source, n: int) -> Arguments:
    return {"features": source.values(2, 3, 7), "indices": source.whole(7, 2, n, 3).int(),
            "weight": source.unit(2, n, 3)}  # fmt: skip


def _scores(source: Source, n: int) -> Arguments:
    return {"scores": source.values(2, n, 3, 4), "point_features": source.values(2, 7, 4, 5),
            "center_features": source.values(2, 7, 4, 5),
            "knn_idx": source.whole(8, 2, n, 3)}  # fmt: skip


def _in_boxes(source: Source, n: int) -> Arguments:
    return {"points": source.values(2, n, 3), "boxes": source.boxes3d(2, 5)}


def _in_polygons(source: Source, n: int) -> Arguments:
    return {"points": source.values(n, 2), "polygons": source.values(5, 8)}


def _chamfer(source: Source, n: int) -> Arguments:
    return {"xyz1": source.values(2, n, 2), "xyz2": source.values(2, n + 1, 2)}


def _vertices(source: Source, n: int) -> Arguments:
    mask = source.unit(2, n, 24) > 0.7
    mask[..., 8:] = False
    return {"vertices": source.values(2, n, 24, 2), "mask": mask, "num_valid": mask.sum(-1).int()}


def _roiaware(source: Source, n: int) -> Arguments:
    return {"rois": source.boxes3d(3), "pts": source.values(n, 3),
            "pts_feature": source.values(n, 4), "out_size": (2, 3, 2),
            "max_pts_per_voxel": 4}  # fmt: skip


def _roipoint(source: Source, n: int) -> Arguments:
    return {"points": source.values(2, n, 3), "point_features": source.values(2, n, 4),
            "boxes3d": source.boxes3d(2, 3), "num_sampled_points": 5}  # fmt: skip


_FEATURES = ("features",)

CHECKS = (
    Check("ball_query", ops.ball_query, plain.ball_query,
          _ball, special=("center_xyz",), typical=1024),
    Check("stack_ball_query", ops.stack_ball_query, plain.stack_ball_query,
          _stack_ball, special=("center_xyz",),
          typical=1024),
    Check("knn", ops.knn, plain.knn,
          _knn, tied={"k": 24}, huge=("xyz", "center_xyz"), size=12, typical=2048),
    Check("three_nn", ops.three_nn, plain.three_nn,
          _two_sets, huge=("target", "source"), typical=1024),
    Check("furthest_point_sampling", ops.furthest_point_sampling, plain.furthest_point_sampling,
          _furthest,
          huge=("points_xyz",), smallest=1, size=12, typical=512),
    Check("furthest_point_sampling_with_dist", ops.furthest_point_sampling_with_dist,
          plain.furthest_point_sampling_with_dist, _furthest_dist,
          huge=("points_dist",), smallest=1, size=12, typical=512),
    Check("gather_points", ops.gather_points, plain.gather_points,
          _gather, _FEATURES, _FEATURES, typical=4096),
    Check("group_points", ops.group_points, plain.group_points,
          _group, _FEATURES, _FEATURES, typical=4096),
    Check("stack_group_points", ops.stack_group_points, plain.stack_group_points,
          _stack_group, _FEATURES, _FEATURES,
          typical=4096),
    Check("three_interpolate", ops.three_interpolate, plain.three_interpolate,
          _interpolate, _FEATURES, _FEATURES,
          typical=4096),
    Check("assign_score_withk", ops.assign_score_withk, attention.assign_score_withk, _scores,
          ("scores", "point_features", "center_features"), ("scores",)),
    Check("points_in_boxes", ops.points_in_boxes, inside.points_in_boxes,
          _in_boxes, special=("points",), size=30,
          typical=4096),
    Check("points_in_boxes_part", ops.points_in_boxes_part, inside.points_in_boxes_part,
          _in_boxes, special=("points",),
          size=30, typical=4096),
    Check("points_in_polygons", ops.points_in_polygons, inside.points_in_polygons,
          _in_polygons, special=("points",),
          size=30, typical=4096),
    Check("chamfer_distance", ops.chamfer_distance, plain.chamfer_distance,
          _chamfer, ("xyz1", "xyz2"),
          huge=("xyz1", "xyz2"), smallest=1),
    Check("sort_vertices", ops.sort_vertices, plain.sort_vertices, _vertices, typical=1024),
    Check("roiaware_pool3d", ops.roiaware_pool3d, inside.roiaware_pool3d,
          _roiaware, ("pts_feature",),
          huge=("pts_feature",), variants=({"mode": "avg"},), size=30, typical=4096),
    Check("roipoint_pool3d", ops.roipoint_pool3d, inside.roipoint_pool3d,
          _roipoint, special=("point_features",),
          size=30, typical=4096),
)  # fmt: skip
