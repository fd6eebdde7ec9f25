"""Overlaps and suppression of boxes, axis-aligned, turned, quadrilateral and 3D."""

from __future__ import annotations

import torch
from torch import Tensor

from mx_autopatch import ops
from mx_autopatch.verify.check import Arguments, Check
from mx_autopatch.verify.source import Source

__all__ = ["CHECKS"]


def _quadrilaterals(source: Source, number: int) -> Tensor:
    """(number, 8) turned squares, convex and with corners in whole pixels."""
    x1, y1, x2, y2 = source.boxes(number).unbind(1)
    u, v = x2 - x1, y2 - y1
    x, y = x1, y1 + 64
    return torch.stack((x, y, x + u, y + v, x + u - v, y + v + u, x - v, y + u), 1)


def _sets(source: Source, number: int) -> Tensor:
    """(number, 18) nine points each, in whole pixels."""
    points = (source.values(number, 9, 2) * 8).round() + source.boxes(number)[:, None, :2]
    return points.reshape(number, 18)


def _overlaps(source: Source, n: int) -> Arguments:
    return {"bboxes1": source.boxes(n), "bboxes2": source.boxes(n)}


def _turned(source: Source, n: int) -> Arguments:
    return {"bboxes1": source.turned(n), "bboxes2": source.turned(n)}


def _quadri(source: Source, n: int) -> Arguments:
    return {"bboxes1": _quadrilaterals(source, n), "bboxes2": _quadrilaterals(source, n)}


def _bev(source: Source, n: int) -> Arguments:
    return {"boxes_a": source.boxes3d(n), "boxes_b": source.boxes3d(n)}


def _nms(source: Source, n: int) -> Arguments:
    return {"boxes": source.boxes(n), "scores": source.scores(n), "iou_threshold": 0.25}


def _nms_match(source: Source, n: int) -> Arguments:
    dets = torch.cat((source.boxes(n), source.scores(n)[:, None]), 1)
    return {"dets": dets, "iou_threshold": 0.25}


def _nms_rotated(source: Source, n: int) -> Arguments:
    return {"dets": source.turned(n), "scores": source.scores(n), "iou_threshold": 0.3}


def _nms_quadri(source: Source, n: int) -> Arguments:
    return {"dets": _quadrilaterals(source, n), "scores": source.scores(n), "iou_threshold": 0.3}


def _nms3d(source: Source, n: int) -> Arguments:
    return {"boxes": source.boxes3d(n), "scores": source.scores(n), "iou_threshold": 0.3}


def _convex(source: Source, n: int) -> Arguments:
    return {"pointsets": _sets(source, n), "polygons": _quadrilaterals(source, n)}


def _greedy(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Suppression one box after the other, the reference of ``nms``."""
    kept: list[int] = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        low = torch.maximum(boxes[i, :2], boxes[kept, :2])
        high = torch.minimum(boxes[i, 2:], boxes[kept, 2:])
        inter = (high - low + offset).clamp(min=0).prod(1)
        area = (boxes[kept, 2:] - boxes[kept, :2] + offset).prod(1)
        own = (boxes[i, 2:] - boxes[i, :2] + offset).prod()
        if not bool((inter / (area + own - inter) > iou_threshold).any()):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64)


_MODES = ({"mode": "iof"}, {"aligned": True})

CHECKS = (
    Check("bbox_overlaps", ops.bbox_overlaps, _overlaps, special=("bboxes1",),
          variants=(*_MODES, {"offset": 1})),
    Check("box_iou_rotated", ops.box_iou_rotated, _turned, variants=_MODES),
    Check("box_iou_quadri", ops.box_iou_quadri, _quadri, variants=_MODES),
    Check("boxes_overlap_bev", ops.boxes_overlap_bev, _bev),
    Check("nms", ops.nms, _nms, special=("boxes",), variants=({"offset": 1},), size=40,
          typical=2000, reference=_greedy),
    Check("soft_nms", ops.soft_nms, _nms, variants=({"method": "naive"}, {"method": "gaussian"}),
          size=20),
    Check("nms_match", ops.nms_match, _nms_match, size=40, typical=2000),
    Check("nms_rotated", ops.nms_rotated, _nms_rotated, size=20),
    Check("nms_quadri", ops.nms_quadri, _nms_quadri, size=20),
    Check("nms3d", ops.nms3d, _nms3d, size=20),
    Check("nms3d_normal", ops.nms3d_normal, _nms3d, size=20),
    Check("convex_iou", ops.convex_iou, _convex, typical=64),
    Check("convex_giou", ops.convex_giou, _convex, typical=64),
    Check("min_area_polygons", ops.min_area_polygons,
          lambda source, n: {"pointsets": _sets(source, n)}),
)  # fmt: skip
