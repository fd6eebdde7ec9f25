"""A loss step and a prediction of some of mmdet 2.28's architectures, from its own configs.

    python detectors_small.py cpu|npu

Prints JSON: for each architecture the loss, the sum of its gradients' norms, and the number
of classes predicted for.
"""

import json
import sys
import warnings
from pathlib import Path

import mmdet
import numpy as np
import torch
from mmcv import Config
from mmdet.core import BitmapMasks
from mmdet.models import build_detector

CONFIGS = Path(mmdet.__file__).parent / ".mim" / "configs"
# A random number in none of them is drawn on the device, so that all give the same on each.
NAMES = (
    "retinanet/retinanet_r18_fpn_1x_coco.py",
    "faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py",
    "fcos/fcos_r50_caffe_fpn_gn-head_1x_coco.py",
    "yolox/yolox_tiny_8x8_300e_coco.py",
    "centernet/centernet_resnet18_140e_coco.py",
    "solov2/solov2_light_r18_fpn_3x_coco.py",
)
SIZE = 64


def without_weights(config):
    """Take out what would be downloaded."""
    children = config.values() if isinstance(config, dict) else config
    if isinstance(config, dict):
        for name in ("pretrained", "init_cfg"):
            if name in config:
                config[name] = None
    for child in children:
        if isinstance(child, (dict, list, tuple)):
            without_weights(child)


def meta():
    return {
        "img_shape": (SIZE, SIZE, 3),
        "ori_shape": (SIZE, SIZE, 3),
        "pad_shape": (SIZE, SIZE, 3),
        "batch_input_shape": (SIZE, SIZE),
        "scale_factor": np.ones(4, dtype=np.float32),
        "border": np.array([0, SIZE, 0, SIZE]),
        "flip": False,
        "filename": "none.png",
    }


def step(name, device):
    config = Config.fromfile(CONFIGS / name)
    without_weights(config.model)
    if "depth" in config.model.backbone and config.model.backbone.depth == 50:
        config.model.backbone.depth = 18
        config.model.neck.in_channels = [64, 128, 256, 512]
    torch.manual_seed(0)
    np.random.seed(0)
    model = build_detector(
        config.model, train_cfg=config.get("train_cfg"), test_cfg=config.get("test_cfg")
    ).to(device)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, SIZE, SIZE, generator=generator).to(device)
    boxes = [
        torch.tensor([[4.0, 4, 30, 40], [20, 10, 60, 50]]).to(device),
        torch.tensor([[8.0, 8, 50, 40]]).to(device),
    ]
    labels = [torch.tensor([1, 2]).to(device), torch.tensor([0]).to(device)]
    more = {}
    if "solo" in name:
        full = [np.ones((len(box), SIZE, SIZE), dtype=np.uint8) for box in boxes]
        more["gt_masks"] = [BitmapMasks(masks, SIZE, SIZE) for masks in full]
    model.train()
    losses = model.forward_train(
        images, [meta(), meta()], gt_bboxes=boxes, gt_labels=labels, **more
    )
    loss, _ = model._parse_losses(losses)
    loss.backward()
    gradients = [p.grad.norm().item() for p in model.parameters() if p.grad is not None]
    model.eval()
    with torch.no_grad():
        (result,) = model.simple_test(images[:1], [meta()], rescale=False)
    classes = result[0] if isinstance(result, tuple) else result
    return [loss.item(), sum(gradients), len(classes)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # mmdet's own
    print(json.dumps({name: step(name, sys.argv[1]) for name in NAMES}))
