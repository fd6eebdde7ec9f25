"""Random data for mmseg's models: images of 64 x 64, blocks of classes as annotation."""

from __future__ import annotations

from typing import Any

import torch
from detection import numbers
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample


def image_size(path: str) -> int:
    """The side of a config's images, which MobileNetV3's head averages 49 pixels of."""
    return 416 if "mobilenet-v3" in path else 64


def data(config: Any, size: int) -> dict[str, dict[str, Any]]:
    """The batches by mode, as the model's data preprocessor takes them."""
    classes = min(n for n in numbers(config.model, "num_classes") or [2] if n > 1)
    channels = 6 if config.model.get("backbone", {}).get("in_channels") == 6 else 3
    samples = []
    for number in range(2):
        shape = (size, size)
        sample = SegDataSample(
            metainfo={
                "img_path": str(number),
                "img_shape": shape,
                "ori_shape": shape,
                "pad_shape": shape,
                "flip": False,
                "flip_direction": None,
                "padding_size": [0, 0, 0, 0],
            }
        )
        coarse = torch.randint(0, classes, (1, 4, 4))
        labels = coarse.repeat_interleave(size // 4, 1).repeat_interleave(size // 4, 2)
        sample.gt_sem_seg = PixelData(data=labels)
        # PIDNet is trained on the borders of segments too.
        edges = torch.zeros(1, size, size, dtype=torch.long)
        edges[:, :: size // 4] = edges[:, :, :: size // 4] = 1
        sample.gt_edge_map = PixelData(data=edges)
        sample.gt_depth_map = PixelData(data=torch.rand(1, size, size) * 5 + 1)
        samples.append(sample)
    inputs = [torch.randint(0, 256, (channels, size, size), dtype=torch.uint8) for _ in samples]
    batch = {"inputs": inputs, "data_samples": samples}
    return {"predict": batch, "loss": batch}
