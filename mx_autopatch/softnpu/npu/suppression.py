"""Non-maximum suppression."""

from __future__ import annotations

import torch
from torch import Tensor

from mx_autopatch.softnpu.npu.boxes import overlap
from mx_autopatch.softnpu.npu.reference import reference, unsupported, widened
from mx_autopatch.softnpu.npu.rotated import rotated_overlap

__all__: list[str] = []


def _kept(overlaps: Tensor, threshold: float, most: int | None = None) -> list[int]:
    """Rows, in their order, that no row kept before overlaps by more than the threshold."""
    too_close = (overlaps > threshold).tolist()
    kept: list[int] = []
    for row in range(len(too_close)):
        if most is not None and len(kept) >= most:
            break
        if not any(too_close[row][other] for other in kept):
            kept.append(row)
    return kept


@reference("npu_nms_v4")
def npu_nms_v4(
    input: Tensor,
    scores: Tensor,
    max_output_size: float,
    iou_threshold: Tensor,
    scores_threshold: Tensor,
    pad_to_max_output_size: bool = False,
) -> tuple[Tensor, Tensor]:
    """Boxes kept, best first: indices ``(max_output_size,)`` int32, and how many they are.

    Behind those that are kept, indices are zero; so they are on the hardware, which
    allocates the result before it knows. ``pad_to_max_output_size`` changes nothing.

    Args:
        input: ``(N, 4)``, two corners that are opposite.
        iou_threshold: A tensor without dimensions, as ``scores_threshold``.
    """
    most = int(max_output_size)
    wide = widened(input)
    boxes = torch.cat(
        (torch.minimum(wide[:, :2], wide[:, 2:]), torch.maximum(wide[:, :2], wide[:, 2:])), 1
    )
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] > scores_threshold]
    chosen = boxes[order]
    kept = _kept(overlap(chosen, chosen, 0.0), float(iou_threshold), most)
    indices = torch.zeros(most, dtype=torch.int32, device=input.device)
    indices[: len(kept)] = order[kept].int()
    return indices, torch.tensor(len(kept), dtype=torch.int32, device=input.device)


@reference("npu_nms_with_mask")
def npu_nms_with_mask(input: Tensor, iou_threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes with their scores ``(N, 5)``, their indices, and a mask of those kept (uint8).

    Args:
        input: ``(N, 5)`` or ``(N, 8)``, of which the first five columns count: corners and
            score. The rows are taken to be sorted by score.
    """
    boxes = input[:, :5].contiguous()
    corners = widened(boxes[:, :4])
    kept = _kept(overlap(corners, corners, 0.0), float(iou_threshold))
    mask = torch.zeros(len(boxes), dtype=torch.uint8, device=input.device)
    mask[kept] = 1
    return boxes, torch.arange(len(boxes), dtype=torch.int32, device=input.device), mask


@reference("npu_nms_rotated")
def npu_nms_rotated(
    input: Tensor,
    scores: Tensor,
    iou_threshold: float,
    scores_threshold: float = 0.0,
    max_output_size: int = -1,
    mode: int = 0,
) -> tuple[Tensor, Tensor]:
    """Rotated boxes kept, best first: indices int32, and their number ``(1,)`` int32.

    Args:
        input: ``(N, 5)``: centre, size, and the angle in degrees.
        max_output_size: -1 for as many as there are.
        mode: 0; the other layout is not supported by torch_npu either.
    """
    if mode:
        unsupported("npu_nms_rotated", f"mode {mode}")
    wide = widened(input)
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] > scores_threshold]
    chosen = wide[order]
    area = chosen[:, 2] * chosen[:, 3]
    inner = rotated_overlap(chosen, chosen)
    ious = inner / (area[:, None] + area - inner)
    most = None if max_output_size < 0 else max_output_size
    kept = order[_kept(ious, iou_threshold, most)].int()
    return kept, torch.tensor([len(kept)], dtype=torch.int32, device=input.device)


@reference("npu_batch_nms")
def npu_batch_nms(
    input: Tensor,
    scores: Tensor,
    score_threshold: float,
    iou_threshold: float,
    max_size_per_class: int,
    max_total_size: int,
    change_coordinate_frame: bool = False,
    transpose_box: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Suppression class by class; the best of all classes, padded with zeros.

    Args:
        input: ``(batch, anchors, q, 4)``, corners; q is 1 or the number of classes.
        scores: ``(batch, anchors, classes)``.

    Returns:
        Boxes ``(batch, max_total_size, 4)``, scores and classes ``(batch, max_total_size)``,
        all of the dtype of the boxes, and the number of those that are real, int32.
    """
    if change_coordinate_frame or transpose_box:
        unsupported("npu_batch_nms", "change_coordinate_frame or transpose_box")
    batch = input.size(0)
    boxes = input.new_zeros(batch, max_total_size, 4)
    values, classes = input.new_zeros(2, batch, max_total_size).unbind(0)
    counts = torch.zeros(batch, dtype=torch.int32, device=input.device)
    for image in range(batch):
        found = []
        for label in range(scores.size(2)):
            score = scores[image, :, label]
            order = score.argsort(descending=True, stable=True)
            order = order[score[order] > score_threshold]
            own = input[image, :, label if input.size(2) > 1 else 0]
            chosen = widened(own[order])
            kept = order[_kept(overlap(chosen, chosen, 0.0), iou_threshold, max_size_per_class)]
            found.append((own[kept], score[kept], torch.full_like(score[kept], label)))
        best, value, label_of = (torch.cat(parts) for parts in zip(*found))
        order = value.argsort(descending=True, stable=True)[:max_total_size]
        count = len(order)
        boxes[image, :count], values[image, :count] = best[order], value[order].to(input.dtype)
        classes[image, :count], counts[image] = label_of[order].to(input.dtype), count
    return boxes, values, classes, counts
