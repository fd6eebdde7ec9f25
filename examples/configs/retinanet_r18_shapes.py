"""RetinaNet with ResNet-18 on the data of shapes.py, from scratch, small enough for a CPU."""

# dict() is how OpenMMLab's configs are written.
# ruff: noqa: C408

_base_ = ["mmdet::retinanet/retinanet_r18_fpn_1x_coco.py", "./_shapes.py"]

model = dict(
    backbone=_base_.shapes.backbone,
    neck=_base_.shapes.neck,
    bbox_head=dict(
        num_classes=_base_.shapes.num_classes, in_channels=128, feat_channels=128, stacked_convs=2
    ),
)

train_dataloader = _base_.shapes.train_dataloader
val_dataloader = _base_.shapes.val_dataloader
test_dataloader = _base_.shapes.val_dataloader
val_evaluator = _base_.shapes.val_evaluator
test_evaluator = _base_.shapes.val_evaluator
train_cfg = _base_.shapes.train_cfg
optim_wrapper = _base_.shapes.optim_wrapper
param_scheduler = _base_.shapes.param_scheduler
default_hooks = _base_.shapes.default_hooks
log_processor = _base_.shapes.log_processor
