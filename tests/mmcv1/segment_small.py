"""Train a segmentor of mmseg 0.30 as its tools do; prints as JSON the device that it was on."""

# dict() is how OpenMMLab's configs are written.
# ruff: noqa: C408

import json
import os
import warnings

import mmcv
import numpy as np
import torch
from mmcv import Config
from mmseg.apis import set_random_seed, train_segmentor
from mmseg.datasets import build_dataset
from mmseg.models import build_segmentor
from mmseg.utils import get_device

SIZE = 32
norm_cfg = dict(type="BN", requires_grad=True)
normalize = dict(type="Normalize", mean=[120.0] * 3, std=[60.0] * 3, to_rgb=True)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomFlip", prob=0.5),
    normalize,
    dict(type="DefaultFormatBundle"),
    dict(type="Collect", keys=["img", "gt_semantic_seg"]),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="MultiScaleFlipAug",
        img_scale=(SIZE, SIZE),
        flip=False,
        transforms=[
            dict(type="Resize", keep_ratio=True),
            dict(type="RandomFlip"),
            normalize,
            dict(type="ImageToTensor", keys=["img"]),
            dict(type="Collect", keys=["img"]),
        ],
    ),
]


def split(name, count, pipeline):
    """Images of a bright square on a dark ground, and the config of a data set of them."""
    random = np.random.RandomState(count)
    for i in range(count):
        labels = np.zeros((SIZE, SIZE), np.uint8)
        x, y = random.randint(2, SIZE // 2, 2)
        labels[y : y + 12, x : x + 12] = 1
        image = np.where(labels[..., None], 200, 50) + random.randint(0, 20, (SIZE, SIZE, 3))
        mmcv.imwrite(image.astype(np.uint8), f"data/img/{name}/{i}.png")
        mmcv.imwrite(labels, f"data/ann/{name}/{i}.png")
    return dict(
        type="CustomDataset",
        data_root="data",
        img_dir=f"img/{name}",
        ann_dir=f"ann/{name}",
        img_suffix=".png",
        classes=("ground", "square"),
        palette=[[0, 0, 0], [255, 0, 0]],
        pipeline=pipeline,
    )


def main():
    loader = dict(persistent_workers=False)
    cfg = Config(
        dict(
            model=dict(
                type="EncoderDecoder",
                backbone=dict(
                    type="ResNetV1c",
                    depth=18,
                    base_channels=8,
                    stem_channels=8,
                    out_indices=(0, 1, 2, 3),
                    norm_cfg=norm_cfg,
                ),
                decode_head=dict(
                    type="FCNHead",
                    in_channels=64,
                    in_index=3,
                    channels=8,
                    num_convs=1,
                    num_classes=2,
                    norm_cfg=norm_cfg,
                    loss_decode=dict(type="CrossEntropyLoss"),
                ),
                train_cfg=dict(),
                test_cfg=dict(mode="whole"),
            ),
            data=dict(
                samples_per_gpu=2,
                workers_per_gpu=0,
                train_dataloader=loader,
                val_dataloader=dict(workers_per_gpu=0, **loader),
                train=split("train", 4, train_pipeline),
                val=split("val", 2, test_pipeline),
            ),
            optimizer=dict(type="SGD", lr=0.05, momentum=0.9),
            optimizer_config=dict(),
            lr_config=dict(policy="poly", power=0.9, min_lr=1e-4, by_epoch=False),
            runner=dict(type="IterBasedRunner", max_iters=4),
            checkpoint_config=dict(by_epoch=False, interval=2),
            evaluation=dict(interval=2, metric="mIoU", pre_eval=True, save_best="mIoU"),
            log_config=dict(interval=1, hooks=[dict(type="TextLoggerHook", by_epoch=False)]),
            log_level="ERROR",
            load_from=None,
            resume_from=None,
            workflow=[("train", 1)],
            gpu_ids=[0],
            seed=0,
            work_dir="work",
            device=get_device(),
        )
    )
    os.makedirs("work", exist_ok=True)
    set_random_seed(0)
    model = build_segmentor(cfg.model)
    model.init_weights()
    train_segmentor(
        model, [build_dataset(cfg.data.train)], cfg, validate=True, timestamp="t", meta={}
    )
    print()  # ends the line of a progress bar
    print(json.dumps({"device": next(model.parameters()).device.type}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # mmseg's own
    main()
