"""Shifting groups of channels along time.

Shao et al. 2020, "Temporal Interlacing Network".
Upstream: ``mmcv.ops.tin_shift`` (compiled for CUDA only), mmcv 1.3 - 2.2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._check import check_same_device, check_tensor

__all__ = ["tin_shift", "tin_shift_backward"]


def tin_shift(input: Tensor, shift: Tensor) -> Tensor:
    """Move each group of channels by its number of frames.

    Args:
        input: (B, T, C, HW) floating.
        shift: (B, groups) int32 or int64, frames towards later; negative towards earlier.
            C is a multiple of the groups.

    Returns:
        As ``input``, 0 where no frame comes from; differentiable any number of times, in
        ``input`` only. The gradient is the function's, shifted back. The CUDA kernel's
        shifts the gradient the way of the input, which is not a derivative.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape or different devices.
    """
    _check("tin_shift", "input", input, shift)
    return tin_shift_op(input, shift)


def tin_shift_backward(grad_output: Tensor, shift: Tensor) -> Tensor:
    """Gradient in ``input``."""
    _check("tin_shift_backward", "grad_output", grad_output, shift)
    return tin_shift_op(grad_output, -shift)


def _check(op: str, name: str, values: Tensor, shift: Tensor) -> None:
    check_tensor(op, name, values, ("B", "T", "C", "HW"))
    narrow = isinstance(shift, Tensor) and shift.dtype == torch.int32
    dtype = torch.int32 if narrow else torch.int64
    check_tensor(op, "shift", shift, (values.shape[0], "groups"), dtype)
    check_same_device(op, **{name: values, "shift": shift})
    channels, groups = values.shape[2], shift.shape[1]
    if not groups or channels % groups:
        raise ValueError(
            f"{op}: shift: expected a number of groups that divides the {channels} channels, "
            f"got {groups}"
        )


@torch.library.custom_op(
    "mx_autopatch::tin_shift", mutates_args=(), schema="(Tensor input, Tensor shift) -> Tensor"
)
def tin_shift_op(input: Tensor, shift: Tensor) -> Tensor:
    if not input.numel():
        return input.new_empty(input.shape)
    frames, channels = input.shape[1:3]
    frame = torch.arange(frames, device=input.device)[:, None]
    source = frame - shift.long().repeat_interleave(channels // shift.shape[1], 1)[:, None]
    inside = (source >= 0) & (source < frames)
    source = source.clamp(0, frames - 1)[..., None].expand(input.shape)
    return input.gather(1, source).masked_fill_(~inside[..., None], 0)


@tin_shift_op.register_fake
def _(input: Tensor, shift: Tensor) -> Tensor:
    return input.new_empty(input.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    (shift,) = ctx.saved_tensors
    return tin_shift_op(grad, -shift), None


tin_shift_op.register_autograd(_backward, setup_context=_setup_context)
