"""Random data for mmdet's models, and what differs in how they are trained.

Images of 96 x 96 with three objects each: boxes of at least 16 pixels, ellipses in them as
masks, blocks of classes as a segmentation of the whole image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample, ReIDDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData, LabelData, PixelData


def image_size(path: str) -> int:
    """The side of a config's images, where the model asks for more than others do."""
    if "ssd300" in path:  # its anchors are laid out for one size
        return 300
    if "ssdlite" in path:
        return 320
    # It takes the 900 best of all pixels of all levels.
    return 256 if "dino" in path else 96


def data(config: Any, size: int) -> dict[str, dict[str, Any]]:
    """The batches by mode, as the model's data preprocessor takes them."""
    model = config.model
    kind = model.type.rpartition(".")[2]
    if kind == "BaseReID":
        batch = _reid(size)
        return {"predict": batch, "loss": batch}
    if kind == "SoftTeacher":
        samples = {
            branch: _batch(model, size, homography_matrix=np.eye(3, dtype=np.float32))
            for branch in ("sup", "unsup_teacher", "unsup_student")
        }
        loss = {
            key: {branch: batch[key] for branch, batch in samples.items()}
            for key in ("inputs", "data_samples")
        }
        return {"predict": _batch(model, size), "loss": loss}
    if "tracker" in model or kind == "Mask2FormerVideo":
        loss = _video(model, size)
        if kind in ("ByteTrack", "OCSORT"):
            loss = _batch(model, size)
        return {"predict": _video(model, size), "loss": loss}
    proposals = kind == "FastRCNN"
    # Guided anchors are predicted for one image at a time.
    head = model.get("bbox_head") or model.get("rpn_head") or {}
    single = 1 if head.get("type") in ("GARetinaHead", "GARPNHead") else 2
    return {
        "predict": _batch(model, size, single, proposals),
        "loss": _batch(model, size, 2, proposals),
    }


def _batch(
    model: Any, size: int, images: int = 2, proposals: bool = False, **info: Any
) -> dict[str, Any]:
    inputs = [torch.randint(0, 256, (3, size, size), dtype=torch.uint8) for _ in range(images)]
    samples = [_sample(model, size, number, **info) for number in range(images)]
    for sample in samples if proposals else ():
        sample.proposals = InstanceData(bboxes=_boxes(20, size), scores=torch.rand(20))
    return {"inputs": inputs, "data_samples": samples}


def _video(model: Any, size: int) -> dict[str, Any]:
    """A video of two frames, the first of which is the key."""
    frames = []
    for number in range(2):
        frame = _sample(model, size, number, frame_id=number, ori_video_length=2)
        frame.gt_instances.instances_ids = torch.arange(3)
        frames.append(frame)
    video = TrackDataSample(
        metainfo={
            "key_frames_inds": [0],
            "ref_frames_inds": [1],
            "ori_length": 2,
            "img_shape": (size, size),
        }
    )
    video.video_data_samples = frames
    inputs = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    return {"inputs": [inputs], "data_samples": [video]}


def _reid(size: int) -> dict[str, Any]:
    samples = []
    for number in range(4):
        sample = ReIDDataSample(metainfo={"img_shape": (size, size), "ori_shape": (size, size)})
        sample.gt_label = LabelData(label=torch.tensor([number // 2]))
        samples.append(sample)
    inputs = torch.randint(0, 256, (1, 4, 3, size, size), dtype=torch.uint8)
    return {"inputs": list(inputs), "data_samples": [samples]}


def _sample(model: Any, size: int, number: int, **info: Any) -> DetDataSample:
    shape = (size, size)
    sample = DetDataSample(
        metainfo={
            "img_id": number,
            "img_path": "",
            "img_shape": shape,
            "ori_shape": shape,
            "pad_shape": shape,
            "batch_input_shape": shape,
            "scale_factor": (1.0, 1.0),
            "flip": False,
            "flip_direction": None,
            "border": [0, 0, 0, 0],
            **info,
        }
    )
    classes = min(numbers(model, "num_classes") or [80])
    stuff = max(numbers(model, "num_stuff_classes") or [0])
    boxes = _boxes(3, size)
    labels = torch.randint(0, min(classes, 80), (3,))
    sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
    if "mask" in str(model).lower():  # pipelines for boxes alone load none
        masks = [_ellipse(box, size) for box in boxes]
        sample.gt_instances.masks = BitmapMasks(masks, size, size)
    sample.ignored_instances = InstanceData(bboxes=_boxes(1, size))
    # In a panoptic annotation the numbers of stuff come after those of things.
    things = max(numbers(model, "num_things_classes") or [0])
    first, last = (things, things + stuff) if kind_of(model) in _PANOPTIC else (0, 50)
    coarse = torch.randint(first, max(last, first + 1), (1, 4, 4))
    segments = coarse.repeat_interleave(size // 4, 1).repeat_interleave(size // 4, 2)
    if "semantic_head" in model.get("roi_head", {}):
        segments = segments[:, ::8, ::8]  # what the pipelines of HTC give
    sample.gt_sem_seg = PixelData(sem_seg=segments.long())
    return sample


_PANOPTIC = ("MaskFormer", "Mask2Former")


def kind_of(model: Any) -> str:
    """The name of the model's class."""
    return str(model.type.rpartition(".")[2])


def _boxes(count: int, size: int) -> torch.Tensor:
    sides = 16 + torch.rand(count, 2) * (size * 0.6 - 16)
    corner = torch.rand(count, 2) * (size - sides)
    return torch.cat([corner, corner + sides], dim=1)


def _ellipse(box: torch.Tensor, size: int) -> np.ndarray:
    x1, y1, x2, y2 = box.tolist()
    y, x = np.mgrid[:size, :size] + 0.5
    across = (x - (x1 + x2) / 2) / (x2 - x1)
    down = (y - (y1 + y2) / 2) / (y2 - y1)
    return (across**2 + down**2 < 0.25).astype(np.uint8)


def numbers(config: Any, key: str) -> list[int]:
    """All whole numbers that stand under a key, anywhere in a config."""
    found: list[int] = []
    if isinstance(config, dict):
        if isinstance(config.get(key), int):
            found.append(config[key])
        for value in config.values():
            found += numbers(value, key)
    elif isinstance(config, (list, tuple)):
        for value in config:
            found += numbers(value, key)
    return found
