"""RoIAlign on NPUs, by the kernel that the dispatcher chooses.

Why: mmcv's extension has no kernel for NPUs unless it was compiled for them; that one
     computes means where maxima are asked for, and refuses half precision.
How: for tensors of the device npu, mx_autopatch.ops.roi_align: torch_npu's npu_roi_align
     for means, the portable one for maxima. For other tensors mmcv's own code runs.
Upstream: mmcv/ops/roi_align.py and mmcv/ops/csrc/pytorch/npu/roi_align_npu.cpp,
     mmcv 1.3 - 2.2.
Remove when: mmcv ships an extension for NPUs that looks at ``pool_mode``.
"""

from typing import TYPE_CHECKING, Any, Union

from mx_autopatch.model import Patch
from mx_autopatch.patches.functions import computed_on_npu

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def roi_align(*args: Any) -> "Tensor":
    from mx_autopatch.ops import roi_align as op

    return op(*args)


def gradients(
    needed: "Sequence[bool]",
    grad: "Tensor",
    input: "Tensor",
    rois: "Tensor",
    output_size: "Union[int, tuple[int, int]]",
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: str = "avg",
    aligned: bool = True,
) -> "tuple[Tensor]":
    from mx_autopatch.ops.roi_align import roi_align_backward, roi_align_forward

    options = float(spatial_scale), int(sampling_ratio), pool_mode, bool(aligned)
    at_y = at_x = grad.new_empty(0)
    if pool_mode == "max":
        size = grad.shape[2], grad.shape[3]
        _, at_y, at_x = roi_align_forward(input, rois, size, *options)
    return (roi_align_backward(grad, rois, at_y, at_x, tuple(input.shape), *options),)


PATCHES = (
    Patch(
        name="mmcv.roi_align",
        edits=computed_on_npu("mmcv.ops.roi_align:RoIAlignFunction.", roi_align, gradients),
        requires=("module:torch", "device:npu"),
    ),
)
