"""Areas of convex polygons, pair by pair, in a way of its own: gather, sort, add up."""

from __future__ import annotations

import math

import numpy as np


def rectangle(box):
    """Corners of ``x, y, w, h, angle``."""
    x, y, w, h, angle = map(float, box)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    half = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2
    return half @ turn.T + [x, y]


def area(polygon):
    x, y = np.asarray(polygon, float).T
    return abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2


def _contains(polygon, point):
    sides = np.roll(polygon, -1, 0) - polygon
    to_point = point - polygon
    cross = sides[:, 0] * to_point[:, 1] - sides[:, 1] * to_point[:, 0]
    return (cross >= -1e-12).all() or (cross <= 1e-12).all()


def intersection(a, b):
    """Area shared by two convex polygons, arrays (V, 2)."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    points = [p for p in a if _contains(b, p)] + [p for p in b if _contains(a, p)]
    for p, p_next in zip(a, np.roll(a, -1, 0)):
        for q, q_next in zip(b, np.roll(b, -1, 0)):
            matrix = np.stack((p_next - p, q - q_next), 1)
            if abs(np.linalg.det(matrix)) > 1e-12:
                s, t = np.linalg.solve(matrix, q - p)
                if 0 <= s <= 1 and 0 <= t <= 1:
                    points.append(p + s * (p_next - p))
    if len(points) < 3:
        return 0.0
    points = np.array(points)
    around = points - points.mean(0)
    return area(points[np.argsort(np.arctan2(around[:, 1], around[:, 0]))])


def convex_hull(points):
    """Andrew's monotone chain; in counter-clockwise order."""
    points = sorted(set(map(tuple, np.asarray(points, float).tolist())))

    def chain(points):
        out = []
        for p in points:
            while len(out) > 1 and (
                (out[-1][0] - out[-2][0]) * (p[1] - out[-2][1])
                - (out[-1][1] - out[-2][1]) * (p[0] - out[-2][0])
                <= 0
            ):
                out.pop()
            out.append(p)
        return out[:-1]

    return np.array(points if len(points) < 3 else chain(points) + chain(points[::-1]))
