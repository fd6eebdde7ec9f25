"""Labels that spread over pixels from a queue, one pixel after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Callable

import torch
from torch import Tensor

__all__ = ["contour_expand", "pixel_group"]

Pixel = tuple[int, int]


def _flood(
    labels: dict[Pixel, int],
    waiting: Iterable[Pixel],
    steps: tuple[Pixel, ...],
    allowed: Callable[[Pixel, int], bool],
) -> list[Pixel]:
    """Spread ``labels`` in place; the pixels that had nowhere to go."""
    edges, queue = [], deque(waiting)
    while queue:
        y, x = queue.popleft()
        label, moved = labels[y, x], False
        for dy, dx in steps:
            place = y + dy, x + dx
            if labels.get(place, 1) == 0 and allowed(place, label):
                labels[place] = label
                queue.append(place)
                moved = True
        if not moved:
            edges.append((y, x))
    return edges


def _as_dict(labels: Tensor) -> dict[Pixel, int]:
    return {(y, x): v for y, row in enumerate(labels.tolist()) for x, v in enumerate(row)}


def pixel_group(
    score: Tensor,
    mask: Tensor,
    embedding: Tensor,
    kernel_label: Tensor,
    kernel_contour: Tensor,
    kernel_region_num: int,
    distance_threshold: float,
) -> list[list[float]]:
    """Kernels spread left, right, up and down over the foreground that resembles them."""
    labels = _as_dict(kernel_label)
    mean = {k: embedding[kernel_label == k].mean(0) for k in range(1, kernel_region_num)}
    queue = [place for place, k in labels.items() if k and kernel_contour[place]]

    def allowed(place: Pixel, label: int) -> bool:
        distance = (mean[label] - embedding[place]).square().sum()
        return bool(mask[place]) and bool(distance < distance_threshold**2)

    _flood(labels, queue, ((0, -1), (0, 1), (-1, 0), (1, 0)), allowed)
    groups: list[list[float]] = [[0, 0]]
    for k in range(1, kernel_region_num):
        own = [place for place, label in labels.items() if label == k]
        average = torch.stack([score[place] for place in own]).mean().item() if own else 0
        groups.append([average, len(own), *(c for y, x in own for c in (x, y))])
    return groups


def contour_expand(
    kernel_mask: Tensor, internal_kernel_label: Tensor, min_kernel_area: int, kernel_num: int
) -> Tensor:
    """Labels spread up, down, left and right over each kernel but the last, smallest first."""
    area = torch.bincount(internal_kernel_label.flatten(), minlength=kernel_num + 1)
    large = area[internal_kernel_label.long()] >= min_kernel_area
    labels = _as_dict(torch.where(large, internal_kernel_label, 0))
    queue = [place for place, k in labels.items() if k]
    steps = (-1, 0), (1, 0), (0, -1), (0, 1)
    for level in reversed(kernel_mask[:-1].unbind()):
        # Within the iteration, so it is this level's.
        queue = _flood(labels, queue, steps, lambda place, _: bool(level[place]))  # noqa: B023
    rows = torch.tensor(list(labels.values()), dtype=torch.int32)
    return rows.view(internal_kernel_label.shape)
