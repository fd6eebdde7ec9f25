"""Points into voxels on NPUs.

Why: mmcv's extension has no kernel for NPUs unless it was compiled for them
     (``hard_voxelize_forward_impl: implementation for device npu:0 not found``), and reads
     the number of voxels back into buffers of all that there may be.
How: for tensors of the device npu, mx_autopatch.ops.hard_voxelize and dynamic_voxelize:
     mx_driving's kernel where it is installed and covers the call, else the portable one.
     For other tensors mmcv's own code runs. mmdet3d 1.x has the same class once more, over
     mmcv's extension. Those that compile an extension of their own, as BEVFusion does,
     number their voxels in another order, and are left alone.
Upstream: mmcv/ops/voxelize.py, mmcv 1.3.16 - 2.2;
     mmdet3d/models/data_preprocessors/voxelize.py, mmdet3d 1.1 - 1.4.
Remove when: mmcv ships an extension for NPUs.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Union

from mx_autopatch.model import Patch, Replace

if TYPE_CHECKING:
    from torch import Tensor


def voxelize(
    ctx: Any,
    points: "Tensor",
    voxel_size: Sequence[float],
    coors_range: Sequence[float],
    max_points: int = 35,
    max_voxels: int = 20000,
    deterministic: bool = True,
) -> "Union[Tensor, tuple[Tensor, Tensor, Tensor]]":
    from mx_autopatch.ops import dynamic_voxelize, hard_voxelize

    limits = list(map(float, voxel_size)), list(map(float, coors_range))
    if -1 in (max_points, max_voxels):
        return dynamic_voxelize(points, *limits)
    return hard_voxelize(points, *limits, max_points, max_voxels)


def _on_npu(ctx: Any, points: "Tensor", *args: Any, **kwargs: Any) -> bool:
    return points.device.type == "npu"


PATCHES = (
    Patch(
        name="mmcv.voxelization",
        edits=(
            Replace("mmcv.ops.voxelize:_Voxelization.forward", voxelize, guard=_on_npu),
            Replace(
                "mmdet3d.models.data_preprocessors.voxelize:_Voxelization.forward",
                voxelize,
                guard=_on_npu,
            ),
        ),
        requires=("module:torch", "device:npu"),
    ),
)
