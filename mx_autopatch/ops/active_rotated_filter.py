"""A filter and its rotations.

Zhou et al. 2017, "Oriented Response Networks"; Han et al. 2021, "Align Deep Features for
Oriented Object Detection".
Upstream: ``mmcv.ops.active_rotated_filter`` (compiled), mmcv 1.3.17 - 2.2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._check import check_same_device, check_tensor, compute_dtype

__all__ = ["active_rotated_filter", "active_rotated_filter_backward"]


def active_rotated_filter(input: Tensor, indices: Tensor) -> Tensor:
    """Place the elements of each filter once for every rotation.

    Args:
        input: (O, I, orientations, kh, kw) floating.
        indices: (orientations, kh, kw, rotations) int32 or int64: for each element and
            rotation its place in the rotated filter, counted from 1 along orientation, y
            and x. Places of one rotation differ.

    Returns:
        (O * rotations, I * orientations, kh, kw) in the dtype of ``input``, differentiable
        any number of times, in ``input`` only. Places that nothing goes to are 0.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape, different devices, or (found on the CPU only, elsewhere
            undefined) a place beyond the filter.
    """
    name = "active_rotated_filter"
    check_tensor(name, "input", input, ("O", "I", "orientations", "kh", "kw"))
    _check_indices(name, input, indices, tuple(input.shape[2:]))
    return active_rotated_filter_op(input, indices)


def active_rotated_filter_backward(grad_output: Tensor, indices: Tensor) -> Tensor:
    """Gradient in ``input``."""
    name = "active_rotated_filter_backward"
    check_tensor(
        name, "grad_output", grad_output, ("O * rotations", "I * orientations", "kh", "kw")
    )
    _check_indices(name, grad_output, indices, ("orientations", *grad_output.shape[2:]))
    orientations, *_, rotations = indices.shape
    for axis, (key, count) in enumerate((("rotations", rotations), ("orientations", orientations))):
        if not count or grad_output.shape[axis] % count:
            raise ValueError(
                f"{name}: grad_output: expected a multiple of {count} {key} along dimension "
                f"{axis}, got {tuple(grad_output.shape)}"
            )
    return active_rotated_filter_backward_op(grad_output, indices)


def _check_indices(op: str, values: Tensor, indices: Tensor, shape: tuple[str | int, ...]) -> None:
    known = isinstance(indices, Tensor) and indices.dtype == torch.int32
    check_tensor(
        op, "indices", indices, (*shape, "rotations"), torch.int32 if known else torch.int64
    )
    check_same_device(op, values=values, indices=indices)
    if indices.device.type == "cpu" and indices.numel():
        low, high = (int(t) for t in indices.aminmax())
        elements = indices[..., 0].numel()
        if low < 1 or high > elements:
            raise ValueError(
                f"{op}: indices: expected places from 1 to {elements}, got {low} to {high}"
            )


def _places(indices: Tensor) -> Tensor:
    """(rotations, elements), counted from 0."""
    return indices.flatten(0, 2).T.long() - 1


@torch.library.custom_op(
    "mx_autopatch::active_rotated_filter",
    mutates_args=(),
    schema="(Tensor input, Tensor indices) -> Tensor",
)
def active_rotated_filter_op(input: Tensor, indices: Tensor) -> Tensor:
    out_planes, in_planes, orientations, height, width = input.shape
    place = _places(indices)
    rotations, elements = place.shape
    output = input.new_zeros((out_planes, rotations, in_planes, elements))
    values = input.flatten(2)[:, None].expand(output.shape)
    output.scatter_(3, place[:, None].expand(output.shape), values)
    return output.view(out_planes * rotations, in_planes * orientations, height, width)


@torch.library.custom_op(
    "mx_autopatch::active_rotated_filter_backward",
    mutates_args=(),
    schema="(Tensor grad_output, Tensor indices) -> Tensor",
)
def active_rotated_filter_backward_op(grad_output: Tensor, indices: Tensor) -> Tensor:
    place = _places(indices)
    rotations, elements = place.shape
    shape = _input_shape(grad_output, indices)
    grad = grad_output.reshape(shape[0], rotations, shape[1], elements)
    grad = grad.gather(3, place[:, None].expand(grad.shape))
    return grad.sum(1, dtype=compute_dtype(grad.dtype)).to(grad.dtype).view(shape)


def _input_shape(grad_output: Tensor, indices: Tensor) -> tuple[int, ...]:
    orientations, height, width, rotations = indices.shape
    planes = grad_output.shape[0] // rotations, grad_output.shape[1] // orientations
    return *planes, orientations, height, width


@active_rotated_filter_op.register_fake
def _(input: Tensor, indices: Tensor) -> Tensor:
    out_planes, in_planes, orientations, height, width = input.shape
    rotations = indices.shape[3]
    return input.new_empty((out_planes * rotations, in_planes * orientations, height, width))


@active_rotated_filter_backward_op.register_fake
def _(grad_output: Tensor, indices: Tensor) -> Tensor:
    return grad_output.new_empty(_input_shape(grad_output, indices))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return active_rotated_filter_backward_op(grad, *ctx.saved_tensors), None


def _backward_of_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return active_rotated_filter_op(grad, *ctx.saved_tensors), None


# Linear, so the transpose's transpose is the operator again.
active_rotated_filter_op.register_autograd(_backward, setup_context=_setup_context)
active_rotated_filter_backward_op.register_autograd(
    _backward_of_backward, setup_context=_setup_context
)
