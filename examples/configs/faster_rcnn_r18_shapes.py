"""Faster R-CNN with ResNet-18 on the data of shapes.py, from scratch, small enough for a CPU."""

# dict() is how OpenMMLab's configs are written.
# ruff: noqa: C408

_base_ = ["mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", "./_shapes.py"]

model = dict(
    backbone=_base_.shapes.backbone,
    neck=_base_.shapes.neck,
    rpn_head=dict(in_channels=128, feat_channels=128),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128),
        bbox_head=dict(num_classes=_base_.shapes.num_classes, in_channels=128, fc_out_channels=256),
    ),
    # An image has a handful of objects, not dozens.
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=300, max_per_img=200), rcnn=dict(sampler=dict(num=64))
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=200)),
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
