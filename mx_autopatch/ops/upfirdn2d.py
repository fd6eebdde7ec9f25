"""Up-sampling, FIR filtering and down-sampling in one.

Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN".
Upstream: ``mmcv.ops.upfirdn2d`` (compiled for CUDA only), mmcv 1.3.2 - 2.2.

It is linear, and its transpose is the same operator with up and down exchanged, the
filter turned round and other padding: so it is differentiable any number of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pad

from ._check import check_same_device, check_tensor, compute_dtype, pair

__all__ = ["resample", "upfirdn2d"]


def upfirdn2d(
    input: Tensor,
    filter: Tensor,
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: Sequence[int] = (0, 0, 0, 0),
    flip: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Insert zeros, pad, convolve each channel with the filter, and keep every n-th pixel.

    Args:
        input: (B, C, H, W) floating.
        filter: (fh, fw) floating.
        up: pixels that one becomes, ``up - 1`` zeros behind it; of both axes, or (y, x).
        down: of so many pixels the first is kept; likewise.
        padding: zeros (top, bottom, left, right) of the up-sampled image; negative crops.
        flip: correlate instead of convolve.
        gain: factor of the result.

    Returns:
        (B, C, (H * up + top + bottom - fh) // down + 1, likewise) in the dtype of
        ``input``, differentiable any number of times, in ``input`` only. Half precision is
        calculated in float32 and rounded once.

    Raises:
        TypeError: an argument is no tensor or not floating.
        ValueError: wrong shape or size, different devices, or an output without pixels.
    """
    name = "upfirdn2d"
    check_tensor(name, "input", input, ("B", "C", "H", "W"))
    check_tensor(name, "filter", filter, ("fh", "fw"))
    check_same_device(name, input=input, filter=filter)
    padding = [int(p) for p in padding]
    if len(padding) != 4:
        raise ValueError(f"{name}: padding: expected four numbers, got {padding}")
    up, down = pair(name, "up", up, 1), pair(name, "down", down, 1)
    size = _output_size(input, filter, up, down, padding)
    if not filter.numel() or min(size) < 1:
        raise ValueError(
            f"{name}: filter: expected 1 x 1 to the size of the padded image, "
            f"got {tuple(filter.shape)}"
        )
    return upfirdn2d_op(input, filter, up, down, padding, bool(flip), float(gain))


def _output_size(
    input: Tensor, filter: Tensor, up: list[int], down: list[int], padding: list[int]
) -> list[int]:
    return [
        (input.shape[2 + i] * up[i] + padding[2 * i] + padding[2 * i + 1] - filter.shape[i])
        // down[i]
        + 1
        for i in (0, 1)
    ]


def _transposed_padding(
    size: Sequence[int],
    output_size: Sequence[int],
    filter_size: Sequence[int],
    up: list[int],
    down: list[int],
    padding: list[int],
) -> list[int]:
    """Padding of the transpose, which leads from ``output_size`` back to ``size``."""
    result = []
    for i in (0, 1):
        before = filter_size[i] - padding[2 * i] - 1
        result += [before, size[i] * up[i] - output_size[i] * down[i] + padding[2 * i] - up[i] + 1]
    return result


def resample(
    images: Tensor,
    filter: Tensor,
    up: list[int],
    down: list[int],
    padding: list[int],
    flip: bool,
    gain: float,
) -> Tensor:
    """``upfirdn2d`` in the dtype of ``images``, which must not be half precision."""
    size = _output_size(images, filter, up, down, padding)
    channels = images.shape[1]
    # Channel by channel: many times faster than images of one channel each.
    taps = (filter.to(images.dtype) * gain).expand(channels, 1, *filter.shape)
    top, bottom, left, right = padding
    if not images.numel():
        return images.new_zeros((*images.shape[:2], *size))
    if down == [1, 1] and up != [1, 1]:
        # A transposed convolution does not multiply the zeros. It is as long as
        # the filter reaches on both sides, which the padding is reckoned from.
        taps = taps.flip(2, 3) if flip else taps
        full = conv_transpose2d(images, taps, stride=up, groups=channels)
        top, left = top - filter.shape[0] + 1, left - filter.shape[1] + 1
        bottom, right = size[0] - full.shape[2] - top, size[1] - full.shape[3] - left
        return pad(full, (left, right, top, bottom))
    if up != [1, 1]:
        batch, _, height, width = images.shape
        spread = images.new_zeros((batch, channels, height, up[0], width, up[1]))
        spread[:, :, :, 0, :, 0] = images
        images = spread.flatten(4).flatten(2, 3)
    images = pad(images, (left, right, top, bottom))
    return conv2d(images, taps if flip else taps.flip(2, 3), stride=down, groups=channels)


@torch.library.custom_op(
    "mx_autopatch::upfirdn2d",
    mutates_args=(),
    schema="(Tensor input, Tensor filter, SymInt[] up, SymInt[] down, SymInt[] padding, "
    "bool flip, float gain) -> Tensor",
)
def upfirdn2d_op(
    input: Tensor,
    filter: Tensor,
    up: list[int],
    down: list[int],
    padding: list[int],
    flip: bool,
    gain: float,
) -> Tensor:
    output = resample(input.to(compute_dtype(input.dtype)), filter, up, down, padding, flip, gain)
    return output.to(input.dtype).contiguous()


@upfirdn2d_op.register_fake
def _(
    input: Tensor,
    filter: Tensor,
    up: list[int],
    down: list[int],
    padding: list[int],
    flip: bool,
    gain: float,
) -> Tensor:
    size = _output_size(input, filter, up, down, padding)
    return input.new_empty((*input.shape[:2], *size))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, filter, *ctx.options = inputs
    ctx.size = input.shape[2:], output.shape[2:]
    ctx.save_for_backward(filter)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (filter,) = ctx.saved_tensors
    up, down, padding, flip, gain = ctx.options
    size, output_size = ctx.size
    padding = _transposed_padding(size, output_size, filter.shape, up, down, padding)
    grad_input = upfirdn2d_op(grad, filter, down, up, padding, not flip, gain)
    return grad_input, None, None, None, None, None, None


upfirdn2d_op.register_autograd(_backward, setup_context=_setup_context)
