"""The points in 3D boxes with their features (Shi et al. 2019, PointRCNN).

Upstream: ``mmcv.ops.RoIPointPool3d`` (CUDA only), mmcv 1.3 - 2.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._autograd import no_gradient
from ._check import check_same_device, check_tensor
from ._coordinates import ranks_in_groups
from .points_in_boxes import inside_boxes

__all__ = ["roipoint_pool3d"]


def roipoint_pool3d(
    points: Tensor, point_features: Tensor, boxes3d: Tensor, num_sampled_points: int = 512
) -> tuple[Tensor, Tensor]:
    """The first points in each box, repeated from the first on until there are enough.

    Args:
        points: (B, N, 3) floating, ``x, y, z``.
        point_features: (B, N, C) in the dtype of ``points``.
        boxes3d: (B, M, 7) in the dtype of ``points``, as in points_in_boxes.
        num_sampled_points: S, positive.

    Returns:
        (B, M, S, 3 + C) in the dtype of ``points``, coordinates and features, 0 for a
        box without points; and (B, M) int32, 1 for such a box. Not differentiable.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape, different devices, or no points to sample.
    """
    op = "roipoint_pool3d"
    check_tensor(op, "points", points, ("B", "N", 3))
    check_tensor(op, "point_features", point_features, (*points.shape[:2], "C"), points.dtype)
    check_tensor(op, "boxes3d", boxes3d, (points.shape[0], "M", 7), points.dtype)
    check_same_device(op, points=points, point_features=point_features, boxes3d=boxes3d)
    if num_sampled_points < 1:
        raise ValueError(f"{op}: num_sampled_points: expected >= 1, got {num_sampled_points}")
    return roipoint_pool3d_op(points, point_features, boxes3d, num_sampled_points)


@torch.library.custom_op(
    "mx_autopatch::roipoint_pool3d",
    mutates_args=(),
    schema="(Tensor points, Tensor point_features, Tensor boxes3d, int num_sampled_points) "
    "-> (Tensor, Tensor)",
)
def roipoint_pool3d_op(
    points: Tensor, point_features: Tensor, boxes3d: Tensor, num_sampled_points: int
) -> tuple[Tensor, Tensor]:
    batch, boxes = boxes3d.shape[:2]
    image, box, point = inside_boxes(points, boxes3d).transpose(1, 2).nonzero(as_tuple=True)
    group = image * boxes + box
    count = torch.bincount(group, minlength=batch * boxes)
    place = ranks_in_groups(group, count)
    first = place < num_sampled_points
    table = group.new_zeros(batch * boxes, num_sampled_points)
    table[group[first], place[first]] = point[first]
    sample = torch.arange(num_sampled_points, device=points.device)
    table = table.gather(1, sample % count.clamp(1, num_sampled_points)[:, None])
    empty = (count == 0).view(batch, boxes)
    rows = torch.cat((points, point_features), 2)
    index = torch.arange(batch, device=points.device)[:, None, None]
    if not points.shape[1]:
        shape = batch, boxes, num_sampled_points, rows.shape[2]
        return rows.new_zeros(shape), empty.int()
    pooled = rows[index, table.view(batch, boxes, num_sampled_points)]
    return torch.where(empty[..., None, None], 0.0, pooled), empty.int()


@roipoint_pool3d_op.register_fake
def _(
    points: Tensor, point_features: Tensor, boxes3d: Tensor, num_sampled_points: int
) -> tuple[Tensor, Tensor]:
    batch, boxes = boxes3d.shape[:2]
    channels = 3 + point_features.shape[2]
    return (
        points.new_empty((batch, boxes, num_sampled_points, channels)),
        points.new_empty((batch, boxes), dtype=torch.int32),
    )


no_gradient(roipoint_pool3d_op)
