"""Overlaps of upright boxes, and their offsets from anchors.

Boxes of ``npu_iou`` are ``(N, 4)``, corners; those of the generalised overlaps ``(4, N)``,
centre and size when ``trans``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mx_autopatch.softnpu.npu.reference import narrowed, reference, unsupported, vjp, widened

__all__ = ["overlap"]

#: What ``npu_iou`` adds to the sides of boxes, so that no area is zero.
_EPS = 0.01


def overlap(boxes: Tensor, others: Tensor, eps: float, foreground: bool = False) -> Tensor:
    """The overlap of every pair, ``(len(boxes), len(others))``.

    Args:
        eps: Added to width and height where areas are taken.
        foreground: Relate to the area of ``others`` instead of the union.
    """
    sizes = (boxes[:, 2:] - boxes[:, :2] + eps), (others[:, 2:] - others[:, :2] + eps)
    areas = [size.prod(1) for size in sizes]
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    inner = (high - low).clamp(min=0).prod(2)
    if foreground:
        return inner / areas[1]
    return inner / (areas[0][:, None] + areas[1] - inner)


@reference("npu_iou", "npu_ptiou")
def npu_iou(bboxes: Tensor, gtboxes: Tensor, mode: int = 0) -> Tensor:
    """``(len(gtboxes), len(bboxes))``: IoU, or with ``mode`` 1 the share of the ground truth.

    Sides are 0.01 longer where areas are taken, on the hardware too.
    """
    found = overlap(widened(bboxes), widened(gtboxes), _EPS, foreground=mode == 1)
    return found.T.contiguous().to(bboxes.dtype)


def _corners(boxes: Tensor, trans: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if not trans:
        x1, y1, x2, y2 = boxes.unbind(0)
        return x1, y1, x2, y2
    x, y, w, h = boxes.unbind(0)
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


class _Pairs:
    """Two sets of boxes, each with each (``(M, N)``) or in pairs (``(1, N)``)."""

    def __init__(self, boxes: Tensor, targets: Tensor, trans: bool, cross: bool) -> None:
        first = [side[None] for side in _corners(boxes, trans)]
        second = [side[:, None] if cross else side[None] for side in _corners(targets, trans)]
        self.first, self.second = first, second
        inner = [
            torch.minimum(first[i + 2], second[i + 2]) - torch.maximum(first[i], second[i])
            for i in (0, 1)
        ]
        self.inner = inner[0].clamp(min=0) * inner[1].clamp(min=0)
        #: Width and height of what encloses both.
        self.outer = [
            torch.maximum(first[i + 2], second[i + 2]) - torch.minimum(first[i], second[i])
            for i in (0, 1)
        ]

    def areas(self, eps: float) -> tuple[Tensor, Tensor]:
        a, b = ((s[2] - s[0]) * (s[3] - s[1] + eps) for s in (self.first, self.second))
        return a, b

    def distance(self, eps: float) -> Tensor:
        """Squared distance of the centres, in units of the enclosing diagonal."""
        apart = [
            self.second[i] + self.second[i + 2] - self.first[i] - self.first[i + 2] for i in (0, 1)
        ]
        diagonal = self.outer[0].square() + self.outer[1].square() + eps
        return (apart[0].square() + apart[1].square()) / 4 / diagonal


def _giou(boxes: Tensor, targets: Tensor) -> Tensor:
    pairs = _Pairs(boxes, targets, True, False)
    a, b = pairs.areas(0.0)
    union = a + b - pairs.inner + 1e-16
    outer = pairs.outer[0] * pairs.outer[1]
    return (pairs.inner / union - (outer - union) / outer).T


def _only_pairs(name: str, trans: bool, is_cross: bool, mode: int) -> None:
    """What torch_npu checks before it computes."""
    if not trans or is_cross or mode:
        raise RuntimeError(f"{name} only supports trans=True, is_cross=False and mode=0")


@reference("npu_giou")
def npu_giou(
    input: Tensor, gtboxes: Tensor, trans: bool = False, is_cross: bool = False, mode: int = 0
) -> Tensor:
    """Generalised IoU of pairs, ``(N, 1)``; only with ``trans``, as torch_npu has it."""
    _only_pairs("npu_giou", trans, is_cross, mode)
    return _giou(widened(input), widened(gtboxes)).to(input.dtype)


@reference("npu_giou_backward")
def npu_giou_backward(
    grad: Tensor,
    bboxes: Tensor,
    gtboxes: Tensor,
    trans: bool = False,
    is_cross: bool = False,
    mode: int = 0,
) -> tuple[Any, ...]:
    _only_pairs("npu_giou_backward", trans, is_cross, mode)
    boxes, targets = widened(bboxes), widened(gtboxes)
    given = grad.reshape(-1, 1)
    return narrowed(vjp(_giou, [boxes, targets], [given]), (bboxes, gtboxes))


#: Of the distance and complete overlaps.
_TINY = 1e-9


def _diou(pairs: _Pairs) -> Tensor:
    a, b = pairs.areas(_TINY)
    return pairs.inner / (a + b - pairs.inner + _TINY) - pairs.distance(_TINY)


@reference("npu_diou")
def npu_diou(
    input: Tensor, gtboxes: Tensor, trans: bool = False, is_cross: bool = False, mode: int = 0
) -> Tensor:
    """Distance IoU, ``(1, N)``, or ``(M, N)`` of each with each if ``is_cross``."""
    if mode:
        unsupported("npu_diou", "mode=1 (IoF)")
    pairs = _Pairs(widened(input), widened(gtboxes), trans, is_cross)
    return _diou(pairs).to(input.dtype)


@reference("npu_diou_backward")
def npu_diou_backward(
    grad: Tensor,
    bboxes: Tensor,
    gtboxes: Tensor,
    trans: bool = False,
    is_cross: bool = False,
    mode: int = 0,
) -> tuple[Any, ...]:
    _only_pairs("npu_diou_backward", trans, is_cross, mode)

    def forward(boxes: Tensor, targets: Tensor) -> Tensor:
        return _diou(_Pairs(boxes, targets, True, False))

    inputs = [widened(bboxes), widened(gtboxes)]
    return narrowed(vjp(forward, inputs, [grad.reshape(1, -1)]), (bboxes, gtboxes))


def _ciou(pairs: _Pairs, fixed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Complete IoU, and the difference of the angles.

    The trade-off between the terms is a constant for the gradient, as in the loss of
    that name; ``fixed`` is its value if it is known.
    """
    angles = [
        torch.atan((s[2] - s[0]) / (s[3] - s[1] + _TINY)) for s in (pairs.second, pairs.first)
    ]
    apart = angles[0] - angles[1]
    v = 4 / math.pi**2 * apart.square()
    a, b = pairs.areas(_TINY)
    iou = pairs.inner / (a + b - pairs.inner + _TINY)
    alpha = (v / (1 + _TINY - iou + v)).detach() if fixed is None else fixed
    return iou - pairs.distance(_TINY) - v * alpha, apart


