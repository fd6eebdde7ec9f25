"""Points in boxes and voxels, in the extension's calling convention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "dynamic_point_to_voxel_backward",
    "dynamic_point_to_voxel_forward",
    "dynamic_voxelize_forward",
    "hard_voxelize_forward",
    "points_in_boxes_all_forward",
    "points_in_boxes_cpu_forward",
    "points_in_boxes_part_forward",
    "roiaware_pool3d_backward",
    "roiaware_pool3d_forward",
    "roipoint_pool3d_forward",
]

_POOL_METHODS = ("max", "avg")  # as mmcv numbers them


def points_in_boxes_cpu_forward(
    boxes_tensor: Tensor, pts_tensor: Tensor, pts_indices_tensor: Tensor
) -> None:
    """Fill in ``pts_indices_tensor``, (boxes, points)."""
    from mx_autopatch.ops.points_in_boxes import points_in_boxes

    pts_indices_tensor.copy_(points_in_boxes(pts_tensor[None], boxes_tensor[None])[0].T)


def points_in_boxes_part_forward(
    boxes_tensor: Tensor, pts_tensor: Tensor, box_idx_of_points_tensor: Tensor
) -> None:
    """Fill in ``box_idx_of_points_tensor``."""
    from mx_autopatch.ops.points_in_boxes import points_in_boxes_part

    box_idx_of_points_tensor.copy_(points_in_boxes_part(pts_tensor, boxes_tensor))


def points_in_boxes_all_forward(
    boxes_tensor: Tensor, pts_tensor: Tensor, box_idx_of_points_tensor: Tensor
) -> None:
    """Fill in ``box_idx_of_points_tensor``."""
    from mx_autopatch.ops.points_in_boxes import points_in_boxes

    box_idx_of_points_tensor.copy_(points_in_boxes(pts_tensor, boxes_tensor))


def dynamic_voxelize_forward(
    points: Tensor, voxel_size: Any, coors_range: Any, coors: Any, NDim: int = 3
) -> None:
    """Fill in ``coors``."""
    from mx_autopatch.ops.voxelize import dynamic_voxelize

    if isinstance(coors, (list, tuple)):  # mmcv 1.3.16 and 1.3.17: results before options
        voxel_size, coors_range, coors = coors_range, coors, voxel_size
    coors.copy_(dynamic_voxelize(points, _numbers(voxel_size), _numbers(coors_range)))


def hard_voxelize_forward(
    points: Tensor,
    voxel_size: Any,
    coors_range: Any,
    voxels: Any,
    coors: Any,
    num_points_per_voxel: Any,
    voxel_num: Any,
    max_points: int,
    max_voxels: int,
    NDim: int = 3,
    deterministic: bool = True,
) -> int:
    """Fill in the first rows of ``voxels``, ``coors`` and ``num_points_per_voxel``, and
    ``voxel_num``, how many. The result is deterministic in any case."""
    from mx_autopatch.ops.voxelize import hard_voxelize

    results = voxels, coors, num_points_per_voxel
    if isinstance(coors, (list, tuple)):
        # mmcv 1.3.16 and 1.3.17: results before options, and the number returned.
        results = voxel_size, coors_range, voxels
        voxel_size, coors_range = coors, num_points_per_voxel
        max_points, max_voxels, voxel_num = voxel_num, max_points, None
    limits = _numbers(voxel_size), _numbers(coors_range)
    found = hard_voxelize(points, *limits, max_points, max_voxels)
    count = len(found[0])
    for argument, result in zip(results, found):
        argument[:count] = result
    if voxel_num is not None:
        voxel_num.fill_(count)
    return count


def _numbers(values: Any) -> list[float]:
    return values.tolist() if hasattr(values, "tolist") else list(values)


def dynamic_point_to_voxel_forward(
    feats: Tensor, coors: Tensor, reduce_type: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from mx_autopatch.ops.dynamic_scatter import dynamic_scatter

    return dynamic_scatter(feats, coors, reduce_type)


def dynamic_point_to_voxel_backward(
    grad_feats: Tensor,
    grad_reduced_feats: Tensor,
    feats: Tensor,
    reduced_feats: Tensor,
    coors_idx: Tensor,
    reduce_count: Tensor,
    reduce_type: str,
) -> None:
    """Fill in ``grad_feats``."""
    from mx_autopatch.ops.dynamic_scatter import dynamic_scatter_backward

    tensors = grad_reduced_feats, feats, reduced_feats, coors_idx, reduce_count
    grad_feats.copy_(dynamic_scatter_backward(*tensors, reduce_type))


def roiaware_pool3d_forward(
    rois: Tensor,
    pts: Tensor,
    pts_feature: Tensor,
    argmax: Tensor,
    pts_idx_of_voxels: Tensor,
    pooled_features: Tensor,
    pool_method: int,
) -> None:
    """Fill in ``pooled_features``, ``argmax`` and ``pts_idx_of_voxels``."""
    from mx_autopatch.ops.roiaware_pool3d import roiaware_pool3d

    sizes = list(pooled_features.shape[1:4]), pts_idx_of_voxels.shape[4]
    results = roiaware_pool3d(rois, pts, pts_feature, *sizes, _POOL_METHODS[pool_method])
    for argument, result in zip((pooled_features, argmax, pts_idx_of_voxels), results):
        argument.copy_(result)


def roiaware_pool3d_backward(
    pts_idx_of_voxels: Tensor, argmax: Tensor, grad_out: Tensor, grad_in: Tensor, pool_method: int
) -> None:
    """Fill in ``grad_in``."""
    from mx_autopatch.ops.roiaware_pool3d import roiaware_pool3d_backward

    tensors = grad_out, argmax, pts_idx_of_voxels
    mode = _POOL_METHODS[pool_method]
    grad_in.copy_(roiaware_pool3d_backward(*tensors, grad_in.shape[0], mode))


def roipoint_pool3d_forward(
    xyz: Tensor,
    boxes3d: Tensor,
    pts_feature: Tensor,
    pooled_features: Tensor,
    pooled_empty_flag: Tensor,
) -> None:
    """Fill in ``pooled_features`` and ``pooled_empty_flag``."""
    from mx_autopatch.ops.roipoint_pool3d import roipoint_pool3d

    results = roipoint_pool3d(xyz, pts_feature, boxes3d, pooled_features.shape[2])
    for argument, result in zip((pooled_features, pooled_empty_flag), results):
        argument.copy_(result)
