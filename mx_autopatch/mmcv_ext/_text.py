"""Grouping of the pixels of text, in the extension's calling convention."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["contour_expand", "pixel_group"]


def pixel_group(
    score: Tensor,
    mask: Tensor,
    embedding: Tensor,
    kernel_label: Tensor,
    kernel_contour: Tensor,
    kernel_region_num: int,
    distance_threshold: float,
) -> list[list[float]]:
    from mx_autopatch.ops.pixel_group import pixel_group

    maps = score, mask, embedding, kernel_label, kernel_contour
    return pixel_group(*maps, kernel_region_num, distance_threshold)


def contour_expand(
    kernel_mask: Tensor, internal_kernel_label: Tensor, min_kernel_area: int, kernel_num: int
) -> list[list[int]]:
    from mx_autopatch.ops.pixel_group import contour_expand

    maps = kernel_mask, internal_kernel_label
    return contour_expand(*maps, min_kernel_area, kernel_num).tolist()
