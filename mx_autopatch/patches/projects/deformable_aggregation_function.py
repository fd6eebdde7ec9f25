"""The deformable aggregation of Sparse4D, SparseDrive and their kin on NPUs, by class name.

Why: its ``DeformableAggregationFunction`` is over an extension that is CUDA's alone, also
     where that was compiled and loads.
How: a class that derives from torch.autograd.Function, has that name, and whose ``forward``
     has exactly these parameters, wherever it is, computes by
     mx_autopatch.ops.deformable_aggregation for tensors of the device npu: mx_driving's
     kernel where it is installed and covers the call, else the portable one. The
     ``deformable_aggregation_function`` beside the class calls it. The outcome names each
     class. For other tensors the project's own code runs.
Upstream: projects/mmdet3d_plugin/ops/deformable_aggregation.py of Sparse4D v2 and v3.
Remove when: never; such projects are finished work.
"""

from typing import TYPE_CHECKING

from mx_autopatch.model import Patch
from mx_autopatch.patches.functions import projects_own

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Optional

    from torch import Tensor


def _operands(
    mc_ms_feat: "Tensor",
    spatial_shape: "Tensor",
    scale_start_index: "Tensor",
    sampling_location: "Tensor",
    weights: "Tensor",
) -> "tuple[Tensor, Tensor, Tensor, Tensor, Tensor]":
    tables = spatial_shape.int(), scale_start_index.int()
    return mc_ms_feat.float(), *tables, sampling_location.float(), weights.float()


def aggregate(*args: "Tensor") -> "Tensor":
    """(B, anchors, C), in float32 as the project has it."""
    from mx_autopatch.ops import deformable_aggregation

    return deformable_aggregation(*_operands(*args))


def gradients(
    needed: "Sequence[bool]", grad: "Tensor", *args: "Tensor"
) -> "tuple[Optional[Tensor], ...]":
    from mx_autopatch.ops.deformable_aggregation import deformable_aggregation_backward_op

    of_maps, of_location, of_weights = deformable_aggregation_backward_op(grad, *_operands(*args))
    return of_maps, None, None, of_location, of_weights


PATCHES = (
    Patch(
        name="projects.deformable_aggregation_function",
        edits=(
            projects_own(
                ("DeformableAggregationFunction",),
                (
                    *("mc_ms_feat", "spatial_shape", "scale_start_index"),
                    *("sampling_location", "weights"),
                ),
                aggregate,
                gradients,
            ),
        ),
        requires=("module:torch", "device:npu"),
    ),
)
