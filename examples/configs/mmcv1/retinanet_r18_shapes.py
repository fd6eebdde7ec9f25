"""RetinaNet with ResNet-18 on the data of shapes.py, for mmdet 2.x: from scratch, on a CPU.

The same model, data and schedule as ../retinanet_r18_shapes.py, which is for mmdet 3.x.
"""

# dict() is how OpenMMLab's configs are written.
# ruff: noqa: C408

data_root = "data/shapes/"
image_size = 128
classes = ("rectangle", "ellipse", "triangle")

# What train_detector_mmcv1.py gives to shapes.generate() where the folder does not exist.
shapes = dict(root=data_root, train=240, val=40, size=image_size, seed=0)

model = dict(
    type="RetinaNet",
    backbone=dict(
        type="ResNet",
        depth=18,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        # Nothing is downloaded, so nothing is frozen, batch statistics included.
        frozen_stages=-1,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=False,
        style="pytorch",
    ),
    neck=dict(
        type="FPN",
        in_channels=[64, 128, 256, 512],
        out_channels=128,  # half of mmdet's width, for the sake of a CPU
        start_level=1,
        add_extra_convs="on_input",
        num_outs=5,
    ),
    bbox_head=dict(
        type="RetinaHead",
        num_classes=len(classes),
        in_channels=128,
        feat_channels=128,
        stacked_convs=2,
        anchor_generator=dict(
            type="AnchorGenerator",
            octave_base_scale=4,
            scales_per_octave=3,
            ratios=[0.5, 1.0, 2.0],
            strides=[8, 16, 32, 64, 128],
        ),
        bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_means=[0.0] * 4, target_stds=[1.0] * 4),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=1.0),
    ),
    train_cfg=dict(
        assigner=dict(
            type="MaxIoUAssigner",
            pos_iou_thr=0.5,
            neg_iou_thr=0.4,
            min_pos_iou=0,
            ignore_iof_thr=-1,
        ),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type="nms", iou_threshold=0.5),
        max_per_img=100,
    ),
)

normalize = dict(
    type="Normalize", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", img_scale=(image_size, image_size), keep_ratio=True),
    dict(type="RandomFlip", flip_ratio=0.5),
    normalize,
    dict(type="Pad", size_divisor=32),
    dict(type="DefaultFormatBundle"),
    dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels"]),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="MultiScaleFlipAug",
        img_scale=(image_size, image_size),
        flip=False,
        transforms=[
            dict(type="Resize", keep_ratio=True),
            dict(type="RandomFlip"),
            normalize,
            dict(type="Pad", size_divisor=32),
            dict(type="ImageToTensor", keys=["img"]),
            dict(type="Collect", keys=["img"]),
        ],
    ),
]


def _split(name, pipeline):
    return dict(
        type="CocoDataset",
        ann_file=f"{data_root}{name}.json",
        img_prefix=f"{data_root}{name}/",
        classes=classes,
        pipeline=pipeline,
    )


data = dict(
    samples_per_gpu=4,
    workers_per_gpu=2,
    train_dataloader=dict(persistent_workers=True),
    val_dataloader=dict(workers_per_gpu=0),
    train=_split("train", train_pipeline),
    val=_split("val", test_pipeline),
    test=_split("val", test_pipeline),
)

runner = dict(type="EpochBasedRunner", max_epochs=8)
evaluation = dict(interval=8, metric="bbox")
# From random weights, Adam comes further in a few hundred iterations than SGD.
optimizer = dict(type="AdamW", lr=4e-4, weight_decay=0.01)
optimizer_config = dict(grad_clip=dict(max_norm=10.0))
lr_config = dict(
    policy="CosineAnnealing",
    by_epoch=False,
    warmup="linear",
    warmup_iters=30,
    warmup_ratio=0.01,
    min_lr=0,
)
checkpoint_config = dict(interval=2, max_keep_ckpts=1)
log_config = dict(interval=20, hooks=[dict(type="TextLoggerHook")])
custom_hooks = [dict(type="NumClassCheckHook")]

dist_params = dict(backend="nccl")
log_level = "INFO"
load_from = None
resume_from = None
workflow = [("train", 1)]
opencv_num_threads = 0
mp_start_method = "fork"
