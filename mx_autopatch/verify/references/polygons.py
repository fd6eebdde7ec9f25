"""Areas of convex polygons, arrays (V, 2), pair by pair: gather points, sort them, add up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["area", "contains", "convex_hull", "intersection", "rectangle", "smallest_rectangle"]

Array = Any  # numpy's types differ too much from one release to the next


def rectangle(box: Sequence[float]) -> Array:
    """Corners of ``x, y, w, h, angle``."""
    x, y, w, h, angle = map(float, box)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    half = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2
    return half @ turn.T + [x, y]


def area(polygon: Array) -> float:
    x, y = np.asarray(polygon, float).T
    return float(abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2)


def contains(polygon: Array, point: Array) -> bool:
    """Whether a point is inside or, but for rounding, on the boundary."""
    sides = np.roll(polygon, -1, 0) - polygon
    to_point = point - polygon
    cross = sides[:, 0] * to_point[:, 1] - sides[:, 1] * to_point[:, 0]
    return bool((cross >= -1e-12).all() or (cross <= 1e-12).all())


def intersection(a: Array, b: Array) -> float:
    """Area that both share."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    points = [p for p in a if contains(b, p)] + [p for p in b if contains(a, p)]
    for p, p_next in zip(a, np.roll(a, -1, 0)):
        for q, q_next in zip(b, np.roll(b, -1, 0)):
            matrix = np.stack((p_next - p, q - q_next), 1)
            if abs(np.linalg.det(matrix)) > 1e-12:
                s, t = np.linalg.solve(matrix, q - p)
                if 0 <= s <= 1 and 0 <= t <= 1:
                    points.append(p + s * (p_next - p))
    if len(points) < 3:
        return 0.0
    corners = np.array(points)
    around = corners - corners.mean(0)
    return area(corners[np.argsort(np.arctan2(around[:, 1], around[:, 0]))])


def convex_hull(points: Array) -> Array:
    """Andrew's monotone chain; counter-clockwise."""
    ordered = sorted(set(map(tuple, np.asarray(points, float).tolist())))

    def chain(points: list[Any]) -> list[Any]:
        out: list[Any] = []
        for p in points:
            while len(out) > 1 and (
                (out[-1][0] - out[-2][0]) * (p[1] - out[-2][1])
                - (out[-1][1] - out[-2][1]) * (p[0] - out[-2][0])
                <= 0
            ):
                out.pop()
            out.append(p)
        return out[:-1]

    return np.array(ordered if len(ordered) < 3 else chain(ordered) + chain(ordered[::-1]))


def smallest_rectangle(points: Array) -> Array:
    """Corners (4, 2) of the smallest rectangle around points, along a side of their hull.

    In axes turned by the angle of the side, in [0, pi / 2), the corners are (max, min),
    (min, min), (min, max), (max, max). Of several smallest, the one along the first side,
    from the lowest point on, counter-clockwise.
    """
    hull = convex_hull(points)
    first = min(range(len(hull)), key=lambda k: (hull[k][1], hull[k][0]))
    hull = np.roll(hull, -first, 0)
    best, corners = math.inf, hull
    for side in np.roll(hull, -1, 0) - hull:
        angle = math.atan2(side[1], side[0]) % (math.pi / 2)
        axes = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        (u0, v0), (u1, v1) = (f(hull @ axes, axis=0) for f in (np.min, np.max))
        size = (u1 - u0) * (v1 - v0)
        if size < best - 1e-9:
            best = size
            corners = np.array([[u1, v0], [u0, v0], [u0, v1], [u1, v1]]) @ axes.T
    return corners
