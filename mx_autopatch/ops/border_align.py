"""The strongest feature along each side of a box.

Qiu et al. 2020, "BorderDet: Border Feature for Dense Object Detection".
Upstream: ``mmcv.ops.border_align`` (compiled for CUDA only), mmcv 1.3.2 - 2.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ._check import check_same_device, check_tensor, compute_dtype
from ._roi_max import max_pool_backward
from ._sampling import border_taps, sampled, with_zero_row

__all__ = ["border_align", "border_align_backward", "border_align_forward"]

_ELEMENTS = 1 << 22  # of samples at a time


def border_align(input: Tensor, boxes: Tensor, pool_size: int) -> Tensor:
    """Max-pool bilinear samples along the four sides of boxes.

    Args:
        input: (B, 4 * C, H, W) floating; C channels each for the top, left, bottom and
            right side.
        boxes: (B, N, 4) floating, ``x1, y1, x2, y2`` in pixels of ``input``, whose centres
            are integers.
        pool_size: steps along a side; one more samples, both corners among them.

    Returns:
        (B, C, N, 4) in the dtype of ``input``, differentiable once, in ``input`` only. A
        sample more than a pixel outside the image is 0. Half precision is calculated in
        float32 and rounded once.

    Raises:
        TypeError: an argument is no tensor or not floating.
        ValueError: wrong shape or size, or different devices.
    """
    return border_align_forward(input, boxes, pool_size)[0]


def border_align_forward(input: Tensor, boxes: Tensor, pool_size: int) -> tuple[Tensor, Tensor]:
    """``border_align``, and the number of the sample that won (the first of equals), int32.

    Samples count from x1, y1 on the top and the left, from x2, y2 on the other sides.
    """
    check_tensor("border_align", "input", input, ("B", "4 * C", "H", "W"))
    if input.shape[1] % 4:
        raise ValueError(
            f"border_align: input: expected a multiple of 4 channels, got {input.shape[1]}"
        )
    check_tensor("border_align", "boxes", boxes, (input.shape[0], "N", 4))
    check_same_device("border_align", input=input, boxes=boxes)
    _check_size("border_align", pool_size)
    return border_align_op(input, boxes, int(pool_size))


def border_align_backward(
    grad_output: Tensor,
    boxes: Tensor,
    argmax: Tensor,
    input_shape: tuple[int, ...],
    pool_size: int,
) -> Tensor:
    """Gradient in ``input`` of shape ``input_shape``."""
    name = "border_align_backward"
    check_tensor(name, "grad_output", grad_output, ("B", "C", "N", 4))
    batch, channels, number, _ = grad_output.shape
    check_tensor(name, "boxes", boxes, (batch, number, 4))
    check_tensor(name, "argmax", argmax, tuple(grad_output.shape), torch.int32)
    check_same_device(name, grad_output=grad_output, boxes=boxes, argmax=argmax)
    if len(input_shape) != 4 or tuple(input_shape[:2]) != (batch, 4 * channels):
        raise ValueError(
            f"{name}: input_shape: expected ({batch}, {4 * channels}, H, W), "
            f"got {tuple(input_shape)}"
        )
    _check_size(name, pool_size)
    return border_align_backward_op(grad_output, boxes, argmax, list(input_shape), int(pool_size))


def _check_size(op: str, pool_size: int) -> None:
    if pool_size < 1:
        raise ValueError(f"{op}: pool_size: expected at least 1, got {pool_size}")


def _sides(boxes: Tensor, pool_size: int) -> tuple[Tensor, Tensor]:
    """Where each side begins, and its steps: (2, B, N, 4), y first."""
    x1, y1, x2, y2 = boxes.to(compute_dtype(boxes.dtype)).unbind(2)
    width, height, none = (x2 - x1) / pool_size, (y2 - y1) / pool_size, torch.zeros_like(x1)
    y = torch.stack((y1, y1, y2, y2), 2), torch.stack((none, height, none, -height), 2)
    x = torch.stack((x1, x1, x2, x2), 2), torch.stack((width, none, -width, none), 2)
    return torch.stack((y[0], x[0])), torch.stack((y[1], x[1]))


def _parts(boxes: int, elements: int) -> Iterator[slice]:
    step = max(_ELEMENTS // max(elements, 1), 1)
    for begin in range(0, boxes, step):
        yield slice(begin, begin + step)


@torch.library.custom_op(
    "mx_autopatch::border_align",
    mutates_args=(),
    schema="(Tensor input, Tensor boxes, SymInt pool_size) -> (Tensor output, Tensor argmax)",
)
def border_align_op(input: Tensor, boxes: Tensor, pool_size: int) -> tuple[Tensor, Tensor]:
    batch, channels, height, width = input.shape
    channels //= 4
    output = input.new_zeros((batch, channels, boxes.shape[1], 4))
    argmax = output.new_zeros(output.shape, dtype=torch.int32)
    if not (output.numel() and input.numel()):
        return output, argmax
    # Image, y, x, side, channel: a row is one side's part of a pixel.
    rows = input.view(batch, 4, channels, height, width).permute(0, 3, 4, 1, 2)
    rows = with_zero_row(rows.reshape(-1, channels).to(compute_dtype(input.dtype)))
    start, step = _sides(boxes, pool_size)
    number = torch.arange(pool_size + 1, device=input.device)
    first = torch.arange(batch, device=input.device)[:, None, None, None] * (height * width)
    side = torch.arange(4, device=input.device)[:, None, None]
    for part in _parts(boxes.shape[1], batch * 4 * (pool_size + 1) * channels):
        y, x = start[:, :, part, :, None] + step[:, :, part, :, None] * number
        taps = border_taps(y, x, height, width, first)
        row = torch.where(taps.row < 0, -1, taps.row * 4 + side)
        value = sampled(rows, row, taps.weight()).view(*y.shape, channels)
        best, winner = value.max(3)
        output[:, :, part] = best.permute(0, 3, 1, 2)
        argmax[:, :, part] = winner.permute(0, 3, 1, 2).int()
    return output, argmax


@torch.library.custom_op(
    "mx_autopatch::border_align_backward",
    mutates_args=(),
    schema="(Tensor grad_output, Tensor boxes, Tensor argmax, SymInt[] input_shape, "
    "SymInt pool_size) -> Tensor",
)
def border_align_backward_op(
    grad_output: Tensor, boxes: Tensor, argmax: Tensor, input_shape: list[int], pool_size: int
) -> Tensor:
    batch, channels, number, _ = grad_output.shape
    height, width = input_shape[2:]
    dtype = compute_dtype(grad_output.dtype)
    grad_input = grad_output.new_zeros((batch * 4, channels, height, width), dtype=dtype)
    if grad_output.numel() and grad_input.numel():
        start, step = (t[:, :, None] for t in _sides(boxes, pool_size))
        # (y and x, B, C, N, 4) as (y and x, sides of boxes, C)
        at = (start + step * argmax).permute(0, 1, 3, 4, 2).flatten(1, 3)
        # The pixel around the image is the border; -1 would stand for no sample.
        at = torch.where((at >= -1) & (at < 0), 0.0, at)
        y, x = at[..., None, None]
        image = torch.arange(batch * 4, device=boxes.device).view(batch, 1, 4)
        image = image.expand(batch, number, 4).flatten()
        grad = grad_output.permute(0, 2, 3, 1).flatten(0, 2)[..., None, None]
        max_pool_backward(grad, image, y, x, grad_input)
    return grad_input.view(input_shape).to(grad_output.dtype)


@border_align_op.register_fake
def _(input: Tensor, boxes: Tensor, pool_size: int) -> tuple[Tensor, Tensor]:
    output = input.new_empty((input.shape[0], input.shape[1] // 4, boxes.shape[1], 4))
    return output, output.new_empty(output.shape, dtype=torch.int32)


@border_align_backward_op.register_fake
def _(
    grad_output: Tensor, boxes: Tensor, argmax: Tensor, input_shape: list[int], pool_size: int
) -> Tensor:
    return grad_output.new_empty(input_shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    input, boxes, ctx.pool_size = inputs
    ctx.input_shape = input.shape
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(boxes, output[1])


def _backward(ctx: Any, grad: Tensor | None, unused: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is not None:
        saved = ctx.saved_tensors
        grad = border_align_backward_op(grad, *saved, ctx.input_shape, ctx.pool_size)
    return grad, None, None


border_align_op.register_autograd(_backward, setup_context=_setup_context)
