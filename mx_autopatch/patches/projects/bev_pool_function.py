"""The bird's-eye-view pooling of BEVFusion and its kin on NPUs, by class name.

Why: its ``QuickCumsumCuda`` is over an extension that is CUDA's alone, also where that was
     compiled and loads.
How: a class that derives from torch.autograd.Function, has that name, and whose ``forward``
     has exactly these parameters, wherever it is, computes by mx_autopatch.ops.bev_pool for
     tensors of the device npu: mx_driving's kernel where it is installed and covers the call,
     else the portable one. It needs no points in order, so the ranks are not looked at. The
     ``bev_pool`` beside the class calls it. The outcome names each class. For other tensors
     the project's own code runs.
Upstream: mmdet3d/ops/bev_pool/bev_pool.py of BEVFusion, BEVDet 1.0 and MapTR.
Remove when: never; such projects are finished work.
"""

from typing import TYPE_CHECKING

from mx_autopatch.model import Patch
from mx_autopatch.patches.functions import projects_own

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def pool(
    x: "Tensor", geom_feats: "Tensor", ranks: "Tensor", B: int, D: int, H: int, W: int
) -> "Tensor":
    """(B, D, H, W, C)"""
    from mx_autopatch.ops import bev_pool

    return bev_pool(x, geom_feats.int(), B, D, H, W).permute(0, 2, 3, 4, 1).contiguous()


def gradients(
    needed: "Sequence[bool]",
    grad: "Tensor",
    x: "Tensor",
    geom_feats: "Tensor",
    ranks: "Tensor",
    B: int,
    D: int,
    H: int,
    W: int,
) -> "tuple[Tensor]":
    from mx_autopatch.ops.bev_pool import bev_pool_backward_op

    return (bev_pool_backward_op(grad, geom_feats.int()),)


PATCHES = (
    Patch(
        name="projects.bev_pool_function",
        edits=(
            projects_own(
                ("QuickCumsumCuda",),
                ("x", "geom_feats", "ranks", "B", "D", "H", "W"),
                pool,
                gradients,
            ),
        ),
        requires=("module:torch", "device:npu"),
    ),
)
