"""Random data for mmdet3d's models: points around five boxes, or an image of 128 x 128."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detection import kind_of, numbers
from mmdet3d.structures import (
    CameraInstance3DBoxes,
    DepthInstance3DBoxes,
    Det3DDataSample,
    LiDARInstance3DBoxes,
    PointData,
)
from mmengine.structures import InstanceData


def image_size(path: str) -> int:
    """The side of a config's images, for those that look at one."""
    return 128


def shrink(model: Any) -> None:
    """A sixteenth of SECOND's range on KITTI, for the time that its dense head takes."""
    if kind_of(model) == "VoxelNet" and "sparse_shape" in model.get("middle_encoder", {}):
        model.middle_encoder.sparse_shape = [41, 400, 352]
        _quarter(model)


def _quarter(config: Any) -> None:
    """Make limits of 70.4 and 40 m a quarter of that, wherever six limits stand."""
    values = config.values() if isinstance(config, dict) else config
    for value in values:
        if isinstance(value, list) and len(value) == 6 and 70.4 in value:
            value[:] = [v / 4 if abs(v) in (70.4, 40) else v for v in value]
        elif isinstance(value, (dict, list)):
            _quarter(value)


def data(config: Any, size: int) -> dict[str, dict[str, Any]]:
    """The batches by mode, as the model's data preprocessor takes them."""
    model = config.model
    kind = kind_of(model)
    if kind == "FCOSMono3D":
        build = _camera
    elif kind == "VoteNet":
        build = _room
    else:
        build = _lidar
    single = [build(config) for _ in range(2)]
    keys = single[0][0]
    inputs = {key: [inputs[key] for inputs, _ in single] for key in keys}
    batch = {"inputs": inputs, "data_samples": [sample for _, sample in single]}
    return {"predict": batch, "loss": batch}


def _lidar(config: Any) -> tuple[dict[str, Any], Det3DDataSample]:
    """Points on the ground of the part of the range that is nearest, and in boxes."""
    model = config.model
    low = torch.tensor([0.0, -8.0, -2.0])
    high = torch.tensor([16.0, 8.0, 0.5])
    velocity = kind_of(model) == "CenterPoint"
    centres = low + torch.rand(5, 3) * (high - low)
    centres[:, 2] = -1.5
    sizes = torch.tensor([[3.9, 1.6, 1.56]]).repeat(5, 1)
    boxes = torch.cat([centres, sizes, torch.rand(5, 1) * 6 - 3], dim=1)
    if velocity:
        boxes = torch.cat([boxes, torch.randn(5, 2)], dim=1)
    ground = low + torch.rand(3000, 3) * (high - low)
    inside = centres[:, None] + (torch.rand(5, 200, 3) - 0.5) * sizes[:, None] * 0.8
    inside[..., 2] += 0.78
    points = torch.cat([ground, inside.reshape(-1, 3)])
    features = 5 if velocity else 4
    points = torch.cat([points, torch.rand(len(points), features - 3)], dim=1)
    sample = _sample(LiDARInstance3DBoxes(boxes, box_dim=boxes.shape[1]), _classes(model))
    return {"points": points}, sample


def _room(config: Any) -> tuple[dict[str, Any], Det3DDataSample]:
    """A room of 6 x 6 x 3 metres; VoteNet votes for the box that a point is in."""
    centres = torch.rand(5, 3) * torch.tensor([5.0, 5.0, 1.0]) + 0.5
    sizes = 0.5 + torch.rand(5, 3)
    inside = centres[:, None] + (torch.rand(5, 300, 3) - 0.5) * sizes[:, None]
    around = torch.rand(1500, 3) * torch.tensor([6.0, 6.0, 3.0])
    points = torch.cat([inside.reshape(-1, 3), around])
    points = torch.cat([points, points[:, 2:]], dim=1)  # the height above the ground
    lowest = centres - torch.tensor([0.0, 0.0, 0.5]) * sizes
    boxes = DepthInstance3DBoxes(torch.cat([lowest, sizes], dim=1), box_dim=6, with_yaw=False)
    classes = _classes(config.model)
    sample = _sample(boxes, classes)
    labels = sample.gt_instances_3d.labels_3d
    instances = torch.full((len(points),), 5)
    instances[:1500] = torch.arange(5).repeat_interleave(300)
    semantics = torch.full((len(points),), classes)
    semantics[:1500] = labels.repeat_interleave(300)
    sample.gt_pts_seg = PointData(pts_semantic_mask=semantics, pts_instance_mask=instances)
    return {"points": points}, sample


def _camera(config: Any) -> tuple[dict[str, Any], Det3DDataSample]:
    """An image, with boxes in front of the camera and where they are in the image."""
    size = 128
    intrinsics = np.array([[100.0, 0, 64, 0], [0, 100.0, 64, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    centres = torch.rand(5, 3) * torch.tensor([6.0, 6.0, 10.0]) + torch.tensor([-3.0, -3, 8])
    sizes = 1 + torch.rand(5, 3) * 2
    boxes = torch.cat([centres, sizes, torch.rand(5, 1) * 6 - 3, torch.randn(5, 2)], dim=1)
    boxes_3d = CameraInstance3DBoxes(boxes, box_dim=9, origin=(0.5, 0.5, 0.5))
    sample = _sample(boxes_3d, _classes(config.model))
    shape = (size, size)
    sample.set_metainfo(
        {
            "cam2img": intrinsics.tolist(),
            "img_shape": shape,
            "ori_shape": shape,
            "pad_shape": shape,
            "scale_factor": 1.0,
            "flip": False,
        }
    )
    middle = centres[:, :2] / centres[:, 2:] * 100 + 64
    half = sizes[:, :2] / centres[:, 2:] * 50
    labels = sample.gt_instances_3d.labels_3d
    sample.gt_instances = InstanceData(
        bboxes=torch.cat([middle - half, middle + half], dim=1).clamp(0, size), labels=labels
    )
    sample.gt_instances_3d.centers_2d = middle
    sample.gt_instances_3d.depths = centres[:, 2]
    sample.gt_instances_3d.attr_labels = torch.randint(0, 9, (5,))
    return {"img": torch.randint(0, 256, (3, size, size), dtype=torch.uint8)}, sample


def _sample(boxes: Any, classes: int) -> Det3DDataSample:
    sample = Det3DDataSample(
        metainfo={"box_type_3d": type(boxes), "box_mode_3d": None, "pcd_rotation": np.eye(3)}
    )
    labels = torch.randint(0, classes, (len(boxes),))
    sample.gt_instances_3d = InstanceData(bboxes_3d=boxes, labels_3d=labels)
    return sample


def _classes(model: Any) -> int:
    tasks = (model.get("pts_bbox_head") or {}).get("tasks")
    if tasks:
        return sum(len(task["class_names"]) for task in tasks)
    return min(numbers(model, "num_classes"))
