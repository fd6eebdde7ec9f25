"""Up-sampling, bias, leaky ReLU with a limit, and down-sampling in one.

Karras et al. 2021, "Alias-Free Generative Adversarial Networks".
Upstream: ``mmcv.ops.filtered_lrelu`` (compiled for CUDA only), mmcv 2.0 - 2.2.

What the activation did to each pixel is kept in two bits, four pixels a byte, from the
lowest: 1 took the negative slope, 2 was limited. With them the gradient is this operator
again, filters exchanged, which reads the bits instead of looking at the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._check import check_same_device, check_tensor, compute_dtype
from ._signs import activate, packed, seen, signs_shape, sizes_of, taps
from .upfirdn2d import resample

__all__ = ["filtered_lrelu", "filtered_lrelu_act", "filtered_lrelu_with_signs"]


def filtered_lrelu(
    input: Tensor,
    filter_up: Tensor | None = None,
    filter_down: Tensor | None = None,
    bias: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int | Sequence[int] = 0,
    gain: float = 2**0.5,
    slope: float = 0.2,
    clamp: float | None = None,
    flip_filter: bool = False,
) -> Tensor:
    """Bias, up-sample, leaky ReLU times gain, limit, and down-sample.

    Args:
        input: (B, C, H, W) floating.
        filter_up, filter_down: (n,) of both axes or (fh, fw), floating; None is 1.
        bias: (C,) in the dtype of ``input``, or None.
        up, down: factors of both axes.
        padding: of the up-sampled image on all sides, (x, y), or (left, right, top, bottom).
        gain: factor of the activation.
        slope: of negative values.
        clamp: limit of the activation, or None.
        flip_filter: correlate instead of convolve.

    Returns:
        (B, C, Ho, Wo) in the dtype of ``input``, differentiable any number of times, in
        ``input`` and ``bias``. Half precision is calculated in float32 and rounded once.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape or size, or different devices.
    """
    sides = [int(padding)] * 2 if isinstance(padding, int) else [int(p) for p in padding]
    if len(sides) == 2:
        sides = [sides[0], sides[0], sides[1], sides[1]]
    output, _ = filtered_lrelu_with_signs(
        input,
        filter_up,
        filter_down,
        bias,
        None,
        up,
        down,
        sides,
        (0, 0),
        gain,
        slope,
        float("inf") if clamp is None else clamp,
        flip_filter,
        True,
    )
    return output


def filtered_lrelu_with_signs(
    input: Tensor,
    filter_up: Tensor | None,
    filter_down: Tensor | None,
    bias: Tensor | None,
    signs: Tensor | None,
    up: int,
    down: int,
    padding: Sequence[int],
    offset: Sequence[int],
    gain: float,
    slope: float,
    clamp: float,
    flip_filter: bool,
    write_signs: bool,
) -> tuple[Tensor, Tensor]:
    """``filtered_lrelu``, and the bits of what it did.

    Args:
        signs: (B, C, h, w / 4) uint8, bits to follow, or None.
        padding: (left, right, top, bottom).
        offset: (x, y), added to a pixel's place to find its bits; pixels that have none are
            taken for positive.
        write_signs: return bits, where none are followed.

    Returns:
        output; bits (B, C, h, w / 4), of h and w pixels that the filter looks at, w rounded
        up to 16; or empty.
    """
    name = "filtered_lrelu"
    check_tensor(name, "input", input, ("B", "C", "H", "W"))
    filter_up = _filter(name, input, "up", filter_up)
    filter_down = _filter(name, input, "down", filter_down)
    if bias is not None:
        check_tensor(name, "bias", bias, (input.shape[1],), input.dtype)
    check_same_device(name, input=input, bias=bias)
    _check_signs(name, input, signs)
    if len(padding) != 4:
        raise ValueError(f"{name}: padding: expected one, two or four numbers, got {padding}")
    for key, factor in (("up", up), ("down", down)):
        if factor < 1:
            raise ValueError(f"{name}: {key}: expected at least 1, got {factor}")
    left, right, top, bottom = padding
    sizes = [int(up), int(down), top, bottom, left, right, *offset]
    middle, size = sizes_of(input.shape, filter_up, filter_down, sizes)
    if min(size) < 1:
        raise ValueError(
            f"{name}: filter_down: expected at most the size of the up-sampled image "
            f"{tuple(middle)}, got {tuple(filter_down.shape)}"
        )
    write = bool(write_signs) and signs is None
    options = float(gain), float(slope), float(clamp), bool(flip_filter), write
    return filtered_lrelu_op(input, filter_up, filter_down, bias, signs, sizes, *options)


def filtered_lrelu_act(
    input: Tensor,
    signs: Tensor | None,
    offset: Sequence[int],
    gain: float,
    slope: float,
    clamp: float,
    write_signs: bool,
) -> tuple[Tensor, Tensor]:
    """The activation of ``filtered_lrelu`` alone: output and bits, those of all pixels."""
    name = "filtered_lrelu_act"
    check_tensor(name, "input", input, ("B", "C", "H", "W"))
    _check_signs(name, input, signs)
    write = bool(write_signs) and signs is None
    options = float(gain), float(slope), float(clamp), write
    return filtered_lrelu_act_op(input, signs, list(offset), *options)


def _filter(op: str, input: Tensor, which: str, filter: Tensor | None) -> Tensor:
    if filter is None:
        return input.new_ones((1, 1), dtype=torch.float32)
    shape = ("n",) if isinstance(filter, Tensor) and filter.dim() == 1 else ("fh", "fw")
    check_tensor(op, f"filter_{which}", filter, shape)
    check_same_device(op, **{"input": input, f"filter_{which}": filter})
    if not filter.numel():
        raise ValueError(f"{op}: filter_{which}: expected elements, got {tuple(filter.shape)}")
    return filter


def _check_signs(op: str, input: Tensor, signs: Tensor | None) -> None:
    if signs is not None:
        check_tensor(op, "signs", signs, (*input.shape[:2], "h", "w / 4"), torch.uint8)
        check_same_device(op, input=input, signs=signs)


def _filtered(
    images: Tensor,
    filter: Tensor,
    up: int,
    down: int,
    padding: list[int],
    flip: bool,
    gain: float,
) -> Tensor:
    if filter.dim() == 2:
        return resample(images, filter, [up] * 2, [down] * 2, padding, flip, gain)
    rows, columns = [0, 0, *padding[2:]], [*padding[:2], 0, 0]
    images = resample(images, filter[None], [1, up], [1, down], rows, flip, 1.0)
    return resample(images, filter[:, None], [up, 1], [down, 1], columns, flip, gain)


_OPTIONS = "float gain, float slope, float clamp"


@torch.library.custom_op(
    "mx_autopatch::filtered_lrelu",
    mutates_args=(),
    schema="(Tensor input, Tensor filter_up, Tensor filter_down, Tensor? bias, Tensor? signs, "
    f"SymInt[] sizes, {_OPTIONS}, bool flip, bool write) -> (Tensor output, Tensor signs)",
)
def filtered_lrelu_op(
    input: Tensor,
    filter_up: Tensor,
    filter_down: Tensor,
    bias: Tensor | None,
    signs: Tensor | None,
    sizes: list[int],
    gain: float,
    slope: float,
    clamp: float,
    flip: bool,
    write: bool,
) -> tuple[Tensor, Tensor]:
    up, down, *padding = sizes[:6]
    value = input.to(compute_dtype(input.dtype))
    if bias is not None:
        value = value + bias.to(value.dtype)[:, None, None]
    value = _filtered(value, filter_up, up, 1, padding, flip, float(up * up))
    value, code = activate(value, signs, sizes[6:], gain, slope, clamp)
    output = _filtered(value, filter_down, 1, down, [0, 0, 0, 0], flip, 1.0)
    if write:
        height, width = seen(list(output.shape[2:]), filter_down, down)
        bits = packed(code[:, :, :height, :width])
    else:
        bits = code.new_empty((0,))
    return output.to(input.dtype).contiguous(), bits


@torch.library.custom_op(
    "mx_autopatch::filtered_lrelu_act",
    mutates_args=(),
    schema=f"(Tensor input, Tensor? signs, SymInt[] offset, {_OPTIONS}, bool write)"
    " -> (Tensor output, Tensor signs)",
)
def filtered_lrelu_act_op(
    input: Tensor,
    signs: Tensor | None,
    offset: list[int],
    gain: float,
    slope: float,
    clamp: float,
    write: bool,
) -> tuple[Tensor, Tensor]:
    value, code = activate(input.to(compute_dtype(input.dtype)), signs, offset, gain, slope, clamp)
    bits = packed(code) if write else code.new_empty((0,))
    return torch.empty_like(input).copy_(value), bits


@filtered_lrelu_op.register_fake
def _(
    input: Tensor,
    filter_up: Tensor,
    filter_down: Tensor,
    bias: Tensor | None,
    signs: Tensor | None,
    sizes: list[int],
    gain: float,
    slope: float,
    clamp: float,
    flip: bool,
    write: bool,
) -> tuple[Tensor, Tensor]:
    _, size = sizes_of(input.shape, filter_up, filter_down, sizes)
    output = input.new_empty((*input.shape[:2], *size))
    shape = signs_shape(input.shape, seen(size, filter_down, sizes[1])) if write else (0,)
    return output, output.new_empty(shape, dtype=torch.uint8)


@filtered_lrelu_act_op.register_fake
def _(
    input: Tensor,
    signs: Tensor | None,
    offset: list[int],
    gain: float,
    slope: float,
    clamp: float,
    write: bool,
) -> tuple[Tensor, Tensor]:
    shape = signs_shape(input.shape, list(input.shape[2:])) if write else (0,)
    return torch.empty_like(input), input.new_empty(shape, dtype=torch.uint8)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    input, filter_up, filter_down, _, signs, ctx.sizes, *ctx.options, write = inputs
    ctx.shapes = input.shape, output[0].shape
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.known = write or signs is not None
    ctx.save_for_backward(filter_up, filter_down, output[1] if write else signs)


def _backward(ctx: Any, grad: Tensor | None, unused: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 11
    if not ctx.known:
        raise RuntimeError("filtered_lrelu: a gradient needs the signs, which were not written")
    filter_up, filter_down, signs = ctx.saved_tensors
    up, down, *padding, x, y = ctx.sizes
    gain, slope, _, flip = ctx.options
    # The transpose of the two filters in turn, with the activation between them.
    sizes = [down, up]
    for i, (n, m) in enumerate(zip(*(shape[2:] for shape in ctx.shapes))):
        before = taps(filter_up, i) + taps(filter_down, i) - 2 - padding[2 * i]
        sizes += [before, n * up - m * down + padding[2 * i] - up + 1]
    sizes += [x - taps(filter_up, 1) + 1 + padding[2], y - taps(filter_up, 0) + 1 + padding[0]]
    gain *= (up / down) ** 2
    options = gain, slope, float("inf"), not flip, False
    grad_input, _ = filtered_lrelu_op(grad, filter_down, filter_up, None, signs, sizes, *options)
    grad_bias = grad_input.sum((0, 2, 3)) if ctx.needs_input_grad[3] else None
    return grad_input, None, None, grad_bias, *(None for _ in range(7))


filtered_lrelu_op.register_autograd(_backward, setup_context=_setup_context)
