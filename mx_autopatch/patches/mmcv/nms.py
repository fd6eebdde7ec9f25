"""Non-maximum suppression on NPUs, exact.

Why: mmcv's extension has no kernel for NPUs unless it was compiled for them (``nms_impl:
     implementation for device npu:0 not found``, mmcv#3216, #3063, #2985). The one that it
     then has drops boxes of negative score. Of turned boxes, mmcv 2.2 converts the angles
     for NPUs to degrees in the caller's own tensor, one box at a time.
How: for tensors of the device npu, mx_autopatch.ops.nms and nms_rotated. For other
     tensors mmcv's own code runs.
Upstream: mmcv/ops/nms.py and mmcv/ops/csrc/pytorch/npu/nms_npu.cpp, mmcv 1.3 - 2.2.
Remove when: mmcv ships an extension for NPUs, and leaves its arguments as they are.
"""

from typing import TYPE_CHECKING, Any, Optional

from mx_autopatch.model import Patch, Replace

if TYPE_CHECKING:
    from torch import Tensor


def nms(
    ctx: Any,
    bboxes: "Tensor",
    scores: "Tensor",
    iou_threshold: float,
    offset: int,
    score_threshold: float,
    max_num: int,
) -> "Tensor":
    from mx_autopatch.ops import nms as op

    valid = None
    if score_threshold > 0:
        valid = (scores > score_threshold).nonzero().squeeze(1)
        bboxes, scores = bboxes[valid], scores[valid]
    kept = op(bboxes, scores, iou_threshold, offset)
    if max_num > 0:
        kept = kept[:max_num]
    return kept if valid is None else valid[kept]


def nms_rotated(
    dets: "Tensor",
    scores: "Tensor",
    iou_threshold: float,
    labels: "Optional[Tensor]" = None,
    clockwise: bool = True,
) -> "tuple[Tensor, Optional[Tensor]]":
    import torch

    from mx_autopatch.ops import nms_rotated as op

    if dets.shape[0] == 0:
        return dets, None
    boxes = dets[:, :5]
    if not clockwise:
        boxes = boxes * boxes.new_tensor([1, 1, 1, 1, -1])
    # Labels do not matter to mmcv's compiled kernels either.
    kept = op(boxes, scores, iou_threshold)
    return torch.cat((dets[kept], scores[kept, None]), 1), kept


def _on_npu(ctx: Any, bboxes: "Tensor", *args: Any, **kwargs: Any) -> bool:
    return bboxes.device.type == "npu"


def _turned_on_npu(dets: "Tensor", *args: Any, **kwargs: Any) -> bool:
    return dets.device.type == "npu"


PATCHES = (
    Patch(
        name="mmcv.nms",
        edits=(
            Replace("mmcv.ops.nms:NMSop.forward", nms, guard=_on_npu),
            Replace("mmcv.ops.nms:nms_rotated", nms_rotated, guard=_turned_on_npu),
        ),
        requires=("module:torch", "device:npu"),
    ),
)
