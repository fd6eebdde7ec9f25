"""What the detectors of this folder have in common: the data, the scale, the schedule.

mmengine refuses two bases with the same key, and mmdet's own configs already have a
``train_dataloader`` and so on. So everything here is inside ``shapes``, and a config
lays its parts over those of mmdet.
"""

# dict() is how OpenMMLab's configs are written.
# ruff: noqa: C408

_root = "data/shapes/"
_size = 128
_classes = ("rectangle", "ellipse", "triangle")
_epochs = 8

_load = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=(_size, _size), keep_ratio=True),
]
_meta_keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")

_train_dataset = dict(
    data_root=_root,
    ann_file="train.json",
    data_prefix=dict(img="train/"),
    metainfo=dict(classes=_classes),
    filter_cfg=dict(filter_empty_gt=True, min_size=1),
    pipeline=[*_load, dict(type="RandomFlip", prob=0.5), dict(type="PackDetInputs")],
)
_val_dataset = dict(
    data_root=_root,
    ann_file="val.json",
    data_prefix=dict(img="val/"),
    metainfo=dict(classes=_classes),
    pipeline=[*_load, dict(type="PackDetInputs", meta_keys=_meta_keys)],
)

shapes = dict(
    # What train_detector.py gives to shapes.generate() where the folder does not exist.
    data=dict(root=_root, train=240, val=40, size=_size, seed=0),
    num_classes=len(_classes),
    # Nothing is downloaded, so nothing is frozen, batch statistics included.
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None),
    # The outputs of ResNet-18; half of mmdet's width, for the sake of a CPU.
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=128),
    train_dataloader=dict(
        batch_size=4, num_workers=2, persistent_workers=True, dataset=_train_dataset
    ),
    val_dataloader=dict(
        batch_size=1, num_workers=0, persistent_workers=False, dataset=_val_dataset
    ),
    val_evaluator=dict(ann_file=_root + "val.json"),
    train_cfg=dict(max_epochs=_epochs, val_interval=_epochs),
    # From random weights, Adam comes further in a few hundred iterations than SGD.
    optim_wrapper=dict(
        optimizer=dict(_delete_=True, type="AdamW", lr=4e-4, weight_decay=0.01),
        clip_grad=dict(max_norm=10.0),
    ),
    param_scheduler=[
        dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),
        dict(type="CosineAnnealingLR", T_max=_epochs, convert_to_iter_based=True),
    ],
    default_hooks=dict(logger=dict(interval=20), checkpoint=dict(interval=2, max_keep_ckpts=1)),
    log_processor=dict(window_size=20),
)
