"""Boxes and polygons through the public API of mmcv, and the retired names."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from test_mmcv_ext import needs_mmcv

from mx_autopatch import mmcv_ext

BOXES = torch.tensor(
    [
        [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 0.0],
        [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 0.0],
        [3.0, 3.0, 3.0, 3.0, 2.0, 2.0, 0.3],
        [3.0, 3.0, 3.0, 3.0, 2.0, 2.0, 0.0],
        [3.0, 3.2, 3.2, 3.0, 2.0, 2.0, 0.3],
    ]
)
SCORES = torch.tensor([0.6, 0.9, 0.1, 0.2, 0.15])
TURNED = torch.tensor([[1.0, 1, 1, 2, 2, 2, a] for a in (0, math.pi / 2, math.pi / 4)])
OCTAGON = 8 * (2**0.5 - 1)


@needs_mmcv
def test_boxes_in_three_dimensions(ops):
    overlap = torch.tensor([[4, 4, OCTAGON], [1, 1, 1], [0, 0, 0]])
    torch.testing.assert_close(ops.boxes_overlap_bev(BOXES[[0, 1, 3]], TURNED), overlap)
    iou = torch.tensor([[1, 1, 2**-0.5], [1 / 15, 1 / 15, 1 / 15], [0, 0, 0]])
    torch.testing.assert_close(ops.boxes_iou3d(BOXES[[0, 1, 3]], TURNED), iou)
    for nms in (ops.nms3d, ops.nms3d_normal):
        assert nms(BOXES, SCORES, 0.3).tolist() == [1, 0, 3]


def test_retired_functions():
    a, b = BOXES[[0, 1, 3]], TURNED
    corners = [
        torch.cat((t[:, :2] - t[:, 3:5] / 2, t[:, :2] + t[:, 3:5] / 2, t[:, 6:]), 1) for t in (a, b)
    ]
    result, again = torch.zeros(3, 3), torch.zeros(3, 3)
    mmcv_ext.iou3d_boxes_overlap_bev_forward(a, b, result)
    mmcv_ext.iou3d_boxes_overlap_bev_forward(*corners, again)
    torch.testing.assert_close(result, again)
    mmcv_ext.iou3d_boxes_iou_bev_forward(*corners, again)
    area = torch.tensor([4.0, 4, 6])[:, None] + 4
    torch.testing.assert_close(again, result / (area - result))
    mmcv_ext.iou3d_boxes_iou3d_forward(a, b, again)
    iou = torch.tensor([[1, 1, 2**-0.5], [1 / 15, 1 / 15, 1 / 15], [0, 0, 0]])
    torch.testing.assert_close(again, iou)

    order = SCORES.argsort(descending=True)
    boxes = BOXES[order]
    flat = torch.cat((boxes[:, :2] - boxes[:, 3:5] / 2, boxes[:, :2] + boxes[:, 3:5] / 2), 1)
    flat = torch.cat((flat, boxes[:, 6:]), 1)
    for suppress in (mmcv_ext.iou3d_nms_forward, mmcv_ext.iou3d_nms_normal_forward):
        keep, count = torch.full((5,), 9), torch.zeros((), dtype=torch.long)
        suppress(flat, keep, count, nms_overlap_thresh=0.3)
        assert (keep[: int(count)].tolist(), keep[int(count) :].tolist()) == ([0, 1, 2], [9, 9])


@needs_mmcv
def test_angles_the_other_way_round(ops):
    long = torch.tensor([[0.0, 0.0, 10.0, 1.0, math.pi / 4]])
    spot = torch.tensor([[3.0, 3.0, 0.5, 0.5, 0.0], [3.0, -3.0, 0.5, 0.5, 0.0]])
    for clockwise in (True, False):
        over = ops.box_iou_rotated(spot, long, "iof", clockwise=clockwise)[:, 0]
        assert (over > 0.9).tolist() == [clockwise, not clockwise]


@needs_mmcv
def test_suppression_with_labels(ops):
    """Labels do not keep boxes apart in mmcv's compiled kernels."""
    box = torch.tensor([[0.0, 0.0, 4.0, 2.0, 0.1]]).repeat(3, 1)
    scores, labels = torch.tensor([0.1, 0.9, 0.5]), torch.tensor([0, 1, 2])
    dets, keep = ops.nms_rotated(box, scores, 0.5, labels)
    assert keep.tolist() == [1]
    assert dets.shape == (1, 6)
    quad = torch.tensor([[0.0, 0, 4, 0, 4, 2, 0, 2]]).repeat(3, 1)
    assert ops.nms_quadri(quad, scores, 0.5, labels)[1].tolist() == [1]


@needs_mmcv
def test_arrays_of_numpy(ops):
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 3.9], [9, 9, 10, 10]], np.float32)
    scores = np.array([0.9, 0.8, 0.3], np.float32)
    dets, indices = ops.soft_nms(boxes, scores, method="naive")
    assert isinstance(dets, np.ndarray)
    assert indices.tolist() == [0, 2]
    groups = ops.nms_match(np.concatenate((boxes, scores[:, None]), 1), 0.5)
    assert [g.tolist() for g in groups] == [[0, 1], [2]]
    assert ops.nms_match(np.zeros((0, 5), np.float32), 0.5) == []


@needs_mmcv
def test_differentiable_iou(ops):
    g = torch.Generator().manual_seed(0)
    scale, shift = torch.tensor([20.0, 20, 20, 20, 6]), torch.tensor([0.0, 0, 2, 2, 0])
    a, b = (torch.rand(1, 50, 5, generator=g) * scale + shift for _ in range(2))
    iou = ops.diff_iou_rotated_2d(a.requires_grad_(), b)
    want = ops.box_iou_rotated(a[0].detach(), b[0], aligned=True)
    torch.testing.assert_close(iou[0], want, rtol=1e-4, atol=1e-5)
    iou.sum().backward()
    assert a.grad.isfinite().all()
    b = b.double()  # in float32 mmcv finds some boxes' corners outside the boxes themselves
    torch.testing.assert_close(ops.diff_iou_rotated_2d(b, b), torch.ones(1, 50).double())


@needs_mmcv
def test_point_sets(ops):
    grid = torch.tensor([[x, y] for x in (1.0, 2, 3) for y in (1.0, 2, 3)]).reshape(1, 18)
    square = torch.tensor([[1.0, 1, 1, 2, 2, 2, 2, 1]])
    assert ops.convex_iou(grid, square).item() == pytest.approx(0.25)
    giou, grad = ops.convex_giou(grid, square)
    assert (giou.shape, grad.shape) == ((1,), (1, 18))
    assert giou.item() == pytest.approx(0.25)
    assert ops.min_area_polygons(grid).tolist() == [[3, 1, 1, 1, 1, 3, 3, 3]]


@needs_mmcv
def test_points_in_polygons_as_on_cuda(ops):
    """Some of these points are corners: the answer of mmcv's kernel, case by case."""
    points = torch.tensor([[300.0, 300], [400, 400], [100, 100], [300, 250], [100, 0]])
    polygons = torch.tensor(
        [
            [200.0, 200, 400, 400, 500, 200, 400, 100],
            [400, 400, 500, 500, 600, 300, 500, 200],
            [300, 300, 600, 700, 700, 700, 700, 100],
        ]
    )
    want = [[0, 0, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert ops.points_in_polygons(points, polygons).tolist() == want
