"""Multi-scale deformable attention as one operator, on NPUs and on the CPU.

Why: mmcv's extension has no kernel for NPUs unless it was compiled for them
     (``ms_deform_attn_impl_forward: implementation for device npu:0 not found``), and
     before 2.2 its module samples level by level there. On the CPU it does so to this
     day: several times slower, and its loop over the values of ``spatial_shapes`` does not
     compile whole.
How: mx_autopatch.ops.ms_deform_attn: on NPUs mx_driving's kernel where it is installed and
     covers the call, else the portable one. For other tensors mmcv's own code runs, and
     where a graph is exported or traced that others shall run without us.
Upstream: mmcv/ops/multi_scale_deform_attn.py, mmcv 1.4 - 2.2.
Remove when: mmcv's extension has kernels for NPUs and the CPU.
"""

from typing import TYPE_CHECKING, Any, Optional

from mx_autopatch.model import Patch, Replace
from mx_autopatch.patches.functions import computed_on_npu

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def _operands(
    value: "Tensor",
    value_spatial_shapes: "Tensor",
    value_level_start_index: "Tensor",
    sampling_locations: "Tensor",
    attention_weights: "Tensor",
    im2col_step: int = 64,
) -> "tuple[Tensor, Tensor, Tensor, Tensor, Tensor]":
    # Under amp the values say in which precision, as in mmcv.
    points = sampling_locations.type_as(value), attention_weights.type_as(value)
    return value, value_spatial_shapes, value_level_start_index, *points


def ms_deform_attn(*args: Any) -> "Tensor":
    from mx_autopatch.ops import ms_deform_attn as op

    return op(*_operands(*args))


def gradients(
    needed: "Sequence[bool]", grad: "Tensor", *args: Any
) -> "tuple[Optional[Tensor], ...]":
    from mx_autopatch.ops.ms_deform_attn import ms_deform_attn_backward

    tensors = _operands(*args)
    grads = ms_deform_attn_backward(grad.type_as(tensors[0]), *tensors)
    return grads[0], None, None, grads[1], grads[2]


def multi_scale_deformable_attn_pytorch(
    value: "Tensor",
    value_spatial_shapes: "Tensor",
    sampling_locations: "Tensor",
    attention_weights: "Tensor",
) -> "Tensor":
    sizes = value_spatial_shapes.prod(1)
    start = sizes.cumsum(0) - sizes
    return ms_deform_attn(value, value_spatial_shapes, start, sampling_locations, attention_weights)


def _computed_here(value: "Tensor", value_spatial_shapes: Any, *args: Any, **kwargs: Any) -> bool:
    """Some hand over the shapes as a list of pairs; that remains mmcv's own."""
    import torch

    return (
        value.device.type in ("npu", "cpu")
        and hasattr(value_spatial_shapes, "cumsum")
        # Of torch.onnx's exporter, too.
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    )


_MODULE = "mmcv.ops.multi_scale_deform_attn"

PATCHES = (
    Patch(
        name="mmcv.msda",
        edits=(
            *computed_on_npu(
                f"{_MODULE}:MultiScaleDeformableAttnFunction.", ms_deform_attn, gradients
            ),
            Replace(
                f"{_MODULE}:multi_scale_deformable_attn_pytorch",
                multi_scale_deformable_attn_pytorch,
                guard=_computed_here,
            ),
        ),
        requires=("module:torch",),
    ),
)
