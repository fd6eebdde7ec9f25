"""Multi-scale deformable attention on NPUs, by the kernel that the dispatcher chooses.

Why: mmcv's extension has no kernel for NPUs unless it was compiled for them
     (``ms_deform_attn_impl_forward: implementation for device npu:0 not found``), and
     before 2.2 its module samples level by level there.
How: for tensors of the device npu, mx_autopatch.ops.ms_deform_attn: mx_driving's kernel
     where it is installed and covers the call, else the portable one. For other tensors
     mmcv's own code runs.
Upstream: mmcv/ops/multi_scale_deform_attn.py, mmcv 1.4 - 2.2.
Remove when: mmcv ships an extension for NPUs.
"""

from typing import TYPE_CHECKING, Any

from mx_autopatch.model import Patch, Replace

if TYPE_CHECKING:
    from torch import Tensor


def apply(
    cls: type,
    value: "Tensor",
    value_spatial_shapes: "Tensor",
    value_level_start_index: "Tensor",
    sampling_locations: "Tensor",
    attention_weights: "Tensor",
    im2col_step: int,
) -> "Tensor":
    from mx_autopatch.ops import ms_deform_attn

    # Under amp the values say in which precision, as in mmcv.
    return ms_deform_attn(
        value,
        value_spatial_shapes,
        value_level_start_index,
        sampling_locations.type_as(value),
        attention_weights.type_as(value),
    )


def multi_scale_deformable_attn_pytorch(
    value: "Tensor",
    value_spatial_shapes: "Tensor",
    sampling_locations: "Tensor",
    attention_weights: "Tensor",
) -> "Tensor":
    sizes = value_spatial_shapes.prod(1)
    start = sizes.cumsum(0) - sizes
    tensors = value, value_spatial_shapes, start, sampling_locations, attention_weights
    return apply(object, *tensors, im2col_step=1)


def _applied_on_npu(cls: type, value: "Tensor", *args: Any, **kwargs: Any) -> bool:
    return value.device.type == "npu"


def _on_npu(value: "Tensor", value_spatial_shapes: Any, *args: Any, **kwargs: Any) -> bool:
    """Some hand over the shapes as a list of pairs; that remains mmcv's own."""
    return value.device.type == "npu" and hasattr(value_spatial_shapes, "cumsum")


_MODULE = "mmcv.ops.multi_scale_deform_attn"

PATCHES = (
    Patch(
        name="mmcv.msda",
        edits=(
            Replace(
                f"{_MODULE}:MultiScaleDeformableAttnFunction.apply", apply, guard=_applied_on_npu
            ),
            Replace(
                f"{_MODULE}:multi_scale_deformable_attn_pytorch",
                multi_scale_deformable_attn_pytorch,
                guard=_on_npu,
            ),
        ),
        requires=("module:torch", "device:npu"),
    ),
)
