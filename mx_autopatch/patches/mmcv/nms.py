"""Non-maximum suppression on NPUs, exact; and compiled, in one graph.

Why: mmcv's extension has no kernel for NPUs unless it was compiled for them (``nms_impl:
     implementation for device npu:0 not found``, mmcv#3216, #3063, #2985). The one that it
     then has drops boxes of negative score. Of turned boxes, mmcv 2.2 converts the angles
     for NPUs to degrees in the caller's own tensor, one box at a time.
     And ``torch.compile(fullgraph=True)`` refuses a Function without a backward wherever
     the boxes require gradients, although the indices that it returns have none; and the
     ``eval`` by which batched_nms finds its function.
How: for tensors of the device npu, mx_autopatch.ops.nms and nms_rotated. In a function that
     is being compiled, nms without a Function around it, and batched_nms by looking the
     function up; from ``split_thr`` boxes on, too, it takes all of them at once, for a loop
     over the classes that there are cannot be compiled. Otherwise mmcv's own code runs.
Upstream: mmcv/ops/nms.py and mmcv/ops/csrc/pytorch/npu/nms_npu.cpp, mmcv 1.3 - 2.2.
Remove when: mmcv ships an extension for NPUs, leaves its arguments as they are, and says
     that indices are not differentiable.
"""

import sys
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


def nms_of_boxes(
    boxes: "Tensor",
    scores: "Tensor",
    iou_threshold: float,
    offset: int = 0,
    score_threshold: float = 0,
    max_num: int = -1,
) -> "tuple[Tensor, Tensor]":
    import torch

    kept = nms(None, boxes, scores, iou_threshold, offset, score_threshold, max_num)
    return torch.cat((boxes[kept], scores[kept, None]), 1), kept


def batched_nms(
    boxes: "Tensor",
    scores: "Tensor",
    idxs: "Tensor",
    nms_cfg: "Optional[dict[str, Any]]",
    class_agnostic: bool = False,
) -> "tuple[Tensor, Tensor]":
    import torch

    options = {**nms_cfg} if nms_cfg else {}
    name = options.pop("type", "nms")
    # By the module's name: the package has a function of that name.
    function = getattr(sys.modules["mmcv.ops.nms"], name) if isinstance(name, str) else name
    options.pop("split_thr", None)
    moved = boxes
    if not options.pop("class_agnostic", class_agnostic):
        # As far from each other as mmcv moves them; of turned boxes, the centres.
        turned = boxes.shape[-1] == 5
        extent = boxes[..., :2].max() + boxes[..., 2:4].max() if turned else boxes.max()
        offset = (idxs.to(boxes) * (extent + 1))[:, None]
        moved = (
            torch.cat((boxes[..., :2] + offset, boxes[..., 2:]), -1) if turned else boxes + offset
        )
    dets, kept = function(moved, scores, **options)
    return torch.cat((boxes[kept], dets[:, -1:]), -1), kept


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


def _compiling(boxes: Any, scores: Any, *args: Any, **kwargs: Any) -> bool:
    """Dynamo looks for the backward of a Function whatever its ``apply`` is: see Why."""
    import torch

    tensors = isinstance(boxes, torch.Tensor) and isinstance(scores, torch.Tensor)
    renamed = "iou_thr" in kwargs  # mmcv's decorator knows it by its former name
    return tensors and not renamed and torch.compiler.is_compiling()


def _compiling_batch(
    boxes: Any, scores: Any, idxs: Any, nms_cfg: Any, *args: Any, **kwargs: Any
) -> bool:
    return nms_cfg is not None and _compiling(boxes, scores)


def _on_npu(ctx: Any, bboxes: "Tensor", *args: Any, **kwargs: Any) -> bool:
    return bboxes.device.type == "npu"


def _turned_on_npu(dets: "Tensor", *args: Any, **kwargs: Any) -> bool:
    return dets.device.type == "npu"


PATCHES = (
    Patch(
        name="mmcv.nms",
        edits=(
            Replace("mmcv.ops.nms:NMSop.forward", nms, guard=_on_npu),
            Replace("mmcv.ops.nms:nms", nms_of_boxes, guard=_compiling),
            Replace("mmcv.ops.nms:batched_nms", batched_nms, guard=_compiling_batch),
            Replace("mmcv.ops.nms:nms_rotated", nms_rotated, guard=_turned_on_npu),
        ),
        requires=("module:torch",),
    ),
)
