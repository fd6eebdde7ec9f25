"""Convolutions and whatever else goes over windows of images, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .sampling import largest, pair, pixel, sample

__all__ = [
    "active_rotated_filter",
    "carafe",
    "corner_pool",
    "correlation",
    "deform_conv2d",
    "masked_col2im",
    "masked_im2col",
    "modulated_deform_conv2d",
    "psa_mask",
    "tin_shift",
]


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """Every tap of the kernel samples where its offset says."""
    shape = offset.shape[0], offset.shape[1] // 2, *offset.shape[2:]
    return modulated_deform_conv2d(
        input, offset, offset.new_ones(shape), weight, None, stride, padding, dilation, groups,
        deform_groups,
    )  # fmt: skip


def modulated_deform_conv2d(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """The same, each sample times its mask."""
    out_channels, _, kh, kw = weight.shape
    (sy, sx), (py, px), (dy, dx) = pair(stride), pair(padding), pair(dilation)
    moved = offset.unflatten(1, (deform_groups, kh, kw, 2))
    shares = mask.unflatten(1, (deform_groups, kh, kw))
    filters = weight.reshape(groups, out_channels // groups, -1)
    images = []
    for image, own, share in zip(input.unflatten(1, (deform_groups, -1)), moved, shares):
        pixels = []
        for p in range(offset.shape[2]):
            for q in range(offset.shape[3]):
                taps = [
                    sample(
                        image[g],
                        p * sy - py + i * dy + own[g, i, j, 0, p, q],
                        q * sx - px + j * dx + own[g, i, j, 1, p, q],
                    )
                    * share[g, i, j, p, q]
                    for g in range(deform_groups)
                    for i in range(kh)
                    for j in range(kw)
                ]
                # (deform_groups, taps, C / deform_groups) to (groups, C / groups * taps)
                column = torch.stack(taps).view(deform_groups, kh * kw, -1).transpose(1, 2)
                column = column.reshape(groups, 1, -1)
                pixels.append((filters * column).sum(2).flatten())
        images.append(torch.stack(pixels, 1).view(out_channels, *offset.shape[2:]))
    if not images:
        return input.new_zeros(0, out_channels, *offset.shape[2:])
    output = torch.stack(images)
    return output if bias is None else output + bias[:, None, None]


def masked_im2col(
    image: Tensor,
    y: Tensor,
    x: Tensor,
    kernel_size: int | Sequence[int],
    padding: int | Sequence[int] = 0,
) -> Tensor:
    """The window of each of the pixels."""
    (kh, kw), (py, px) = pair(kernel_size), pair(padding)
    columns = [
        torch.stack([pixel(image[0], p - py + i, q - px + j) for i in range(kh) for j in range(kw)])
        for p, q in zip(y.tolist(), x.tolist())
    ]
    if not columns:
        return image.new_zeros(image.shape[1] * kh * kw, 0)
    return torch.stack(columns).permute(2, 1, 0).flatten(0, 1)


def masked_col2im(columns: Tensor, y: Tensor, x: Tensor, size: Sequence[int]) -> Tensor:
    """Each column at its pixel."""
    at = {(p, q): n for n, (p, q) in enumerate(zip(y.tolist(), x.tolist()))}
    none = columns.new_zeros(columns.shape[0])
    pixels = [
        columns[:, at[p, q]] if (p, q) in at else none
        for p in range(size[0])
        for q in range(size[1])
    ]
    return torch.stack(pixels, 1).view(1, -1, *size)


def carafe(
    features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> Tensor:
    """Each output pixel a sum over the window around its source."""
    batch, channels, height, width = features.shape
    reach = kernel_size // 2
    weights = masks.unflatten(1, (group_size, kernel_size, kernel_size))
    pixels = []
    for image, weight in zip(features, weights):
        for y in range(height * scale_factor):
            for x in range(width * scale_factor):
                total = image.new_zeros(channels)
                for i in range(kernel_size):
                    for j in range(kernel_size):
                        value = pixel(image, y // scale_factor + i - reach,
                                      x // scale_factor + j - reach)  # fmt: skip
                        share = weight[:, i, j, y, x]
                        total = total + value * share.repeat_interleave(channels // group_size)
                pixels.append(total)
    size = batch, height * scale_factor, width * scale_factor, channels
    if not pixels:
        return features.new_zeros(size).permute(0, 3, 1, 2)
    return torch.stack(pixels).view(size).permute(0, 3, 1, 2)


def correlation(
    input1: Tensor,
    input2: Tensor,
    kernel_size: int | Sequence[int] = 1,
    max_displacement: int = 1,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    dilation_patch: int | Sequence[int] = 1,
) -> Tensor:
    """Inner products of windows, displacement by displacement."""
    kernel, (sy, sx), (py, px) = pair(kernel_size), pair(stride), pair(padding)
    (dy, dx), step = pair(dilation), pair(dilation_patch)
    height, width = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(input1.shape[2:], kernel, (sy, sx), (py, px), (dy, dx))
    )
    displacements = range(-max_displacement, max_displacement + 1)
    values = [
        sum(
            (
                (pixel(a, y, x) * pixel(b, y + p * step[0], x + q * step[1])).sum()
                for y in range(h * sy - py, h * sy - py + kernel[0] * dy, dy)
                for x in range(w * sx - px, w * sx - px + kernel[1] * dx, dx)
            ),
            input1.new_zeros(()),
        )
        for a, b in zip(input1, input2)
        for p in displacements
        for q in displacements
        for h in range(height)
        for w in range(width)
    ]
    shape = len(input1), len(displacements), len(displacements), height, width
    return torch.stack(values).view(shape) if values else input1.new_zeros(shape)


def psa_mask(input: Tensor, psa_type: str, mask_size: tuple[int, int]) -> Tensor:
    """Masks around each pixel, written where they point to or where they are from."""
    batch, _, height, width = input.shape
    output = input.new_zeros(batch, height * width, height, width)
    for y in range(height):
        for x in range(width):
            for i in range(mask_size[0]):
                for j in range(mask_size[1]):
                    p, q = y + i - (mask_size[0] - 1) // 2, x + j - (mask_size[1] - 1) // 2
                    if 0 <= p < height and 0 <= q < width:
                        value = input[:, i * mask_size[1] + j, y, x]
                        if psa_type == "collect":
                            output[:, p * width + q, y, x] = value
                        else:
                            output[:, y * width + x, p, q] = value
    return output


def corner_pool(input: Tensor, direction: str) -> Tensor:
    """The largest from the border to each pixel; of equals the one nearest to the border."""
    if not input.numel():
        return input.clone()
    dim = 2 if direction in ("top", "bottom") else 3
    slices = list(input.unbind(dim))
    # "top" looks at what is below a pixel, "left" right of it.
    order = range(len(slices))[::-1] if direction in ("top", "left") else range(len(slices))
    pooled = {n: largest([slices[m] for m in order[: k + 1]]) for k, n in enumerate(order)}
    return torch.stack([pooled[n] for n in range(len(slices))], dim)


def active_rotated_filter(input: Tensor, indices: Tensor) -> Tensor:
    """Each element of a filter written to its place in each rotation."""
    out, planes, orientations, *kernel = input.shape
    rotations = indices.shape[-1]
    flat, places = input.flatten(2), indices.flatten(0, 2)
    output = input.new_zeros(out, rotations, planes, flat.shape[2])
    for element in range(flat.shape[2]):
        for rotation in range(rotations):
            output[:, rotation, :, int(places[element, rotation]) - 1] = flat[:, :, element]
    return output.view(out * rotations, planes * orientations, *kernel)


def tin_shift(input: Tensor, shift: Tensor) -> Tensor:
    """Each frame of each group of channels moved by so many frames."""
    output = torch.zeros_like(input)
    per_group = input.shape[2] // shift.shape[1]
    for b in range(input.shape[0]):
        for t in range(input.shape[1]):
            for g, s in enumerate(shift[b].tolist()):
                if 0 <= t + s < input.shape[1]:
                    channels = slice(g * per_group, (g + 1) * per_group)
                    output[b, t + s, channels] = input[b, t, channels]
    return output
