"""Pooling of regions of images, and sampling at boxes."""

from __future__ import annotations

import torch

from mx_autopatch import ops
from mx_autopatch.verify.check import Arguments, Check
from mx_autopatch.verify.references import pooling as plain
from mx_autopatch.verify.references import turned_pooling as turned
from mx_autopatch.verify.source import Source

__all__ = ["CHECKS"]

_SCALE = 1 / 8  # of images of 16 pixels, for boxes of up to 128


def _rois(source: Source, n: int) -> Arguments:
    image = source.values(2, 3, 16, 16)
    return {"input": image, "rois": source.rois(n, 2), "output_size": 3, "spatial_scale": _SCALE}


def _rotated(source: Source, n: int) -> Arguments:
    rois = torch.cat((source.whole(2, n, 1).double(), source.turned(n)), 1)
    return {**_rois(source, 0), "rois": rois}


def _orientations(source: Source, n: int) -> Arguments:
    return {**_rotated(source, n), "input": source.values(2, 8, 16, 16)}


def _bezier(source: Source, n: int) -> Arguments:
    x1, y1, x2, y2 = source.boxes(n).unbind(1)
    across = [x1, (2 * x1 + x2) // 3, (x1 + 2 * x2) // 3, x2]
    upper = [v for x in across for v in (x, y1)]
    lower = [v for x in reversed(across) for v in (x, y2)]
    rois = torch.stack((source.whole(2, n).double(), *upper, *lower), 1)
    return {**_rois(source, 0), "rois": rois}


def _deformed(source: Source, n: int) -> Arguments:
    return {**_rois(source, n), "offset": source.values(n, 2, 3, 3)}


def _border(source: Source, n: int) -> Arguments:
    boxes = source.boxes(n, 16)[None].expand(2, -1, -1).contiguous()
    return {"input": source.values(2, 8, 16, 16), "boxes": boxes, "pool_size": 4}


def _aligned_features(source: Source, n: int) -> Arguments:
    boxes = source.turned(n * 4).reshape(1, n, 4, 5)
    return {"features": source.values(1, 3, n, 4), "boxes": boxes}


_SAMPLES = ({"sampling_ratio": 2}, {"aligned": False})
# In bins that are halves of whole pixels, so that equal samples are equal to the last digit.
_MAXIMA = {"pool_mode": "max", "sampling_ratio": 2, "output_size": 2}
_IMAGE = ("input",)

CHECKS = (
    Check("roi_align", ops.roi_align, plain.roi_align, _rois, _IMAGE, _IMAGE,
          variants=(*_SAMPLES, _MAXIMA)),
    Check("roi_pool", ops.roi_pool, plain.roi_pool, _rois, _IMAGE, huge=_IMAGE),
    Check("prroi_pool", ops.prroi_pool, plain.prroi_pool, _rois, ("input", "rois"), huge=_IMAGE),
    Check("deform_roi_pool", ops.deform_roi_pool, plain.deform_roi_pool,
          _deformed, ("input", "offset"), _IMAGE,
          variants=({"offset": None},)),
    Check("roi_align_rotated", ops.roi_align_rotated, turned.roi_align_rotated,
          _rotated, _IMAGE, _IMAGE,
          variants=(*_SAMPLES, {"clockwise": True})),
    Check("riroi_align_rotated", ops.riroi_align_rotated, turned.riroi_align_rotated,
          _orientations, _IMAGE, _IMAGE,
          variants=({"num_samples": 2}, {"clockwise": True})),
    Check("bezier_align", ops.bezier_align, turned.bezier_align,
          _bezier, _IMAGE, _IMAGE, variants=_SAMPLES),
    Check("border_align", ops.border_align, turned.border_align, _border, _IMAGE, huge=_IMAGE),
    Check("rotated_feature_align", ops.rotated_feature_align, turned.rotated_feature_align,
          _aligned_features, ("features",),
          ("features",), variants=({"points": 5},), smallest=1, typical=64),
)  # fmt: skip
