"""Overlaps and suppression of boxes, axis-aligned, turned, quadrilateral and 3D."""

from __future__ import annotations

import torch
from torch import Tensor

from mx_autopatch import ops
from mx_autopatch.verify.check import Arguments, Check
from mx_autopatch.verify.references import boxes as plain
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


def _giou(pointsets: Tensor, polygons: Tensor) -> tuple[Tensor, Tensor]:
    """The values by their definition; the gradients are the operator's own, in float64.

    Where sides lie on each other there are several.
    """
    rows = zip(pointsets.numpy().reshape(-1, 9, 2), polygons.numpy().reshape(-1, 4, 2))
    values = torch.tensor([plain.generalised_iou(*row)[1] for row in rows], dtype=torch.float64)
    return values, ops.convex_giou(pointsets, polygons)[1]


_MODES = ({"mode": "iof"}, {"aligned": True})

CHECKS = (
    Check("bbox_overlaps", ops.bbox_overlaps, plain.bbox_overlaps, _overlaps, special=("bboxes1",),
          variants=(*_MODES, {"offset": 1})),
    Check("box_iou_rotated", ops.box_iou_rotated, plain.box_iou_rotated, _turned, variants=_MODES),
    Check("box_iou_quadri", ops.box_iou_quadri, plain.box_iou_quadri, _quadri, variants=_MODES),
    Check("boxes_overlap_bev", ops.boxes_overlap_bev, plain.boxes_overlap_bev, _bev),
    Check("nms", ops.nms, plain.nms, _nms, special=("boxes",), variants=({"offset": 1},), size=40,
          typical=2000),
    Check("soft_nms", ops.soft_nms, plain.soft_nms, _nms, tied={"method": "naive"},
          variants=({"method": "naive"}, {"method": "gaussian"}),
          size=20),
    Check("nms_match", ops.nms_match, plain.nms_match, _nms_match, size=40, typical=2000),
    Check("nms_rotated", ops.nms_rotated, plain.nms_rotated, _nms_rotated, size=20),
    Check("nms_quadri", ops.nms_quadri, plain.nms_quadri, _nms_quadri, size=20),
    Check("nms3d", ops.nms3d, plain.nms3d, _nms3d, size=20),
    Check("nms3d_normal", ops.nms3d_normal, plain.nms3d_normal, _nms3d, size=20),
    Check("convex_iou", ops.convex_iou, plain.convex_iou, _convex, typical=64),
    Check("convex_giou", ops.convex_giou, _giou, _convex, typical=64),
    Check("min_area_polygons", ops.min_area_polygons, plain.min_area_polygons,
          lambda source, n: {"pointsets": _sets(source, n)}),
)  # fmt: skip
