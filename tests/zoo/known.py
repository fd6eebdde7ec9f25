"""Configs of the zoo that are known not to pass, and why; the harness checks it both ways.

A key is ``library/folder``; the value is the stage at which it stops, a part of the error's
line, the reason, and the package in whose absence that holds. If the config passes, or fails
otherwise, the zoo fails; where the package is installed the entry counts for nothing.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple


class Known(NamedTuple):
    """An expected failure."""

    stage: str
    cause: str
    reason: str
    without: str | None = None


def _wants(package: str, what: str, cause: str | None = None, stage: str = "build") -> Known:
    reason = f"its {what} from {package}, which is not installed"
    return Known(stage, cause or package, reason, package)


_SKLEARN = "pip install sklearn"
_VPD = "To use VPD model, please install required packages"

KNOWN: dict[str, Known] = {
    "mmdet/boxinst": _wants("skimage", "colours are"),
    "mmdet/bytetrack": _wants("lap", "assignment is", "lap is not installed"),
    "mmdet/convnext": _wants("mmpretrain", "backbone is"),
    "mmdet/crowddet": _wants("torchvision", "RoI align is", stage="loss"),
    "mmdet/deepsort": _wants("mmpretrain", "ReID model is"),
    "mmdet/glip": _wants("transformers", "text encoder is"),
    "mmdet/grounding_dino": _wants("transformers", "text encoder is"),
    "mmdet/lad": _wants("sklearn", "mixture of two Gaussians is", _SKLEARN, "loss"),
    "mmdet/misc": _wants("detectron2", "model is", "install Detectron2"),
    "mmdet/mm_grounding_dino": _wants("transformers", "text encoder is"),
    "mmdet/ocsort": _wants("lap", "assignment is", "lap is not installed"),
    "mmdet/paa": _wants("sklearn", "mixture of two Gaussians is", _SKLEARN, "loss"),
    "mmdet/reid": _wants("mmpretrain", "base class is"),
    "mmdet/sort": _wants("motmetrics", "tracker is"),
    "mmdet/ssd": Known(
        "predict",
        "'SSDHead' object has no attribute 'loss_cls'",
        "of mmdet 3.3 itself: predictions ask a head for loss_cls, and SSDHead has none",
    ),
    "mmdet/strongsort": _wants("mmpretrain", "ReID model is"),
    "mmdet/timm_example": _wants("mmpretrain", "backbone is"),
    "mmseg/convnext": _wants("mmpretrain", "backbone is"),
    "mmseg/poolformer": _wants("mmpretrain", "backbone is"),
    "mmseg/san": Known(
        "build",
        "'super' object has no attribute 'init_weights'",
        "its head cannot be initialised without CLIP's weights: it calls nn.Module.init_weights",
    ),
    "mmseg/vpd": _wants("ldm", "diffusion model is", _VPD),
}


def known(library: str, config: str) -> Known | None:
    """What is known of a config, on this machine."""
    entry = KNOWN.get(f"{library}/{config.partition('/')[0]}")
    if entry is None or (entry.without is not None and find_spec(entry.without) is not None):
        return None
    return entry
