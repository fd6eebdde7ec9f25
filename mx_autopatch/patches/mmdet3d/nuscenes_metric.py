"""Detections converted for nuScenes in an eighth of the time, in mmdet3d 1.1 - 1.4.

Why: the metric makes each box as one of the devkit's and rotates it twice, each time by a
     quaternion that it works out from a matrix anew, at 132 us a box: four minutes for the
     6,019 frames of the validation set, with 300 boxes each.
How: as mmdet3d.nuscenes_dataset, which is for earlier releases, and with quaternions kept.
     Where there is no CUDA, camera boxes are suppressed on the device they are on, in place of
     an error that torch is not compiled with it.
Upstream: mmdet3d/evaluation/metrics/nuscenes_metric.py, mmdet3d 1.1 - 1.4.
Remove when: mmdet3d converts the boxes of a frame at once.
"""

from __future__ import annotations

from mx_autopatch.model import Patch
from mx_autopatch.patches.nuscenes_boxes import (
    camera_loop,
    lidar_loop,
    on_any_device,
    rotations_of,
)

_MODULE = "mmdet3d.evaluation.metrics.nuscenes_metric"


PATCHES = (
    Patch(
        name="mmdet3d.nuscenes_metric",
        edits=(
            lidar_loop(f"{_MODULE}:output_to_nusc_box"),
            camera_loop(f"{_MODULE}:output_to_nusc_box"),
            *rotations_of(f"{_MODULE}:lidar_nusc_box_to_global", matrices=True),
            *rotations_of(f"{_MODULE}:cam_nusc_box_to_global", matrices=True),
            *rotations_of(f"{_MODULE}:global_nusc_box_to_cam", matrices=True),
            on_any_device(f"{_MODULE}:nusc_box_to_cam_box3d"),
        ),
    ),
)
