"""Overlaps of boxes against plain references, and against mmcv's compiled operators."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.library import opcheck

from mx_autopatch.ops import _polygons, box_iou
from mx_autopatch.ops.box_iou import (
    bbox_overlaps,
    box_iou_quadri,
    box_iou_rotated,
    boxes_overlap_bev,
)
from mx_autopatch.verify.references import boxes as whole
from mx_autopatch.verify.references import polygons as plain


def rotated(n, seed=0, extent=20.0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    r = torch.rand(n, 5, generator=g, dtype=torch.float64)
    scale = torch.tensor([extent, extent, 12, 12, 7], dtype=torch.float64)
    return (r * scale + torch.tensor([0, 0, 1, 1, -3.5], dtype=torch.float64)).to(dtype)


def quadri(n, seed=0, dtype=torch.float64):
    """Convex, but no rectangles: corners on ellipses, in both directions around."""
    g = torch.Generator().manual_seed(seed)
    angle = (torch.arange(4) + torch.rand(n, 4, generator=g, dtype=torch.float64) * 0.9) * (
        math.pi / 2
    )
    centre = torch.rand(n, 1, 2, generator=g, dtype=torch.float64) * 20
    radius = torch.rand(n, 1, 2, generator=g, dtype=torch.float64) * 8 + 1
    corners = centre + radius * torch.stack((angle.cos(), angle.sin()), 2)
    corners[::2] = corners[::2].flip(1)
    return corners.flatten(1).to(dtype)


def bev(n, seed=0, dtype=torch.float64):
    b = rotated(n, seed)
    return torch.cat((b[:, :2], b[:, 2:3], b[:, 2:4], b[:, :1], b[:, 4:]), 1).to(dtype)


KINDS = {
    "rotated": (box_iou_rotated, rotated, whole.box_iou_rotated),
    "quadri": (box_iou_quadri, quadri, whole.box_iou_quadri),
}
kinds = pytest.mark.parametrize(("op", "boxes", "reference"), KINDS.values(), ids=KINDS)


@pytest.mark.parametrize("op", [bbox_overlaps, box_iou_rotated, box_iou_quadri])
@pytest.mark.parametrize("mode", ["iou", "iof"])
@pytest.mark.parametrize("aligned", [False, True])
def test_agrees_with_the_compiled_operator(golden, op, mode, aligned):
    data, kwargs = golden(f"{op.__name__}_{mode}_{int(aligned)}")
    got = op(data["in_bboxes1"], data["in_bboxes2"], **kwargs)
    torch.testing.assert_close(got, data["out_0"], rtol=1e-5, atol=1e-5)


@kinds
@pytest.mark.parametrize("mode", ["iou", "iof"])
@pytest.mark.parametrize("aligned", [False, True])
def test_agrees_with_the_reference(op, boxes, reference, mode, aligned):
    a, b = boxes(12), boxes(12, seed=1)
    torch.testing.assert_close(op(a, b, mode, aligned), reference(a, b, mode, aligned))


@kinds
def test_float32_far_from_the_origin(op, boxes, reference):
    a, b = boxes(40), boxes(40, seed=1)
    size = 2 if op is box_iou_rotated else 8
    a[:, :size] += 1000
    b[:, :size] += 1000
    want = op(a.float().double(), b.float().double())
    torch.testing.assert_close(op(a.float(), b.float()).double(), want, rtol=0, atol=3e-5)


@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_box_and_itself(op, boxes, reference, dtype):
    a = boxes(200, dtype=dtype)
    got = op(a, a, aligned=True)
    torch.testing.assert_close(got, torch.ones_like(got), rtol=1e-4, atol=0)
    torch.testing.assert_close(op(a, a).diagonal(), got, rtol=1e-6, atol=0)


def test_boxes_that_share_sides():
    """Grid boxes, turned by right angles: every kind of touching, of containing, of no overlap."""
    side = [0.0, 1.0, 2.0]
    table = torch.tensor(
        [[x, y, w, h, k * math.pi / 2] for x in side for y in side for w in (1, 2) for h in (1, 2)
         for k in (0, 1, 2)],
        dtype=torch.float64,
    )  # fmt: skip
    swapped = (table[:, 4] > 1) & (table[:, 4] < 2)
    w, h = (torch.where(swapped, table[:, i], table[:, 5 - i]) for i in (3, 2))
    straight = torch.stack(
        (table[:, 0] - w / 2, table[:, 1] - h / 2, table[:, 0] + w / 2, table[:, 1] + h / 2), 1
    )
    want = bbox_overlaps(straight, straight)
    torch.testing.assert_close(box_iou_rotated(table, table), want, rtol=0, atol=1e-12)
    got = box_iou_rotated(table.float(), table.float())
    torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-5)


def test_the_angle_turns_from_x_to_y():
    long = torch.tensor([[0.0, 0.0, 10.0, 1.0, math.pi / 4]])
    spot = torch.tensor([[3.0, 3.0, 0.5, 0.5, 0.0], [3.0, -3.0, 0.5, 0.5, 0.0]])
    assert (box_iou_rotated(spot, long, "iof")[:, 0] > 0.9).tolist() == [True, False]


def test_boxes_of_no_area_overlap_nothing():
    a = torch.tensor([[0.0, 0.0, 0.0, 5.0, 0.3], [0.0, 0.0, 4.0, 4.0, 0.0]])
    assert box_iou_rotated(a, a).tolist() == [[0, 0], [0, 1]]
    point = torch.zeros(1, 8)
    assert box_iou_quadri(point, point).tolist() == [[0]]


def test_from_above():
    a, b = bev(10), bev(9, seed=1)
    torch.testing.assert_close(boxes_overlap_bev(a, b), whole.boxes_overlap_bev(a, b))


@pytest.mark.parametrize("offset", [0, 1])
def test_straight_boxes(offset):
    a = torch.tensor([[0.0, 0.0, 3.0, 3.0], [5.0, 5.0, 5.0, 5.0]])
    b = torch.tensor([[2.0, 2.0, 4.0, 5.0], [5.0, 5.0, 5.0, 5.0]])
    got = bbox_overlaps(a, b, offset=offset)
    first = (1 + offset) ** 2
    union = (3 + offset) ** 2 + (2 + offset) * (3 + offset) - first
    assert got[0, 0] == pytest.approx(first / union)
    assert got[1, 1].isnan() if offset == 0 else got[1, 1] == 1
    torch.testing.assert_close(
        bbox_overlaps(a, b, aligned=True, offset=offset), got.diagonal(), equal_nan=True
    )


CASES = {
    "bbox_overlaps": (bbox_overlaps, lambda n: torch.rand(n, 4).double().cumsum(1)),
    "box_iou_rotated": (box_iou_rotated, rotated),
    "box_iou_quadri": (box_iou_quadri, quadri),
    "boxes_overlap_bev": (boxes_overlap_bev, bev),
}
every = pytest.mark.parametrize(("op", "boxes"), CASES.values(), ids=CASES)


@every
@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("m", [0, 1, 3])
def test_few_boxes(op, boxes, n, m):
    got = op(boxes(n), boxes(m))
    assert got.shape == (n, m)
    assert got.isfinite().all()


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(op, boxes, dtype):
    a, b = boxes(8).to(dtype), boxes(8).flip(0).to(dtype)
    assert torch.equal(op(a, b), op(a.float(), b.float()).to(dtype))


@every
def test_strides_do_not_matter_and_no_gradient_flows(op, boxes):
    a = boxes(8)
    strided = torch.stack((a, a), 2)[..., 0].requires_grad_()
    got = op(strided, a.T.contiguous().T)
    assert torch.equal(got, op(a, a))
    assert not got.requires_grad


@kinds
def test_work_in_parts(op, boxes, reference, monkeypatch):
    a, b = boxes(20), boxes(15, seed=1)
    want = op(a, b)
    monkeypatch.setattr(_polygons, "_COMPARISONS", 40)
    monkeypatch.setattr(_polygons, "_POLYGONS", 3)
    torch.testing.assert_close(op(a, b), want)


@kinds
def test_nan_stays_with_its_box(op, boxes, reference):
    a = boxes(4)
    a[1, 0] = torch.nan
    got, want = op(a, a), op(boxes(4), boxes(4))
    rest = [0, 2, 3]
    assert torch.equal(got[rest][:, rest], want[rest][:, rest])


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("n", [0, 5])
def test_opcheck(n, aligned):
    for dtype in (torch.float64, torch.float16):
        a = CASES["bbox_overlaps"][1](n).to(dtype).requires_grad_()
        opcheck(box_iou.bbox_overlaps_op, (a, a, "iou", aligned, 0))
        for op, boxes in (
            (box_iou.box_iou_rotated_op, rotated),
            (box_iou.box_iou_quadri_op, quadri),
        ):
            a = boxes(n).to(dtype).requires_grad_()
            opcheck(op, (a, a, "iof", aligned))
        opcheck(box_iou.boxes_overlap_bev_op, (bev(n).to(dtype), bev(3).to(dtype)))


BOXES = rotated(3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: box_iou_rotated(BOXES.numpy(), BOXES),
            TypeError,
            "box_iou_rotated: bboxes1: expected a torch.Tensor, got ndarray",
        ),
        (
            lambda: box_iou_rotated(BOXES, BOXES.float()),
            TypeError,
            "bboxes2: expected torch.float64, got torch.float32",
        ),
        (
            lambda: box_iou_rotated(BOXES, BOXES[:, :4]),
            ValueError,
            r"bboxes2: expected shape \(M, 5\), got \(3, 4\)",
        ),
        (
            lambda: box_iou_rotated(BOXES, BOXES[:2], aligned=True),
            ValueError,
            r"bboxes2: expected shape \(3, 5\)",
        ),
        (
            lambda: box_iou_quadri(BOXES, BOXES),
            ValueError,
            r"box_iou_quadri: bboxes1: expected shape \(N, 8\)",
        ),
        (
            lambda: box_iou_rotated(BOXES, BOXES, "giou"),
            ValueError,
            r"mode: expected one of \('iou', 'iof'\), got 'giou'",
        ),
        (
            lambda: box_iou_rotated(BOXES, BOXES.to("meta")),
            ValueError,
            "bboxes2: expected device cpu as bboxes1, got meta",
        ),
        (
            lambda: bbox_overlaps(BOXES[:, :4], BOXES[:, :4], offset=2),
            ValueError,
            "bbox_overlaps: offset: expected 0 or 1, got 2",
        ),
        (
            lambda: boxes_overlap_bev(BOXES, BOXES),
            ValueError,
            r"boxes_overlap_bev: boxes_a: expected shape \(N, 7\)",
        ),
    ],
)
def test_bad_arguments(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_the_reference_itself():
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]])
    assert plain.intersection(square, square + 1) == 1
    assert plain.intersection(square, square) == 4
