"""Overlaps of rotated boxes: ``(x, y, w, h, angle)``, the angle in degrees."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mx_autopatch.softnpu.npu.reference import reference, unsupported, widened

__all__ = ["rotated_overlap"]

Point = tuple[float, float]


def _outline(box: list[float]) -> list[Point]:
    """The four corners, counter-clockwise in a system whose y points up."""
    x, y, w, h, angle = box
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    corners = ((-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2))
    return [(x + cos * a - sin * b, y + sin * a + cos * b) for a, b in corners]


def _clipped(outline: list[Point], a: Point, b: Point) -> list[Point]:
    """The part of a convex outline to the left of the line from a to b."""

    def side(p: Point) -> float:
        return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])

    result = []
    for p, q in zip(outline, outline[1:] + outline[:1]):
        at_p, at_q = side(p), side(q)
        if at_p >= 0:
            result.append(p)
        if at_p * at_q < 0:
            share = at_p / (at_p - at_q)
            result.append((p[0] + share * (q[0] - p[0]), p[1] + share * (q[1] - p[1])))
    return result


def _area(outline: list[Point]) -> float:
    edges = zip(outline, outline[1:] + outline[:1])
    return sum(p[0] * q[1] - q[0] * p[1] for p, q in edges) / 2


def rotated_overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """The area that each two boxes share, ``(len(boxes), len(others))``, in float64 inside."""
    first = [_outline(box) for box in boxes.double().tolist()]
    second = [_outline(box) for box in others.double().tolist()]
    shared = []
    for outline in first:
        row = []
        for other in second:
            part = outline
            for a, b in zip(other, other[1:] + other[:1]):
                part = _clipped(part, a, b)
            row.append(_area(part) if len(part) > 2 else 0.0)
        shared.append(row)
    result = torch.tensor(shared, dtype=boxes.dtype, device=boxes.device)
    return result.view(len(boxes), len(others))


def _centred(boxes: Tensor, trans: bool) -> Tensor:
    """``(B, N, 5)`` with centre and size, of corners if ``trans``."""
    wide = widened(boxes)
    if not trans:
        return wide
    low, high = wide[..., :2], wide[..., 2:4]
    return torch.cat(((low + high) / 2, high - low, wide[..., 4:]), -1)


@reference("npu_rotated_overlaps")
def npu_rotated_overlaps(input: Tensor, query_boxes: Tensor, trans: bool = False) -> Tensor:
    """The shared areas, ``(B, N, K)``.

    Args:
        input: ``(B, N, 5)``, as the operator takes them (its documentation has the last two
            dimensions the other way round, its examples and its code do not).
        query_boxes: ``(B, K, 5)``.
        trans: Whether boxes are two corners and an angle.
    """
    pairs = zip(_centred(input, trans), _centred(query_boxes, trans))
    return torch.stack([rotated_overlap(a, b) for a, b in pairs]).to(input.dtype)


@reference("npu_rotated_iou")
def npu_rotated_iou(
    input: Tensor,
    query_boxes: Tensor,
    trans: bool = False,
    mode: int = 0,
    is_cross: bool = True,
    v_threshold: float = 0.0,
    e_threshold: float = 0.0,
) -> Tensor:
    """Overlaps of rotated boxes, ``(B, N, K)``.

    Arguments are as of ``npu_rotated_overlaps``; the share of the foreground, pairs and the
    thresholds are refused, since it is not documented what they give.
    """
    if mode or v_threshold or e_threshold or not is_cross:
        unsupported("npu_rotated_iou", "mode=1, is_cross=False, v_threshold or e_threshold")
    found = []
    for a, b in zip(_centred(input, trans), _centred(query_boxes, trans)):
        areas = a[:, 2] * a[:, 3], b[:, 2] * b[:, 3]
        inner = rotated_overlap(a, b)
        found.append(inner / (areas[0][:, None] + areas[1] - inner))
    return torch.stack(found).to(input.dtype)
