"""Modulated deformable convolution on NPUs, by the kernel that the dispatcher chooses.

Why: mmcv's own branch for NPUs passes a padding of 1 above and below, whatever was asked
     for (mmcv#2805; until 1.7.1 and in 2.0.0), and to this day the height of the kernel as
     its width. Each call copies indices to the device, and where only the bias needs a
     gradient the backward pass fails.
How: for tensors of the device npu, mx_autopatch.ops.modulated_deform_conv2d: mx_driving's
     kernel, torch_npu's npu_deformable_conv2d, or the portable one. For other tensors
     mmcv's own code runs.
Upstream: mmcv/ops/modulated_deform_conv.py, mmcv 1.3 - 2.2.
Remove when: mmcv passes the sizes of the kernel as torch_npu documents them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional, Union

from mx_autopatch.model import Patch
from mx_autopatch.patches.functions import computed_on_npu

if TYPE_CHECKING:
    from torch import Tensor

_Sizes = Union[int, Sequence[int]]


def _operands(
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
) -> "tuple[tuple[Any, ...], tuple[_Sizes, _Sizes, _Sizes, int, int]]":
    # Under amp the offsets say in which precision, as in mmcv.
    image, mask, filters = (t.type_as(offset) for t in (input, mask, weight))
    bias = None if bias is None else bias.type_as(offset)
    options = stride, padding, dilation, groups, deform_groups
    return (image, offset, mask, filters, bias), options


def modulated_deform_conv2d(*args: Any) -> "Tensor":
    from mx_autopatch.ops import deform_conv as ops

    (image, offset, mask, filters, bias), given = _operands(*args)
    options = ops.options_of("modulated_deform_conv2d", *given)
    if image.dim() == 4 and filters.dim() == 4:  # else it is complained about
        size = ops.output_size(image, filters, *options[:3])
        offset, mask = ops.beginning(offset, size), ops.beginning(mask, size)
    return ops.modulated_deform_conv2d(image, offset, mask, filters, bias, *options)


def gradients(needed: Sequence[bool], grad: "Tensor", *args: Any) -> "tuple[Optional[Tensor], ...]":
    from mx_autopatch.ops import deform_conv as ops

    (image, offset, mask, filters, _), options = _operands(*args)
    at, by = (ops.beginning(t, grad.shape[2:]) for t in (offset, mask))
    grads = ops.deform_conv2d_backward(grad, image, at, by, filters, *options, needed=needed[:4])
    of_read = [
        ops.of_beginning(g, whole) if want else None
        for g, whole, want in zip(grads[1:3], (offset, mask), needed[1:3])
    ]
    of_bias = grad.sum((0, 2, 3)) if any(needed[4:5]) else None
    return grads[0], *of_read, grads[3], of_bias


PATCHES = (
    Patch(
        name="mmcv.modulated_deform_conv2d",
        edits=computed_on_npu(
            "mmcv.ops.modulated_deform_conv:ModulatedDeformConv2dFunction.",
            modulated_deform_conv2d,
            gradients,
        ),
        requires=("module:torch", "device:npu"),
    ),
)
