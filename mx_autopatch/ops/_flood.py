"""Labels that spread from pixel to pixel, as if pixels waited in one queue."""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

__all__ = ["spread"]


def spread(
    labels: Tensor,
    frontier: Tensor,
    steps: tuple[tuple[int, int], ...],
    allowed: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Spread labels from ``frontier`` to unlabelled neighbours, step by step.

    All pixels of a distance go at once. Of several that reach a pixel, the one that
    waited first labels it, as in a queue worked off pixel by pixel.

    Args:
        labels: (H, W) integer, 0 for none; filled in.
        frontier: (F,) int64, pixels ``y * W + x``, in the order of the queue.
        steps: neighbours as (y, x), in the order in which they are looked at.
        allowed: says of pixels and labels, each (N,), which pixels may take them.

    Returns:
        (E,) int64: pixels that labelled no neighbour, in the order of the queue.
    """
    height, width = labels.shape
    flat = labels.view(-1)
    step_y, step_x = torch.tensor(steps, device=labels.device).T
    edges = [frontier[:0]]
    while frontier.numel():
        y = frontier[:, None] // width + step_y
        x = frontier[:, None] % width + step_x
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        place = inside.flatten().nonzero()[:, 0]
        target = (y * width + x).flatten()[place]
        label = flat[frontier[place // len(steps)]]
        open_ = (flat[target] <= 0) & allowed(target, label)
        place, target, label = place[open_], target[open_], label[open_]
        # The first to reach each pixel, in the order of the queue.
        ordered, order = target.sort(stable=True)
        first = torch.ones_like(ordered, dtype=torch.bool)
        first[1:] = ordered[1:] != ordered[:-1]
        winner = order[first].sort()[0]
        flat[target[winner]] = label[winner]
        idle = torch.ones_like(frontier, dtype=torch.bool)
        idle[place[winner] // len(steps)] = False
        edges.append(frontier[idle])
        frontier = target[winner]
    return torch.cat(edges)
