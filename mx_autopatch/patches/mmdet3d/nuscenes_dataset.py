"""Detections converted for nuScenes in a quarter of the time, in mmdet3d 0.x and 1.0rc.

Why: to write its results for the devkit, a data set makes each box as one of the devkit's and
     rotates it twice, at 64 us a box: two minutes for the 6,019 frames of the validation set,
     with 300 boxes each, during which NPUs wait. Migrations replace ``output_to_nusc_box``,
     often by one with another release's conventions for sizes and headings.
How: the loops that make the boxes, and the calls that rotate them, are rewritten to helpers
     that compute the same to the last bit (patches/nuscenes_boxes.py). Conventions, ranges and
     everything else stay as the release has them.
Upstream: mmdet3d/datasets/nuscenes_dataset.py and nuscenes_mono_dataset.py, mmdet3d 0.5 -
     1.0.0rc6; from 1.1 on this is the metric's business: mmdet3d.nuscenes_metric.
Remove when: support for mmcv 1.x ends.
"""

from __future__ import annotations

import inspect
from typing import Callable

from mx_autopatch.model import Context, Patch, When
from mx_autopatch.patches.nuscenes_boxes import (
    camera_loop,
    lidar_loop,
    on_any_device,
    rotations_of,
)

_LIDAR = "mmdet3d.datasets.nuscenes_dataset"
_CAMERA = "mmdet3d.datasets.nuscenes_mono_dataset"


def _where(with_velocity: bool) -> Callable[[Context], bool | str]:
    """The condition that the conversion is there, and has that parameter or not."""

    def condition(context: Context) -> bool | str:
        convert = getattr(context.module, "output_to_nusc_box", None)
        if convert is None:
            return _converts(context)
        has = "with_velocity" in inspect.signature(convert).parameters
        return has is with_velocity or f"it has {'' if has else 'no '}parameter with_velocity"

    return condition


def _converts(context: Context) -> bool | str:
    return hasattr(context.module, "output_to_nusc_box") or (
        "in this release the metric converts: see mmdet3d.nuscenes_metric"
    )


PATCHES = (
    Patch(
        name="mmdet3d.nuscenes_dataset",
        edits=(
            When(edit=lidar_loop(f"{_LIDAR}:output_to_nusc_box"), condition=_where(False)),
            When(edit=lidar_loop(f"{_LIDAR}:output_to_nusc_box", True), condition=_where(True)),
            *(
                When(edit=edit, condition=_converts)
                for edit in (
                    *rotations_of(f"{_LIDAR}:lidar_nusc_box_to_global"),
                    camera_loop(f"{_CAMERA}:output_to_nusc_box"),
                    *rotations_of(f"{_CAMERA}:cam_nusc_box_to_global"),
                    *rotations_of(f"{_CAMERA}:global_nusc_box_to_cam"),
                    on_any_device(f"{_CAMERA}:nusc_box_to_cam_box3d"),
                )
            ),
        ),
    ),
)
