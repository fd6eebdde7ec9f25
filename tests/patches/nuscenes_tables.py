"""A made-up nuScenes of one scene, in the layout of v1.0-mini, that the real devkit loads.

A car, a bus, a pedestrian, a barrier and a bicycle stand or drive by in four key frames
half a second apart. Names of tables and fields: nuscenes-devkit, docs/schema_nuscenes.md.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyquaternion import Quaternion

VERSION = "v1.0-mini"
FRAMES = 4
#: The order of mmdet3d's own classes.
CLASSES = (
    *("car", "truck", "trailer", "bus", "construction_vehicle"),
    *("bicycle", "motorcycle", "pedestrian", "traffic_cone", "barrier"),
)

# Class, category, attribute; width, length, height; place and heading in the first frame; speed.
OBJECTS = (
    ("car", "vehicle.car", "vehicle.moving", (1.9, 4.6, 1.7), (14.0, 3.0, 0.9), 0.3, 6.0),
    ("bus", "vehicle.bus.rigid", "vehicle.stopped", (2.9, 11.0, 3.4), (-9.0, 8.0, 1.7), 2.9, 0.0),
    (
        *("pedestrian", "human.pedestrian.adult", "pedestrian.moving"),
        *((0.7, 0.7, 1.8), (6.0, -7.0, 0.9), -1.2, 1.4),
    ),
    ("barrier", "movable_object.barrier", "", (2.5, 0.5, 1.0), (11.0, -4.0, 0.5), 1.6, 0.0),
    (
        *("bicycle", "vehicle.bicycle", "cycle.with_rider"),
        *((0.6, 1.8, 1.4), (-5.0, -5.0, 0.7), 0.0, 4.0),
    ),
)
EGO = [Quaternion(axis=[0, 0, 1], degrees=20 + 3 * i) for i in range(FRAMES)]
EGO_PLACE = [np.array([600.0 + 2 * i, 1600.0 + i, 0.0]) for i in range(FRAMES)]
LIDAR = Quaternion(axis=[0.02, -0.01, 1], degrees=-90)
LIDAR_PLACE = np.array([0.94, 0.0, 1.84])
CAMERA = Quaternion(0.5, -0.5, 0.5, -0.5)
CAMERA_PLACE = np.array([1.7, 0.02, 1.5])


def token(kind: str, *numbers: int) -> str:
    return "-".join([kind, *map(str, numbers)])


def write_tables(folder: Path) -> None:
    """Write the thirteen tables and the map that the devkit asks for."""
    categories = sorted({category for _, category, *_ in OBJECTS})
    attributes = sorted({attribute for _, _, attribute, *_ in OBJECTS if attribute})
    tables: dict[str, list[dict[str, Any]]] = {
        "category": [{"token": name, "name": name, "description": ""} for name in categories],
        "attribute": [{"token": name, "name": name, "description": ""} for name in attributes],
        "visibility": [{"token": "4", "level": "v80-100", "description": ""}],
        "sensor": [{"token": "lidar", "channel": "LIDAR_TOP", "modality": "lidar"}],
        "calibrated_sensor": [
            {
                "token": "calibration",
                "sensor_token": "lidar",
                "translation": LIDAR_PLACE.tolist(),
                "rotation": LIDAR.elements.tolist(),
                "camera_intrinsic": [],
            }
        ],
        "log": [
            {"token": "log", "logfile": "", "vehicle": "", "date_captured": "", "location": ""}
        ],
        "map": [
            {"token": "map", "log_tokens": ["log"], "category": "", "filename": "maps/map.png"}
        ],
        # One of the two scenes of the split mini_val.
        "scene": [
            {
                "token": "scene",
                "log_token": "log",
                "nbr_samples": FRAMES,
                "first_sample_token": token("sample", 0),
                "last_sample_token": token("sample", FRAMES - 1),
                "name": "scene-0103",
                "description": "",
            }
        ],
        "ego_pose": [],
        "sample": [],
        "sample_data": [],
        "instance": [],
        "sample_annotation": [],
    }
    for frame in range(FRAMES):
        before, after = _neighbours("sample", frame)
        time = {"timestamp": 1_500_000 * 10**9 + frame * 500_000}
        tables["ego_pose"].append(
            {
                "token": token("pose", frame),
                "translation": EGO_PLACE[frame].tolist(),
                "rotation": EGO[frame].elements.tolist(),
                **time,
            }
        )
        tables["sample"].append(
            {
                "token": token("sample", frame),
                "scene_token": "scene",
                "prev": before,
                "next": after,
                **time,
            }
        )
        tables["sample_data"].append(
            {
                "token": token("data", frame),
                "sample_token": token("sample", frame),
                "ego_pose_token": token("pose", frame),
                "calibrated_sensor_token": "calibration",
                "fileformat": "pcd",
                "is_key_frame": True,
                "filename": f"samples/LIDAR_TOP/{frame}.pcd.bin",
                "prev": "",
                "next": "",
                **time,
            }
        )
    for number, (_, category, attribute, size, *_) in enumerate(OBJECTS):
        tables["instance"].append(
            {
                "token": token("instance", number),
                "category_token": category,
                "nbr_annotations": FRAMES,
                "first_annotation_token": token("annotation", number, 0),
                "last_annotation_token": token("annotation", number, FRAMES - 1),
            }
        )
        for frame in range(FRAMES):
            before, after = _neighbours("annotation", frame, number)
            place, rotation = _in_the_world(number, frame)
            tables["sample_annotation"].append(
                {
                    "token": token("annotation", number, frame),
                    "sample_token": token("sample", frame),
                    "instance_token": token("instance", number),
                    "attribute_tokens": [attribute] if attribute else [],
                    "visibility_token": "4",
                    "translation": place.tolist(),
                    "size": list(size),
                    "rotation": rotation.elements.tolist(),
                    "num_lidar_pts": 20,
                    "num_radar_pts": 0,
                    "prev": before,
                    "next": after,
                }
            )
    (folder / VERSION).mkdir(parents=True)
    (folder / "maps").mkdir()
    (folder / "maps/map.png").touch()  # only its presence is asked for
    for name, rows in tables.items():
        (folder / VERSION / f"{name}.json").write_text(json.dumps(rows))


def _neighbours(kind: str, frame: int, *numbers: int) -> tuple[str, str]:
    before, after = (token(kind, *numbers, frame + step) for step in (-1, 1))
    return (before if frame > 0 else "", after if frame < FRAMES - 1 else "")


def _in_the_world(number: int, frame: int) -> tuple[Any, Quaternion]:
    """Where an object is in a frame, and its heading, in global coordinates."""
    *_, place, heading, speed = OBJECTS[number]
    moved = speed * 0.5 * frame * np.array([math.cos(heading), math.sin(heading), 0.0])
    centre = EGO[0].rotation_matrix @ np.array(place) + EGO_PLACE[0]
    return (
        centre + EGO[0].rotation_matrix @ moved,
        EGO[0] * Quaternion(axis=[0, 0, 1], radians=heading),
    )


def _matrix(rotation: Quaternion, place: Any) -> Any:
    matrix = rotation.transformation_matrix
    matrix[:3, 3] = place
    return matrix


def infos() -> list[dict[str, Any]]:
    """The frames, as mmdet3d's converters of both generations write them, in one."""
    return [
        {
            "token": token("sample", frame),
            "timestamp": frame,
            # 0.x and 1.0rc
            "lidar2ego_rotation": LIDAR.elements.tolist(),
            "lidar2ego_translation": LIDAR_PLACE.tolist(),
            "ego2global_rotation": EGO[frame].elements.tolist(),
            "ego2global_translation": EGO_PLACE[frame].tolist(),
            # nuscenes_mono_dataset of both
            "cam2ego_rotation": CAMERA.elements.tolist(),
            "cam2ego_translation": CAMERA_PLACE.tolist(),
            # 1.1 and later
            "lidar_points": {"lidar2ego": _matrix(LIDAR, LIDAR_PLACE).tolist()},
            "ego2global": _matrix(EGO[frame], EGO_PLACE[frame]).tolist(),
            "images": {"CAM_FRONT": {"cam2ego": _matrix(CAMERA, CAMERA_PLACE).tolist()}},
        }
        for frame in range(FRAMES)
    ]


