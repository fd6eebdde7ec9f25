"""Points, their neighbours and features, in the extension's calling convention.

Sizes, which the compiled functions are told, are taken from the tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._releases import tensors_first

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ball_query_forward",
    "chamfer_distance_backward",
    "chamfer_distance_forward",
    "furthest_point_sampling_forward",
    "furthest_point_sampling_with_dist_forward",
    "gather_points_backward",
    "gather_points_forward",
    "group_points_backward",
    "group_points_forward",
    "knn_forward",
    "stack_ball_query_forward",
    "stack_group_points_backward",
    "stack_group_points_forward",
    "three_interpolate_backward",
    "three_interpolate_forward",
    "three_nn_forward",
]


@tensors_first
def ball_query_forward(
    new_xyz_tensor: Tensor,
    xyz_tensor: Tensor,
    idx_tensor: Tensor,
    b: int,
    n: int,
    m: int,
    min_radius: float,
    max_radius: float,
    nsample: int,
) -> None:
    """Fill in ``idx_tensor``."""
    from mx_autopatch.ops.ball_query import ball_query

    idx_tensor.copy_(ball_query(new_xyz_tensor, xyz_tensor, min_radius, max_radius, nsample))


def stack_ball_query_forward(
    new_xyz_tensor: Tensor,
    new_xyz_batch_cnt: Tensor,
    xyz_tensor: Tensor,
    xyz_batch_cnt: Tensor,
    idx_tensor: Tensor,
    max_radius: float,
    nsample: int,
) -> None:
    """Fill in ``idx_tensor``."""
    from mx_autopatch.ops.ball_query import stack_ball_query

    tensors = new_xyz_tensor, new_xyz_batch_cnt, xyz_tensor, xyz_batch_cnt
    idx_tensor.copy_(stack_ball_query(*tensors, max_radius, nsample))


@tensors_first
def knn_forward(
    xyz_tensor: Tensor,
    new_xyz_tensor: Tensor,
    idx_tensor: Tensor,
    dist2_tensor: Tensor,
    b: int,
    n: int,
    m: int,
    nsample: int,
) -> None:
    """Fill in ``idx_tensor`` and ``dist2_tensor``."""
    from mx_autopatch.ops.nearest_points import knn

    squares, indices = knn(nsample, xyz_tensor, new_xyz_tensor)
    idx_tensor.copy_(indices)
    dist2_tensor.copy_(squares)


@tensors_first
def three_nn_forward(
    unknown_tensor: Tensor,
    known_tensor: Tensor,
    dist2_tensor: Tensor,
    idx_tensor: Tensor,
    b: int,
    n: int,
    m: int,
) -> None:
    """Fill in ``dist2_tensor`` and ``idx_tensor``."""
    from mx_autopatch.ops.nearest_points import three_nn

    squares, indices = three_nn(unknown_tensor, known_tensor)
    dist2_tensor.copy_(squares)
    idx_tensor.copy_(indices)


@tensors_first
def furthest_point_sampling_forward(
    points_tensor: Tensor, temp_tensor: Tensor, idx_tensor: Tensor, b: int, n: int, m: int
) -> None:
    """Fill in ``idx_tensor``; ``temp_tensor``, a buffer to work in, is left alone."""
    from mx_autopatch.ops.nearest_points import furthest_point_sampling

    idx_tensor.copy_(furthest_point_sampling(points_tensor, m))


@tensors_first
def furthest_point_sampling_with_dist_forward(
    points_tensor: Tensor, temp_tensor: Tensor, idx_tensor: Tensor, b: int, n: int, m: int
) -> None:
    """Fill in ``idx_tensor``; ``temp_tensor``, a buffer to work in, is left alone."""
    from mx_autopatch.ops.nearest_points import furthest_point_sampling_with_dist

    idx_tensor.copy_(furthest_point_sampling_with_dist(points_tensor, m))


@tensors_first
def gather_points_forward(
    points_tensor: Tensor,
    idx_tensor: Tensor,
    out_tensor: Tensor,
    b: int,
    c: int,
    n: int,
    npoints: int,
) -> None:
    """Fill in ``out_tensor``."""
    from mx_autopatch.ops.group_points import gather_points

    out_tensor.copy_(gather_points(points_tensor, idx_tensor))


@tensors_first
def gather_points_backward(
    grad_out_tensor: Tensor,
    idx_tensor: Tensor,
    grad_points_tensor: Tensor,
    b: int,
    c: int,
    n: int,
    npoints: int,
) -> None:
    """Add to ``grad_points_tensor``."""
    from mx_autopatch.ops.group_points import gather_points_backward

    points = grad_points_tensor.shape[2]
    grad_points_tensor.add_(gather_points_backward(grad_out_tensor, idx_tensor, points))


@tensors_first
def group_points_forward(
    points_tensor: Tensor,
    idx_tensor: Tensor,
    out_tensor: Tensor,
    b: int,
    c: int,
    n: int,
    npoints: int,
    nsample: int,
) -> None:
    """Fill in ``out_tensor``."""
    from mx_autopatch.ops.group_points import group_points

    out_tensor.copy_(group_points(points_tensor, idx_tensor))


@tensors_first
def group_points_backward(
    grad_out_tensor: Tensor,
    idx_tensor: Tensor,
    grad_points_tensor: Tensor,
    b: int,
    c: int,
    n: int,
    npoints: int,
    nsample: int,
) -> None:
    """Add to ``grad_points_tensor``."""
    from mx_autopatch.ops.group_points import gather_points_backward

    tensors = grad_out_tensor.flatten(2), idx_tensor.flatten(1)
    grad_points_tensor.add_(gather_points_backward(*tensors, grad_points_tensor.shape[2]))


def stack_group_points_forward(
    features_tensor: Tensor,
    features_batch_cnt_tensor: Tensor,
    idx_tensor: Tensor,
    idx_batch_cnt_tensor: Tensor,
    out_tensor: Tensor,
    b: int,
    c: int,
    m: int,
    nsample: int,
) -> None:
    """Fill in ``out_tensor``."""
    from mx_autopatch.ops.group_points import stack_group_points

    tensors = features_tensor, features_batch_cnt_tensor, idx_tensor, idx_batch_cnt_tensor
    out_tensor.copy_(stack_group_points(*tensors))


def stack_group_points_backward(
    grad_out_tensor: Tensor,
    idx_tensor: Tensor,
    idx_batch_cnt_tensor: Tensor,
    features_batch_cnt_tensor: Tensor,
    grad_features_tensor: Tensor,
    b: int,
    c: int,
    m: int,
    n: int,
    nsample: int,
) -> None:
    """Add to ``grad_features_tensor``."""
    from mx_autopatch.ops.group_points import stack_group_points_backward

    tensors = grad_out_tensor, features_batch_cnt_tensor, idx_tensor, idx_batch_cnt_tensor
    points = grad_features_tensor.shape[0]
    grad_features_tensor.add_(stack_group_points_backward(*tensors, points))


@tensors_first
def three_interpolate_forward(
    points_tensor: Tensor,
    idx_tensor: Tensor,
    weight_tensor: Tensor,
    out_tensor: Tensor,
    b: int,
    c: int,
    m: int,
    n: int,
) -> None:
    """Fill in ``out_tensor``."""
    from mx_autopatch.ops.three_interpolate import three_interpolate

    out_tensor.copy_(three_interpolate(points_tensor, idx_tensor, weight_tensor))


@tensors_first
def three_interpolate_backward(
    grad_out_tensor: Tensor,
    idx_tensor: Tensor,
    weight_tensor: Tensor,
    grad_points_tensor: Tensor,
    b: int,
    c: int,
    n: int,
    m: int,
) -> None:
    """Add to ``grad_points_tensor``."""
    from mx_autopatch.ops.three_interpolate import three_interpolate_backward

    tensors = grad_out_tensor, idx_tensor, weight_tensor
    grad_points_tensor.add_(three_interpolate_backward(*tensors, grad_points_tensor.shape[2]))


def chamfer_distance_forward(
    xyz1: Tensor, xyz2: Tensor, dist1: Tensor, dist2: Tensor, idx1: Tensor, idx2: Tensor
) -> None:
    """Fill in distances and indices."""
    from mx_autopatch.ops.chamfer_distance import chamfer_distance

    for argument, result in zip((dist1, dist2, idx1, idx2), chamfer_distance(xyz1, xyz2)):
        argument.copy_(result)


def chamfer_distance_backward(
    xyz1: Tensor,
    xyz2: Tensor,
    idx1: Tensor,
    idx2: Tensor,
    graddist1: Tensor,
    graddist2: Tensor,
    gradxyz1: Tensor,
    gradxyz2: Tensor,
) -> None:
    """Add to ``gradxyz1`` and ``gradxyz2``."""
    from mx_autopatch.ops.chamfer_distance import chamfer_distance_backward

    if idx1.is_floating_point():  # mmcv 1.5.3 - 1.6.1: the indices last
        idx1, idx2, gradxyz1, gradxyz2 = gradxyz1, gradxyz2, idx1, idx2
    grads = chamfer_distance_backward(graddist1, graddist2, xyz1, xyz2, idx1, idx2)
    gradxyz1.add_(grads[0])
    gradxyz2.add_(grads[1])