@reference("_npu_ciou")
def _npu_ciou(
    input: Tensor,
    gtboxes: Tensor,
    trans: bool = False,
    is_cross: bool = True,
    mode: int = 0,
    atan_sub_flag: bool = False,
) -> tuple[Tensor, Tensor]:
    """Complete IoU, shapes as of ``npu_diou``, and the difference of the arcus tangents."""
    if mode:
        unsupported("npu_ciou", "mode=1 (IoF)")
    pairs = _Pairs(widened(input), widened(gtboxes), trans, is_cross)
    ciou, apart = _ciou(pairs)
    return ciou.to(input.dtype), apart.to(input.dtype)


@reference("npu_ciou_backward")
def npu_ciou_backward(
    grad: Tensor,
    bboxes: Tensor,
    gtboxes: Tensor,
    atan_sub: Tensor | None,
    trans: bool = False,
    is_cross: bool = True,
    mode: int = 0,
) -> tuple[Any, ...]:
    _only_pairs("npu_ciou_backward", trans, is_cross, mode)

    def forward(boxes: Tensor, targets: Tensor) -> Tensor:
        return _ciou(_Pairs(boxes, targets, True, False))[0]

    inputs = [widened(bboxes), widened(gtboxes)]
    return narrowed(vjp(forward, inputs, [grad.reshape(1, -1)]), (bboxes, gtboxes))


def _centres(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and size of boxes whose right and lower border belong to them."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2] + 1


@reference("npu_bounding_box_encode")
def npu_bounding_box_encode(
    anchor_box: Tensor,
    ground_truth_box: Tensor,
    means0: float,
    means1: float,
    means2: float,
    means3: float,
    stds0: float,
    stds1: float,
    stds2: float,
    stds3: float,
) -> Tensor:
    """``(dx, dy, dw, dh)`` that lead from anchors to targets, less means, by deviations.

    Boxes are corners, of which the second belongs to the box: its width is x2 - x1 + 1.
    """
    centre, size = _centres(widened(anchor_box))
    target, target_size = _centres(widened(ground_truth_box))
    deltas = torch.cat(((target - centre) / size, torch.log(target_size / size)), 1)
    means = deltas.new_tensor([means0, means1, means2, means3])
    stds = deltas.new_tensor([stds0, stds1, stds2, stds3])
    return ((deltas - means) / stds).to(anchor_box.dtype)


@reference("npu_bounding_box_decode")
def npu_bounding_box_decode(
    rois: Tensor,
    deltas: Tensor,
    means0: float,
    means1: float,
    means2: float,
    means3: float,
    stds0: float,
    stds1: float,
    stds2: float,
    stds3: float,
    max_shape: list[int],
    wh_ratio_clip: float,
) -> Tensor:
    """Boxes at ``deltas`` from ``rois``, inside an image of ``max_shape``.

    Args:
        max_shape: Height and width.
        wh_ratio_clip: The most that a side shrinks to or, inverted, grows to.
    """
    centre, size = _centres(widened(rois))
    moves = widened(deltas)
    means = moves.new_tensor([means0, means1, means2, means3])
    stds = moves.new_tensor([stds0, stds1, stds2, stds3])
    moves = moves * stds + means
    limit = abs(math.log(wh_ratio_clip))
    centre = centre + moves[:, :2] * size
    size = size * moves[:, 2:].clamp(-limit, limit).exp()
    height, width = (max_shape[0], max_shape[1]) if len(max_shape) > 1 else (max_shape[0],) * 2
    bounds = moves.new_tensor([width - 1, height - 1])
    low, high = centre - (size - 1) / 2, centre + (size - 1) / 2
    corners = [torch.minimum(side.clamp(min=0), bounds) for side in (low, high)]
    return torch.cat(corners, 1).to(rois.dtype)


@reference("npu_anchor_response_flags")
def npu_anchor_response_flags(
    input: Tensor, featmap_size: list[int], stride: list[int], num_base_anchors: int
) -> Tensor:
    """1 for the anchors of every cell that holds the centre of a box, uint8."""
    height, width = featmap_size
    centre = (input[:, :2] + input[:, 2:]) * 0.5
    column = (centre[:, 0] / stride[0]).floor().long().clamp(0, width - 1)
    row = (centre[:, 1] / stride[1]).floor().long().clamp(0, height - 1)
    flags = torch.zeros(height * width, dtype=torch.uint8, device=input.device)
    flags[row * width + column] = 1
    return flags.repeat_interleave(num_base_anchors)
