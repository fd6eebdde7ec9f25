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

from mx_autopatch.model import Patch, Replace

if TYPE_CHECKING:
    from torch import Tensor


def roi_align(
    input: "Tensor",
    rois: "Tensor",
    output_size: "Union[int, tuple[int, int]]",
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: str = "avg",
    aligned: bool = True,
) -> "Tensor":
    from mx_autopatch.ops import roi_align as op

    return op(input, rois, output_size, spatial_scale, sampling_ratio, pool_mode, aligned)


def _apply(cls: type, *args: Any, **kwargs: Any) -> "Tensor":
    return roi_align(*args, **kwargs)


def _on_npu(input: "Tensor", *args: Any, **kwargs: Any) -> bool:
    return input.device.type == "npu"


def _applied_on_npu(cls: type, *args: Any, **kwargs: Any) -> bool:
    return _on_npu(*args, **kwargs)


PATCHES = (
    Patch(
        name="mmcv.roi_align",
        edits=(
            Replace("mmcv.ops.roi_align:roi_align", roi_align, guard=_on_npu),
            Replace("mmcv.ops.roi_align:RoIAlignFunction.apply", _apply, guard=_applied_on_npu),
        ),
        requires=("module:torch", "device:npu"),
    ),
)