def boxes(frame: int, seed: int, size: int, reach: float = 60.0) -> tuple[Any, Any, Any]:
    """What a detector might say: boxes (x y z, three sizes, yaw, two velocities), scores, labels.

    Near the truth for every object, and ``size`` boxes anywhere within ``reach`` metres, of
    which some are beyond the range that the devkit evaluates.
    """
    generator = torch.Generator().manual_seed(1000 * seed + frame)
    rows = []
    for number, (_, _, _, (width, length, height), _, _, speed) in enumerate(OBJECTS):
        place, rotation = _in_the_world(number, frame)
        to_lidar = (EGO[frame] * LIDAR).inverse
        centre = EGO[frame].inverse.rotate(place - EGO_PLACE[frame]) - LIDAR_PLACE
        x, y, z = LIDAR.inverse.rotate(centre)
        yaw = (to_lidar * rotation).yaw_pitch_roll[0]
        velocity = speed * math.cos(yaw), speed * math.sin(yaw)
        rows.append([x, y, z - height / 2, length, width, height, yaw, *velocity])
    truth = torch.tensor(rows, dtype=torch.float32)
    truth += 0.1 * torch.randn(truth.shape, generator=generator)
    rest = torch.rand(size, 9, generator=generator) * 2 - 1
    rest *= torch.tensor([reach, reach, 3, 0, 0, 0, 3, 6, 6])
    rest[:, 3:6] = torch.rand(size, 3, generator=generator) * 4 + 0.5
    labels = [CLASSES.index(name) for name, *_ in OBJECTS]
    others = torch.randint(0, len(CLASSES), (size,), generator=generator)
    scores = torch.rand(len(rows) + size, generator=generator)
    scores[: len(rows)] += 1
    return torch.cat([truth, rest]), scores / 2, torch.cat([torch.tensor(labels), others])
