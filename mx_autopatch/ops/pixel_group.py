"""Pixels of text gathered round its kernels.

Upstream: ``mmcv.ops.pixel_group`` (Wang et al. 2019, "Efficient and Accurate
Arbitrary-Shaped Text Detection with Pixel Aggregation Network") and
``mmcv.ops.contour_expand`` (Wang et al. 2019, "Shape Robust Text Detection with
Progressive Scale Expansion Network"), compiled for the CPU, mmcv 1.3 - 2.2.
"""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

from ._autograd import no_gradient
from ._check import check_same_device, check_tensor, compute_dtype
from ._flood import spread

__all__ = ["contour_expand", "pixel_group"]

# Left, right, up, down; and, as upstream has its axes there, up, down, left, right.
_GROUP_STEPS = ((0, -1), (0, 1), (-1, 0), (1, 0))
_EXPAND_STEPS = ((-1, 0), (1, 0), (0, -1), (0, 1))


def pixel_group(
    score: Tensor,
    mask: Tensor,
    embedding: Tensor,
    kernel_label: Tensor,
    kernel_contour: Tensor,
    kernel_region_num: int,
    distance_threshold: float,
) -> list[list[float]]:
    """Spread kernels over pixels that look like them.

    Args:
        score: (H, W) floating, of the foreground.
        mask: (H, W) bool, the foreground.
        embedding: (H, W, C) floating.
        kernel_label: (H, W) int32, the kernel of each pixel, 0 for none, below
            ``kernel_region_num``.
        kernel_contour: (H, W) uint8, not 0 where a kernel may spread from.
        kernel_region_num: kernels, the background included.
        distance_threshold: pixels join whose embedding is nearer than this to the
            mean one of the kernel.

    Returns:
        For each kernel its mean score, the number of its pixels, and x and y of each,
        row by row; two zeros for a kernel without pixels. Not differentiable.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape, different devices, or a label out of range.
    """
    op = "pixel_group"
    check_tensor(op, "score", score, ("H", "W"))
    size = tuple(score.shape)
    check_tensor(op, "mask", mask, size, torch.bool)
    check_tensor(op, "embedding", embedding, (*size, "C"))
    check_tensor(op, "kernel_label", kernel_label, size, torch.int32)
    check_tensor(op, "kernel_contour", kernel_contour, size, torch.uint8)
    check_same_device(op, score=score, mask=mask, embedding=embedding)
    check_same_device(op, score=score, label=kernel_label, contour=kernel_contour)
    highest = int(kernel_label.max()) if kernel_label.numel() else 0
    if highest >= kernel_region_num:
        raise ValueError(
            f"{op}: kernel_label: expected labels below kernel_region_num = "
            f"{kernel_region_num}, got {highest}"
        )
    kernels = kernel_label, kernel_contour, kernel_region_num
    labels = pixel_group_op(mask, embedding, *kernels, float(distance_threshold))
    return _regions(score, labels, kernel_region_num)


def _regions(score: Tensor, labels: Tensor, number: int) -> list[list[float]]:
    # A list of numbers is made on the CPU anyway.
    score, labels = score.cpu(), labels.cpu()
    y, x = (labels > 0).nonzero(as_tuple=True)
    label = labels[y, x].long()
    count = torch.bincount(label, minlength=number)
    total = score.new_zeros(number, dtype=torch.float64)
    total.index_add_(0, label, score[y, x].double())
    mean = (total / count.clamp(min=1)).float()
    order = label.argsort(stable=True)
    points = torch.stack((x, y), 1)[order].float().split(count.tolist())
    heads = torch.stack((mean, count.float()), 1).tolist()
    return [head + own.flatten().tolist() for head, own in zip(heads, points)]


