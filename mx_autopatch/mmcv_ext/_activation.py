"""Filters and activations of generative networks, in the extension's calling convention.

An empty tensor stands for one that is not given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._releases import renamed

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "bias_act",
    "filtered_lrelu",
    "filtered_lrelu_act_",
    "fused_bias_leakyrelu",
    "upfirdn2d",
]

# As mmcv numbers them, from 1.
_ACTIVATIONS = (
    "linear",
    "relu",
    "lrelu",
    "tanh",
    "sigmoid",
    "elu",
    "selu",
    "softplus",
    "swish",
)


def _given(tensor: Tensor) -> Tensor | None:
    return tensor if tensor.numel() else None


@renamed(
    **{f"{name}_{axis}": name + axis for name in ("up", "down") for axis in "xy"},
    **{f"pad_{side}": f"pad{side}" for side in ("x0", "x1", "y0", "y1")},
)
def upfirdn2d(
    input: Tensor,
    filter: Tensor,
    upx: int,
    upy: int,
    downx: int,
    downy: int,
    padx0: int,
    padx1: int,
    pady0: int,
    pady1: int,
    flip: bool | None = None,
    gain: float = 1.0,
) -> Tensor:
    """As mmcv 1.x calls it, without ``flip``, the channels are last."""
    from mx_autopatch.ops.upfirdn2d import upfirdn2d

    options = (upy, upx), (downy, downx), (pady0, pady1, padx0, padx1), bool(flip), gain
    if flip is None:
        return upfirdn2d(input.movedim(3, 1), filter, *options).movedim(1, 3).contiguous()
    return upfirdn2d(input, filter, *options)


def bias_act(
    input: Tensor,
    bias: Tensor,
    xref: Tensor,
    yref: Tensor,
    dy: Tensor,
    grad: int,
    dim: int,
    act: int,
    alpha: float,
    gain: float,
    clamp: float,
) -> Tensor:
    """The function, or with ``grad`` 1 or 2 a derivative times ``input``; negative: no clamp."""
    from mx_autopatch.ops.bias_act import bias_act, bias_act_gradient

    name = _ACTIVATIONS[act - 1]
    options = alpha, gain, clamp if clamp >= 0 else None
    if grad == 0:
        return bias_act(input, _given(bias), dim, name, *options)
    tensors = _given(xref), _given(bias), _given(yref), _given(dy)
    return bias_act_gradient(input, *tensors, grad, dim, name, *options)


def fused_bias_leakyrelu(
    input: Tensor,
    bias: Tensor,
    empty: Tensor,
    act: int,
    grad: int,
    alpha: float,
    scale: float,
) -> Tensor:
    """``act`` 3 is leaky ReLU, 1 linear; ``empty`` the output, with ``grad`` 1."""
    from mx_autopatch.ops.fused_bias_leakyrelu import fused_bias_leakyrelu

    if grad == 2:
        return input.new_zeros(input.shape)
    reference = _given(empty) if grad == 1 else None
    slope = alpha if act == 3 else 1.0
    return fused_bias_leakyrelu(input, _given(bias), reference, slope, scale)


def filtered_lrelu(
    x: Tensor,
    fu: Tensor,
    fd: Tensor,
    b: Tensor,
    si: Tensor,
    up: int,
    down: int,
    px0: int,
    px1: int,
    py0: int,
    py1: int,
    sx: int,
    sy: int,
    gain: float,
    slope: float,
    clamp: float,
    flip_filters: bool,
    writeSigns: bool,
) -> tuple[Tensor, Tensor, int]:
    """The output, the signs (empty if not written), and 0: there is a kernel for everything."""
    from mx_autopatch.ops.filtered_lrelu import filtered_lrelu_with_signs

    tensors = x, fu, fd, b, _given(si)
    geometry = up, down, (px0, px1, py0, py1), (sx, sy)
    output, signs = filtered_lrelu_with_signs(
        *tensors, *geometry, gain, slope, clamp, flip_filters, writeSigns
    )
    return output, signs, 0


def filtered_lrelu_act_(
    x: Tensor,
    si: Tensor,
    sx: int,
    sy: int,
    gain: float,
    slope: float,
    clamp: float,
    writeSigns: bool,
) -> Tensor:
    """Change ``x``, and return the signs (empty if not written)."""
    from mx_autopatch.ops.filtered_lrelu import filtered_lrelu_act

    output, signs = filtered_lrelu_act(x, _given(si), (sx, sy), gain, slope, clamp, writeSigns)
    x.copy_(output)
    return signs
