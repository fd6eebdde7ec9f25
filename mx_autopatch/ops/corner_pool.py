"""Corner pooling: the largest value from a pixel to the border.

Law and Deng 2018, "CornerNet: Detecting Objects as Paired Keypoints".
Upstream: ``mmcv.ops.CornerPool``, compiled in mmcv 1.3 - 1.5.2, ``torch.cummax`` since.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._check import check_same_device, check_tensor, compute_dtype

__all__ = ["corner_pool", "corner_pool_backward"]

# The dimension, and whether the border that is looked at lies at its end.
_DIRECTIONS = {"top": (2, True), "bottom": (2, False), "left": (3, True), "right": (3, False)}


def corner_pool(input: Tensor, direction: str) -> Tensor:
    """The largest of each pixel and all those on one side of it.

    Args:
        input: (B, C, H, W) floating.
        direction: the corner pooling's name: "top" looks at what is below a pixel, "bottom"
            above, "left" right of it, "right" left.

    Returns:
        As ``input``, differentiable once: of equals, the one nearest to the border gets the
        gradient (``torch.cummax`` takes the other one).

    Raises:
        TypeError: ``input`` is no tensor or not floating.
        ValueError: wrong shape, or an unknown direction.
    """
    _check("corner_pool", "input", input, direction)
    return corner_pool_op(input, direction)


def corner_pool_backward(grad_output: Tensor, input: Tensor, direction: str) -> Tensor:
    """Gradient in ``input``."""
    name = "corner_pool_backward"
    _check(name, "input", input, direction)
    check_tensor(name, "grad_output", grad_output, tuple(input.shape), input.dtype)
    check_same_device(name, input=input, grad_output=grad_output)
    return corner_pool_backward_op(grad_output, input, direction)


def _check(op: str, name: str, tensor: Tensor, direction: str) -> None:
    check_tensor(op, name, tensor, ("B", "C", "H", "W"))
    if direction not in _DIRECTIONS:
        raise ValueError(
            f"{op}: direction: expected one of {', '.join(_DIRECTIONS)}, got {direction!r}"
        )


def _from_border(tensor: Tensor, direction: str) -> Tensor:
    """The dimension last, beginning at the border; its own inverse but for the dimension."""
    dim, flip = _DIRECTIONS[direction]
    return (tensor.flip(dim) if flip else tensor).transpose(dim, 3)


def _to_border(tensor: Tensor, direction: str) -> Tensor:
    dim, flip = _DIRECTIONS[direction]
    tensor = tensor.transpose(dim, 3)
    return tensor.flip(dim) if flip else tensor.contiguous()


@torch.library.custom_op(
    "mx_autopatch::corner_pool",
    mutates_args=(),
    schema="(Tensor input, str direction) -> Tensor",
)
def corner_pool_op(input: Tensor, direction: str) -> Tensor:
    if not input.numel():
        return input.new_empty(input.shape)
    largest = _from_border(input, direction).cummax(3).values
    return _to_border(largest, direction).contiguous()


@torch.library.custom_op(
    "mx_autopatch::corner_pool_backward",
    mutates_args=(),
    schema="(Tensor grad_output, Tensor input, str direction) -> Tensor",
)
def corner_pool_backward_op(grad_output: Tensor, input: Tensor, direction: str) -> Tensor:
    if not input.numel():
        return input.new_empty(input.shape)
    values = _from_border(input, direction)
    largest = values.cummax(3).values
    # Who exceeds all before it wins, until the next one does.
    place = torch.arange(values.shape[3], device=values.device).expand(values.shape)
    new = torch.ones_like(place, dtype=torch.bool)
    new[..., 1:] = values[..., 1:] > largest[..., :-1]
    winner = torch.where(new, place, 0).cummax(3).values
    grad = _from_border(grad_output, direction).to(compute_dtype(input.dtype))
    summed = torch.zeros_like(grad, memory_format=torch.contiguous_format)
    summed.scatter_add_(3, winner, grad)
    return _to_border(summed, direction).to(input.dtype).contiguous()


@corner_pool_op.register_fake
def _(input: Tensor, direction: str) -> Tensor:
    return input.new_empty(input.shape)


@corner_pool_backward_op.register_fake
def _(grad_output: Tensor, input: Tensor, direction: str) -> Tensor:
    return input.new_empty(input.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, ctx.direction = inputs
    ctx.save_for_backward(input)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return corner_pool_backward_op(grad, *ctx.saved_tensors, ctx.direction), None


corner_pool_op.register_autograd(_backward, setup_context=_setup_context)
