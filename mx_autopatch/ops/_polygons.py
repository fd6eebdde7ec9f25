"""Convex polygons in the plane, many at a time: clipping, area, hull.

A polygon is its x and its y coordinates, each (P, V), in counter-clockwise order
when x points right and y up. Vertices may repeat, which is how polygons of fewer
than V vertices are padded.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = [
    "Polygon",
    "area",
    "candidate_pairs",
    "counter_clockwise",
    "cross",
    "exact_dtype",
    "hull",
    "intersection_area",
    "rectangles",
]

Polygon = tuple[Tensor, Tensor]

# Comparisons of bounding boxes, and polygons clipped, at a time: bounds the memory.
_COMPARISONS = 1 << 20
_POLYGONS = 1 << 16


def exact_dtype(tensor: Tensor) -> torch.dtype:
    """float64 where the device has it at no great cost, as upstream's polygons; else float32."""
    return torch.float64 if tensor.device.type in ("cpu", "cuda", "meta") else torch.float32


def cross(ax: Tensor, ay: Tensor, bx: Tensor, by: Tensor) -> Tensor:
    return ax * by - ay * bx


def rectangles(boxes: Tensor) -> Polygon:
    """Corners of boxes (P, 5) ``x, y, w, h, angle``: turned by ``angle`` radians from x to y."""
    x, y, w, h, angle = boxes.unbind(1)
    w, h = w.abs() / 2, h.abs() / 2
    cos, sin = angle.cos(), angle.sin()
    wx, wy, hx, hy = w * cos, w * sin, -h * sin, h * cos
    return (
        torch.stack((x - wx - hx, x + wx - hx, x + wx + hx, x - wx + hx), 1),
        torch.stack((y - wy - hy, y + wy - hy, y + wy + hy, y - wy + hy), 1),
    )


def signed_area(polygon: Polygon) -> Tensor:
    # From the first vertex: coordinates far from the origin would cancel.
    x, y = (t[:, 1:] - t[:, :1] for t in polygon)
    return cross(x[:, :-1], y[:, :-1], x[:, 1:], y[:, 1:]).sum(1) / 2


def area(polygon: Polygon) -> Tensor:
    return signed_area(polygon).abs()


def counter_clockwise(polygon: Polygon) -> Polygon:
    """The same polygons, those in clockwise order reversed."""
    clockwise = (signed_area(polygon) < 0)[:, None]
    x, y = (torch.where(clockwise, t.flip(1), t) for t in polygon)
    return x, y


def _clip(polygon: Polygon, ax: Tensor, ay: Tensor, bx: Tensor, by: Tensor) -> Polygon:
    """The part to the left of the lines from a to b, with one vertex more (Sutherland, Hodgman).

    Vertices left of the line stay; a side that crosses it leaves its crossing.
    """
    x, y = polygon
    side = cross((bx - ax)[:, None], (by - ay)[:, None], x - ax[:, None], y - ay[:, None])
    inside = side >= 0
    next_side = side.roll(-1, 1)
    crossing = inside != inside.roll(-1, 1)
    t = torch.where(crossing, side / (side - next_side), 0.0)
    valid = torch.stack((inside, crossing), 2).flatten(1)
    place, count = valid.cumsum(1), valid.sum(1, keepdim=True)
    capacity = x.shape[1] + 1
    # What is not valid goes to a place of its own, cut off afterwards.
    place = torch.where(valid, place - 1, capacity).clamp_(max=capacity)
    unused = torch.arange(capacity, device=x.device) >= count

    def compact(t_values: Tensor) -> Tensor:
        ends = t_values + t * (t_values.roll(-1, 1) - t_values)
        slots = torch.stack((t_values, ends), 2).flatten(1)
        packed = slots.new_zeros(len(slots), capacity + 1).scatter_(1, place, slots)
        return torch.where(unused, packed[:, :1], packed[:, :capacity])

    return compact(x), compact(y)


def intersection_area(a: Polygon, b: Polygon) -> Tensor:
    """(P,) areas that convex polygons share pairwise; ``b`` in counter-clockwise order."""
    bx, by = b
    end_x, end_y = bx.roll(-1, 1), by.roll(-1, 1)
    for side in range(bx.shape[1]):
        a = _clip(a, bx[:, side], by[:, side], end_x[:, side], end_y[:, side])
    return area(a)


def hull(x: Tensor, y: Tensor) -> Tensor:
    """Convex hulls of point sets (P, V): indices (P, V) of their vertices.

    Counter-clockwise from the lowest point (of those the leftmost); once around, the
    first index repeats. Of equal points the first is taken. (Jarvis: turn as little
    as possible, and go as far as possible.)
    """
    lowest = torch.where(y == y.amin(1, keepdim=True), x, torch.inf).argmin(1, keepdim=True)
    found = [lowest]
    dx, dy = torch.ones_like(x[:, :1]), torch.zeros_like(x[:, :1])
    done = torch.zeros_like(lowest, dtype=torch.bool)
    for _ in range(x.shape[1] - 1):
        here = found[-1]
        vx, vy = x - x.gather(1, here), y - y.gather(1, here)
        turn = torch.atan2(cross(dx, dy, vx, vy), dx * vx + dy * vy)
        # A hull never turns right; what rounding makes of straight on is straight on.
        turn = torch.where(turn < -1e-9, turn + 2 * torch.pi, turn.clamp(min=0))
        turn = torch.where((vx == 0) & (vy == 0), torch.inf, turn)
        least = turn.amin(1, keepdim=True)
        far = torch.where(turn <= least + 1e-12, vx.square() + vy.square(), -1.0)
        # A set that is one point has nowhere to go.
        done = done | torch.isinf(least)
        there = torch.where(done, lowest, far.argmax(1, keepdim=True))
        done = done | (x.gather(1, there) == x.gather(1, lowest)) & (
            y.gather(1, there) == y.gather(1, lowest)
        )
        there = torch.where(done, lowest, there)
        dx, dy = vx.gather(1, there), vy.gather(1, there)
        found.append(there)
    return torch.cat(found, 1)


def candidate_pairs(a: Polygon, b: Polygon, upper: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
    """Indices (i, j) of polygons whose bounding boxes meet, some at a time.

    Args:
        upper: only pairs with i < j.
    """
    low_a, high_a, low_b, high_b = (
        torch.stack([f(t) for t in p]) if len(p[0]) else torch.zeros_like(torch.stack(p)[..., 0])
        for p in (a, b)
        for f in (lambda t: t.amin(1), lambda t: t.amax(1))
    )
    rows = max(1, _COMPARISONS // max(1, low_b.shape[1]))
    for begin in range(0, low_a.shape[1], rows):
        first = begin if upper else 0
        part = slice(begin, begin + rows)
        meet = (low_a[:, part, None] <= high_b[:, None, first:]) & (
            low_b[:, None, first:] <= high_a[:, part, None]
        )
        meet = meet[0] & meet[1]
        i, j = (meet.triu(1) if upper else meet).nonzero(as_tuple=True)
        for chunk in range(0, len(i), _POLYGONS):
            some = slice(chunk, chunk + _POLYGONS)
            yield i[some] + begin, j[some] + first