def contour_expand(
    kernel_mask: Tensor, internal_kernel_label: Tensor, min_kernel_area: int, kernel_num: int
) -> Tensor:
    """Spread labels over ever larger kernels.

    Args:
        kernel_mask: (K, H, W) uint8, kernels from the largest to the smallest; the
            last, to which the labels belong, is not looked at.
        internal_kernel_label: (H, W) int32, the label of each pixel, 0 for none.
        min_kernel_area: labels of fewer pixels are dropped.
        kernel_num: the highest label.

    Returns:
        (H, W) int32 labels. Kernel by kernel they spread over its pixels, each time
        from those that had no neighbour left to label in the one before.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape, different devices, or a label out of range.
    """
    op = "contour_expand"
    check_tensor(op, "kernel_mask", kernel_mask, ("K", "H", "W"), torch.uint8)
    size = tuple(kernel_mask.shape[1:])
    check_tensor(op, "internal_kernel_label", internal_kernel_label, size, torch.int32)
    check_same_device(op, kernel_mask=kernel_mask, internal_kernel_label=internal_kernel_label)
    if internal_kernel_label.numel():
        lowest, highest = (int(t) for t in internal_kernel_label.aminmax())
        if lowest < 0 or highest > kernel_num:
            raise ValueError(
                f"{op}: internal_kernel_label: expected labels from 0 to kernel_num = "
                f"{kernel_num}, got {lowest} to {highest}"
            )
    return contour_expand_op(kernel_mask, internal_kernel_label, min_kernel_area, kernel_num)


@torch.library.custom_op(
    "mx_autopatch::pixel_group",
    mutates_args=(),
    schema="(Tensor mask, Tensor embedding, Tensor kernel_label, Tensor kernel_contour, "
    "int kernel_region_num, float distance_threshold) -> Tensor",
)
def pixel_group_op(
    mask: Tensor,
    embedding: Tensor,
    kernel_label: Tensor,
    kernel_contour: Tensor,
    kernel_region_num: int,
    distance_threshold: float,
) -> Tensor:
    pixels = embedding.to(compute_dtype(embedding.dtype)).flatten(0, 1)
    labels = kernel_label.clone(memory_format=torch.contiguous_format)
    inside = (kernel_label > 0).flatten().nonzero()[:, 0]
    own = kernel_label.flatten()[inside].long()
    mean = pixels.new_zeros(kernel_region_num, pixels.shape[1]).index_add_(0, own, pixels[inside])
    mean /= torch.bincount(own, minlength=kernel_region_num)[:, None]
    foreground = mask.flatten()

    def allowed(target: Tensor, label: Tensor) -> Tensor:
        distance = (mean[label.long()] - pixels[target]).square().sum(1)
        return foreground[target] & (distance < distance_threshold**2)

    frontier = inside[kernel_contour.flatten()[inside] != 0]
    spread(labels, frontier, _GROUP_STEPS, allowed)
    return labels


@torch.library.custom_op(
    "mx_autopatch::contour_expand",
    mutates_args=(),
    schema="(Tensor kernel_mask, Tensor internal_kernel_label, int min_kernel_area, "
    "int kernel_num) -> Tensor",
)
def contour_expand_op(
    kernel_mask: Tensor, internal_kernel_label: Tensor, min_kernel_area: int, kernel_num: int
) -> Tensor:
    flat = internal_kernel_label.flatten().long()
    area = torch.bincount(flat, minlength=kernel_num + 1)
    keep = (flat > 0) & (area[flat] >= min_kernel_area)
    labels = torch.where(keep, flat, 0).int().view(internal_kernel_label.shape)
    queue = keep.nonzero()[:, 0]
    for kernel in kernel_mask[:-1].flip(0):
        queue = spread(labels, queue, _EXPAND_STEPS, _within(kernel))
    return labels


def _within(kernel: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    inside = kernel.flatten() != 0
    return lambda target, label: inside[target]


@pixel_group_op.register_fake
def _(
    mask: Tensor,
    embedding: Tensor,
    kernel_label: Tensor,
    kernel_contour: Tensor,
    kernel_region_num: int,
    distance_threshold: float,
) -> Tensor:
    return kernel_label.new_empty(kernel_label.shape)


@contour_expand_op.register_fake
def _(
    kernel_mask: Tensor, internal_kernel_label: Tensor, min_kernel_area: int, kernel_num: int
) -> Tensor:
    return internal_kernel_label.new_empty(internal_kernel_label.shape)


no_gradient(pixel_group_op)
no_gradient(contour_expand_op)
