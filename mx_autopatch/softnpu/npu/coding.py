"""Coding of boxes and assignment of anchors in YOLO and rotated detectors, as mmdet has it.

The documentation gives shapes; the formulas are those of mmdet's coders and assigners, and
give the numbers that torch_npu's own tests expect of the hardware.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mx_autopatch.softnpu.npu.reference import reference, unsupported, widened

__all__: list[str] = []

#: The least share of a cell, and the least ratio of sides, that YOLO's coding tells apart.
_LEAST = 1e-6


def _centres(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]


@reference("npu_yolo_boxes_encode")
def npu_yolo_boxes_encode(
    input: Tensor, gt_bboxes: Tensor, stride: Tensor, performance_mode: bool = False
) -> Tensor:
    """Place in the cell, and logarithm of the ratio of sides, ``(N, 4)``.

    Args:
        input: Anchors, ``(N, 4)`` corners, as ``gt_bboxes``.
        stride: Size of a cell for each, ``(N,)`` int32.
        performance_mode: Less precise on the hardware; the same here.
    """
    centre, size = _centres(widened(input))
    target, target_size = _centres(widened(gt_bboxes))
    place = (target - centre) / stride.unsqueeze(1) + 0.5
    ratio = torch.log((target_size / size).clamp(min=_LEAST))
    return torch.cat((place.clamp(_LEAST, 1 - _LEAST), ratio), 1).to(input.dtype)


@reference("npu_grid_assign_positive")
def npu_grid_assign_positive(
    input: Tensor,
    overlaps: Tensor,
    box_responsible_flags: Tensor,
    max_overlaps: Tensor,
    argmax_overlaps: Tensor,
    gt_max_overlaps: Tensor,
    gt_argmax_overlaps: Tensor,
    num_gts: int,
    pos_iou_thr: float,
    min_pos_iou: float,
    gt_max_assign_all: bool,
) -> Tensor:
    """Numbers of the ground truths, from one, that anchors are assigned to.

    Args:
        input: The assignment so far, ``(N,)``.
        overlaps: ``(ground truths, N)``, whose maxima the others are.
        box_responsible_flags: Which anchors are in the cell of a ground truth, uint8.
        gt_max_assign_all: All anchors that overlap a ground truth most, not the first.
    """
    responsible = box_responsible_flags.bool()
    assigned = input.clone()
    positive = (max_overlaps > pos_iou_thr) & responsible
    assigned[positive] = (argmax_overlaps[positive] + 1).to(input.dtype)
    for truth in range(min(num_gts, len(overlaps))):
        if gt_max_overlaps[truth] <= min_pos_iou:
            continue
        if gt_max_assign_all:
            best = (overlaps[truth] == gt_max_overlaps[truth]) & responsible
            assigned[best] = truth + 1
        elif responsible[gt_argmax_overlaps[truth].long()]:
            assigned[gt_argmax_overlaps[truth].long()] = truth + 1
    return assigned


def _plain(operator: str, weight: Tensor) -> None:
    if not bool((weight == 1).all()):
        unsupported(operator, "a weight other than one")


def _rotated(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centre, size and tangent of the angle of ``(B, 5, N)``: two corners and degrees."""
    wide = widened(boxes)
    low, high = wide[:, :2], wide[:, 2:4]
    return (low + high) / 2, high - low, torch.tan(torch.deg2rad(wide[:, 4:]))


@reference("npu_rotated_box_encode")
def npu_rotated_box_encode(input: Tensor, gt_bboxes: Tensor, weight: Tensor) -> Tensor:
    """Offsets from anchors to targets, ``(B, 5, N)``; of the angle, those of its tangent."""
    _plain("npu_rotated_box_encode", weight)
    centre, size, slope = _rotated(input)
    target, target_size, target_slope = _rotated(gt_bboxes)
    moves = (target - centre) / size, torch.log(target_size / size), target_slope - slope
    return torch.cat(moves, 1).to(input.dtype)


@reference("npu_rotated_box_decode")
def npu_rotated_box_decode(input: Tensor, deltas: Tensor, weight: Tensor) -> Tensor:
    """The opposite of ``npu_rotated_box_encode``."""
    _plain("npu_rotated_box_decode", weight)
    centre, size, slope = _rotated(input)
    moves = widened(deltas)
    centre = centre + moves[:, :2] * size
    size = size * moves[:, 2:4].exp()
    angle = torch.rad2deg(torch.atan(slope + moves[:, 4:]))
    return torch.cat((centre - size / 2, centre + size / 2, angle), 1).to(input.dtype)


@reference("npu_normalize_batch")
def npu_normalize_batch(input: Tensor, seq_len: Tensor, normalize_type: int = 0) -> Tensor:
    """Sequences less their mean, by their deviation plus 1e-5.

    Args:
        input: ``(B, C, T)``.
        seq_len: How much of each sequence counts for the statistics, ``(B,)``.
        normalize_type: 0 for statistics of each channel, 1 for those of all together.
    """
    results = []
    for row, length in zip(widened(input), seq_len.tolist()):
        part = row[:, : int(length)]
        dims = [1] if normalize_type == 0 else [0, 1]
        mean, std = part.mean(dims, keepdim=True), part.std(dims, keepdim=True)
        results.append((row - mean) / (std + 1e-5))
    return torch.stack(results).to(input.dtype)
