"""Max pooling of the samples of RoI bins."""

from __future__ import annotations

import torch
from torch import Tensor

from ._bilinear import linear_taps, weighted_bags
from ._roi_grid import Axis, split

__all__ = ["max_pool", "max_pool_backward"]

_ELEMENTS = 1 << 18  # gradients scattered at a time, so that temporaries stay in the cache


def max_pool(
    pixels: Tensor, image: Tensor, y: Axis, x: Axis, output: Tensor, argmax: Tensor
) -> None:
    """Fill in the largest sample of each bin, and where it lies.

    Args:
        pixels: (B * H * W, C), as ``pixel_rows`` has them.
        image: (R,) index of the image of each RoI, int64.
        output: (R, bins y, bins x, C); bins without samples are left alone.
        argmax: (2, R, bins y, bins x, C), the coordinates along y and x; likewise.
    """
    samples = y.grid * x.grid
    order = samples.argsort()  # RoIs of similar grids together, so that padding stays small
    order = order[samples[order] > 0]
    if not order.numel():
        return
    for part in split(samples[order] * (y.bins * x.bins * pixels.shape[1])):
        rois = order[part]
        (y_at, y_counts), (x_at, x_counts) = y[rois].samples(), x[rois].samples()
        y_line, y_weight = linear_taps(y_at, y.size)
        x_line, x_weight = linear_taps(x_at, x.size)
        row = (image[rois, None, None, None] * y.size + y_line) * x.size
        # RoI, bin y, bin x, sample y, sample x, tap y, tap x: four entries a sample.
        pixel = row[:, :, None, :, None, :, None] + x_line[:, None, :, None, :, None, :]
        weight = y_weight[:, :, None, :, None, :, None] * x_weight[:, None, :, None, :, None, :]
        four = image.new_full((pixel.numel() // 4,), 4)
        value = weighted_bags(pixels, pixel.flatten(), weight.flatten().to(pixels), four)
        value = value.view(*pixel.shape[:3], -1, pixels.shape[1])
        padding = ~(y_counts[:, :, None] & x_counts[:, None, :]).flatten(1)
        if padding.any():
            value.masked_fill_(padding[:, None, None, :, None], float("-inf"))
        output[rois], winner = value.max(3)
        for axis, at in enumerate((y_at[:, :, None, :, None], x_at[:, None, :, None, :])):
            at = at.to(argmax).expand(pixel.shape[:5]).flatten(3)
            argmax[axis, rois] = at.gather(3, winner)


def max_pool_backward(
    grad_output: Tensor, image: Tensor, argmax_y: Tensor, argmax_x: Tensor, grad_input: Tensor
) -> None:
    """Add each element's gradient to the four pixels (B, C, H, W) around its maximum."""
    _, channels, height, width = grad_input.shape
    channel = torch.arange(channels, device=image.device)
    plane = (image[:, None] * channels + channel)[:, :, None, None] * height
    rois = max(_ELEMENTS // grad_output[0].numel(), 1)
    whole = (grad_output, plane, argmax_y, argmax_x)
    for grad, plane, y, x in zip(*(t.split(rois) for t in whole)):
        grad = grad.to(grad_input).masked_fill((y == -1) & (x == -1), 0.0)
        y_line, y_weight = linear_taps(y.to(grad), height)
        x_line, x_weight = linear_taps(x.to(grad), width)
        for i in (0, 1):
            for j in (0, 1):
                pixel = (plane + y_line[..., i]) * width + x_line[..., j]
                share = grad * y_weight[..., i] * x_weight[..., j]
                grad_input.view(-1).scatter_add_(0, pixel.flatten(), share.flatten())
