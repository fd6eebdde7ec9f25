"""Deformable convolution on NPUs, by the kernel that the dispatcher chooses.

Why: mmcv's own branch for NPUs passes a padding of 1 above and below, whatever was asked
     for (mmcv#2805; until 1.7.1 and in 2.0.0), and to this day the height of the kernel as
     its width. Each call copies indices to the device.
How: for tensors of the device npu, mx_autopatch.ops.deform_conv2d: mx_driving's kernel,
     torch_npu's npu_deformable_conv2d, or the portable one. For other tensors mmcv's own
     code runs.
Upstream: mmcv/ops/deform_conv.py, mmcv 1.3 - 2.2.
Remove when: mmcv passes the sizes of the kernel as torch_npu documents them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Union

from mx_autopatch.model import Patch
from mx_autopatch.patches.functions import computed_on_npu

if TYPE_CHECKING:
    from torch import Tensor

_Sizes = Union[int, Sequence[int]]


def _operands(
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
) -> "tuple[Tensor, Tensor, Tensor, tuple[_Sizes, _Sizes, _Sizes, int, int]]":
    # Under amp the offsets say in which precision, as in mmcv.
    image, filters = input.type_as(offset), weight.type_as(offset)
    return image, offset, filters, (stride, padding, dilation, groups, deform_groups)


def deform_conv2d(*args: Any) -> "Tensor":
    from mx_autopatch.ops import deform_conv2d as op

    image, offset, filters, options = _operands(*args)
    return op(image, offset, filters, *options)


def gradients(needed: Sequence[bool], grad: "Tensor", *args: Any) -> "tuple[Tensor, ...]":
    from mx_autopatch.ops.deform_conv import deform_conv2d_backward

    image, offset, filters, options = _operands(*args)
    wanted = (*needed[:2], False, needed[2])  # there is no mask
    grads = deform_conv2d_backward(grad, image, offset, None, filters, *options, needed=wanted)
    return grads[0], grads[1], grads[3]


def _with_bias(
    offset: Any = None, weight: Any = None, *options: Any, bias: bool = False, **more: Any
) -> bool:
    """Only False is allowed; for anything else mmcv has a message."""
    return bias is not False or any(o is not False for o in options[5:6])


PATCHES = (
    Patch(
        name="mmcv.deform_conv2d",
        edits=computed_on_npu(
            "mmcv.ops.deform_conv:DeformConv2dFunction.",
            deform_conv2d,
            gradients,
            unless=lambda input, *rest: _with_bias(*rest),
        ),
        requires=("module:torch", "device:npu"),
    ),
)
