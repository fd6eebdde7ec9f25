"""Operators on points, whose Python in mmcv speaks to CUDA, for tensors elsewhere.

Why: before they call the extension, ``knn``, ``points_in_boxes_part`` and ``_all`` set
     the current CUDA device, and ``furthest_point_sample`` makes CUDA tensors: on the CPU
     and on NPUs ``Torch not compiled with CUDA enabled``, whatever the extension offers.
How: for tensors that are not CUDA's, the same checks and results by mx_autopatch.ops.
     For CUDA tensors mmcv's own code runs.
Upstream: mmcv/ops/{knn,points_in_boxes,furthest_point_sample}.py, mmcv 1.3 - 2.2.
Remove when: mmcv takes the device of the tensors.
"""

from typing import TYPE_CHECKING, Any, Optional

from mx_autopatch.model import Patch, Replace

if TYPE_CHECKING:
    from torch import Tensor


def points_in_boxes_part(points: "Tensor", boxes: "Tensor") -> "Tensor":
    from mx_autopatch.ops.points_in_boxes import points_in_boxes_part as op

    return op(points, boxes)


def points_in_boxes_all(points: "Tensor", boxes: "Tensor") -> "Tensor":
    from mx_autopatch.ops.points_in_boxes import points_in_boxes as op

    return op(points, boxes)


def furthest_point_sample(ctx: Any, points_xyz: "Tensor", num_points: int) -> "Tensor":
    from mx_autopatch.ops.nearest_points import furthest_point_sampling as op

    output = op(points_xyz, num_points)
    ctx.mark_non_differentiable(output)
    return output


def knn(
    ctx: Any,
    k: int,
    xyz: "Tensor",
    center_xyz: "Optional[Tensor]" = None,
    transposed: bool = False,
) -> "Tensor":
    from mx_autopatch.ops.nearest_points import knn as op

    center_xyz = xyz if center_xyz is None else center_xyz
    if transposed:
        xyz, center_xyz = xyz.transpose(2, 1), center_xyz.transpose(2, 1)
    index = op(k, xyz, center_xyz)[1].transpose(2, 1).contiguous()
    ctx.mark_non_differentiable(index)
    return index


def _elsewhere(points: "Tensor", boxes: "Tensor") -> bool:
    return not points.is_cuda


def _elsewhere_sampled(ctx: Any, points_xyz: "Tensor", num_points: int) -> bool:
    return not points_xyz.is_cuda


def _elsewhere_searched(ctx: Any, k: int, xyz: "Tensor", *args: Any, **kwargs: Any) -> bool:
    return not xyz.is_cuda


PATCHES = (
    Patch(
        name="mmcv.points_anywhere",
        edits=(
            Replace(
                "mmcv.ops.points_in_boxes:points_in_boxes_part",
                points_in_boxes_part,
                guard=_elsewhere,
            ),
            Replace(
                "mmcv.ops.points_in_boxes:points_in_boxes_all",
                points_in_boxes_all,
                guard=_elsewhere,
            ),
            Replace(
                "mmcv.ops.furthest_point_sample:FurthestPointSampling.forward",
                furthest_point_sample,
                guard=_elsewhere_sampled,
            ),
            Replace("mmcv.ops.knn:KNN.forward", knn, guard=_elsewhere_searched),
        ),
        requires=("module:torch",),
    ),
)
