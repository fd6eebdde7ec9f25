"""Deformable convolution on NPUs, by the kernel that the dispatcher chooses.

Why: mmcv's own branch for NPUs passes a padding of 1 above and below, whatever was asked
     for (mmcv#2805; until 1.7.1 and in 2.0.0), and to this day the height of the kernel as
     its width. Each call copies indices to the device.
How: for tensors of the device npu, mx_autopatch.ops.deform_conv2d: mx_driving's kernel,
     torch_npu's npu_deformable_conv2d, or the portable one. For other tensors mmcv's own
     code runs. Both the function and the ``apply`` of the class behind it.
Upstream: mmcv/ops/deform_conv.py, mmcv 1.3 - 2.2.
Remove when: mmcv passes the sizes of the kernel as torch_npu documents them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Union

from mx_autopatch.model import Patch, Replace

if TYPE_CHECKING:
    from torch import Tensor

_Sizes = Union[int, Sequence[int]]


def deform_conv2d(
    input: "Tensor",
    offset: "Tensor",
    weight: "Tensor",
    stride: _Sizes = 1,
    padding: _Sizes = 0,
    dilation: _Sizes = 1,
    groups: int = 1,
    deform_groups: int = 1,
    bias: bool = False,
    im2col_step: int = 32,
) -> "Tensor":
    from mx_autopatch.ops import deform_conv2d as op

    # Under amp the offsets say in which precision, as in mmcv.
    image, filters = input.type_as(offset), weight.type_as(offset)
    return op(image, offset, filters, stride, padding, dilation, groups, deform_groups)


def _apply(cls: type, *args: Any, **kwargs: Any) -> "Tensor":
    return deform_conv2d(*args, **kwargs)


def _on_npu(
    input: "Tensor", offset: Any, weight: Any, *options: Any, bias: bool = False, **kwargs: Any
) -> bool:
    """Only False is allowed for the bias; for anything else mmcv has a message."""
    return input.device.type == "npu" and bias is False and all(o is False for o in options[5:6])


def _applied_on_npu(cls: type, *args: Any, **kwargs: Any) -> bool:
    return _on_npu(*args, **kwargs)


_MODULE = "mmcv.ops.deform_conv"

PATCHES = (
    Patch(
        name="mmcv.deform_conv2d",
        edits=(
            Replace(f"{_MODULE}:deform_conv2d", deform_conv2d, guard=_on_npu),
            Replace(f"{_MODULE}:DeformConv2dFunction.apply", _apply, guard=_applied_on_npu),
        ),
        requires=("module:torch", "device:npu"),
    ),
)
