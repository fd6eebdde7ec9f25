"""Modulated deformable convolution on NPUs, by the kernel that the dispatcher chooses.

Why: mmcv's own branch for NPUs passes a padding of 1 above and below, whatever was asked
     for (mmcv#2805; until 1.7.1 and in 2.0.0), and to this day the height of the kernel as
     its width. Each call copies indices to the device, and where only the bias needs a
     gradient the backward pass fails.
How: for tensors of the device npu, mx_autopatch.ops.modulated_deform_conv2d: mx_driving's
     kernel, torch_npu's npu_deformable_conv2d, or the portable one. For other tensors
     mmcv's own code runs. Both the function and the ``apply`` of the class behind it.
Upstream: mmcv/ops/modulated_deform_conv.py, mmcv 1.3 - 2.2.
Remove when: mmcv passes the sizes of the kernel as torch_npu documents them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional, Union

from mx_autopatch.model import Patch, Replace

if TYPE_CHECKING:
    from torch import Tensor

_Sizes = Union[int, Sequence[int]]


def modulated_deform_conv2d(
    input: "Tensor",
    offset: "Tensor",
    mask: "Tensor",
    weight: "Tensor",
    bias: "Optional[Tensor]" = None,
    stride: _Sizes = 1,
    padding: _Sizes = 0,
    dilation: _Sizes = 1,
    groups: int = 1,
    deform_groups: int = 1,
) -> "Tensor":
    from mx_autopatch.ops import deform_conv as ops

    image, mask, filters = (t.type_as(offset) for t in (input, mask, weight))
    bias = None if bias is None else bias.type_as(offset)
    options = ops.options_of(
        "modulated_deform_conv2d", stride, padding, dilation, groups, deform_groups
    )
    if image.dim() == 4 and filters.dim() == 4:  # else it is complained about
        size = ops.output_size(image, filters, *options[:3])
        offset, mask = ops.beginning(offset, size), ops.beginning(mask, size)
    return ops.modulated_deform_conv2d(image, offset, mask, filters, bias, *options)


def _apply(cls: type, *args: Any, **kwargs: Any) -> "Tensor":
    return modulated_deform_conv2d(*args, **kwargs)


def _on_npu(input: "Tensor", *args: Any, **kwargs: Any) -> bool:
    return input.device.type == "npu"


def _applied_on_npu(cls: type, *args: Any, **kwargs: Any) -> bool:
    return _on_npu(*args, **kwargs)


_MODULE = "mmcv.ops.modulated_deform_conv"

PATCHES = (
    Patch(
        name="mmcv.modulated_deform_conv2d",
        edits=(
            Replace(f"{_MODULE}:modulated_deform_conv2d", modulated_deform_conv2d, guard=_on_npu),
            Replace(
                f"{_MODULE}:ModulatedDeformConv2dFunction.apply", _apply, guard=_applied_on_npu
            ),
        ),
        requires=("module:torch", "device:npu"),
    ),
)
