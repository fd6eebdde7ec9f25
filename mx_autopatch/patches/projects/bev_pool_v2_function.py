"""The bird's-eye-view pooling of BEVDet and its kin on NPUs, by class name.

Why: its ``QuickCumsumCuda`` is over an extension that is CUDA's alone, also where that was
     compiled and loads.
How: a class that derives from torch.autograd.Function, has that name, and whose ``forward``
     has exactly these parameters, wherever it is, computes by mx_autopatch.ops.bev_pool_v2
     for tensors of the device npu: mx_driving's kernel where it is installed and covers the
     call, else the portable one. As in the extension a point of no interval counts nothing.
     The ``bev_pool_v2`` beside the class calls it. The outcome names each class. For other
     tensors the project's own code runs.
Upstream: mmdet3d/ops/bev_pool_v2/bev_pool.py of BEVDet, FB-BEV, FlashOcc, DAL.
Remove when: never; such projects are finished work.
"""

from typing import TYPE_CHECKING, Any

from mx_autopatch.model import Patch
from mx_autopatch.patches.functions import projects_own

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def _operands(
    depth: "Tensor",
    feat: "Tensor",
    ranks_depth: "Tensor",
    ranks_feat: "Tensor",
    ranks_bev: "Tensor",
    bev_feat_shape: "Sequence[int]",
    interval_starts: "Tensor",
    interval_lengths: "Tensor",
) -> "tuple[tuple[Tensor, ...], tuple[int, ...]]":
    from mx_autopatch.ops._bev_cells import spread

    cells = spread(ranks_bev, interval_lengths, interval_starts)
    ranks = ranks_depth.int(), ranks_feat.int(), cells.int()
    return (depth.float(), feat.float(), *ranks), tuple(int(size) for size in bev_feat_shape)


def pool(*args: Any) -> "Tensor":
    """(B, D, H, W, C), in float32 as the project has it."""
    from mx_autopatch.ops import bev_pool_v2

    tensors, shape = _operands(*args)
    depth, feat, by, of, cells = tensors
    output = bev_pool_v2(depth, feat, by, of, cells, shape)
    return output.permute(0, 2, 3, 4, 1).contiguous()


def gradients(needed: "Sequence[bool]", grad: "Tensor", *args: Any) -> "tuple[Tensor, Tensor]":
    from mx_autopatch.ops.bev_pool import bev_pool_v2_backward_op

    tensors, _ = _operands(*args)
    of_depth, of_feat = bev_pool_v2_backward_op(grad, *tensors)
    return of_depth, of_feat


PATCHES = (
    Patch(
        name="projects.bev_pool_v2_function",
        edits=(
            projects_own(
                ("QuickCumsumCuda",),
                (
                    *("depth", "feat", "ranks_depth", "ranks_feat", "ranks_bev"),
                    *("bev_feat_shape", "interval_starts", "interval_lengths"),
                ),
                pool,
                gradients,
            ),
        ),
        requires=("module:torch", "device:npu"),
    ),
)
