"""Deformable convolutions on NPUs, by the kernels that the dispatcher chooses.

Why: mmcv's own branch for NPUs passes a padding of 1 above and below, whatever was asked
     for (mmcv#2805; until 1.7.1 and in 2.0.0), and to this day the height of the kernel as
     its width. Each call copies indices to the device, and where only the bias needs a
     gradient the backward pass fails.
How: for tensors of the device npu, mx_autopatch.ops.deform_conv2d and
     modulated_deform_conv2d: mx_driving's kernel, torch_npu's npu_deformable_conv2d, or
     the portable one. For other tensors mmcv's own code runs. Both the functions and the
     ``apply`` of the classes behind them.
Upstream: mmcv/ops/{deform_conv,modulated_deform_conv}.py, mmcv 1.3 - 2.2.
Remove when: mmcv passes sizes and padding as torch_npu documents them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional, Union

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
    from mx_autopatch.ops import modulated_deform_conv2d as op

    image, mask, filters = (t.type_as(offset) for t in (input, mask, weight))
    bias = None if bias is None else bias.type_as(offset)
    return op(image, offset, mask, filters, bias, stride, padding, dilation, groups, deform_groups)


def _deform_apply(cls: type, *args: Any, **kwargs: Any) -> "Tensor":
    return deform_conv2d(*args, **kwargs)


def _modulated_apply(cls: type, *args: Any, **kwargs: Any) -> "Tensor":
    return modulated_deform_conv2d(*args, **kwargs)


def _on_npu(input: "Tensor", *args: Any, **kwargs: Any) -> bool:
    return input.device.type == "npu"


def _without_bias(
    input: "Tensor", offset: Any, weight: Any, *options: Any, bias: bool = False, **kwargs: Any
) -> bool:
    """Only False is allowed for the bias; for anything else mmcv has a message."""
    return input.device.type == "npu" and bias is False and all(o is False for o in options[5:6])


def _applied_on_npu(cls: type, *args: Any, **kwargs: Any) -> bool:
    return _on_npu(*args, **kwargs)


def _applied_without_bias(cls: type, *args: Any, **kwargs: Any) -> bool:
    return _without_bias(*args, **kwargs)


_PLAIN = "mmcv.ops.deform_conv"
_MODULATED = "mmcv.ops.modulated_deform_conv"

PATCHES = (
    Patch(
        name="mmcv.deform_conv2d",
        edits=(
            Replace(f"{_PLAIN}:deform_conv2d", deform_conv2d, guard=_without_bias),
            Replace(
                f"{_PLAIN}:DeformConv2dFunction.apply", _deform_apply, guard=_applied_without_bias
            ),
        ),
        requires=("module:torch", "device:npu"),
    ),
    Patch(
        name="mmcv.modulated_deform_conv2d",
        edits=(
            Replace(
                f"{_MODULATED}:modulated_deform_conv2d", modulated_deform_conv2d, guard=_on_npu
            ),
            Replace(
                f"{_MODULATED}:ModulatedDeformConv2dFunction.apply",
                _modulated_apply,
                guard=_applied_on_npu,
            ),
        ),
        requires=("module:torch", "device:npu"),
    ),
)
