"""Soft, matching, rotated, quadrilateral and 3D suppression, against plain loops."""

from __future__ import annotations

import importlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_box_iou import bev, quadri, rotated
from torch.library import opcheck

from mx_autopatch.ops import _box_pairs, box_iou
from mx_autopatch.ops.nms_match import nms_match, nms_match_op
from mx_autopatch.ops.nms_rotated import nms3d, nms3d_normal, nms_quadri, nms_rotated
from mx_autopatch.ops.soft_nms import soft_nms, soft_nms_op
from mx_autopatch.verify.references import boxes as plain

# The package exports the function under the module's name.
module = importlib.import_module("mx_autopatch.ops.nms_rotated")


def random_boxes(n, seed=0, extent=60.0):
    g = torch.Generator().manual_seed(seed)
    corner, length = torch.rand(n, 2, generator=g) * extent, torch.rand(n, 2, generator=g) * 30
    return torch.cat((corner, corner + length), 1), torch.rand(n, generator=g)


@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms_agrees_with_the_compiled_operator(golden, method):
    data, kwargs = golden(f"soft_nms_{method}")
    dets, indices = soft_nms(data["in_boxes"], data["in_scores"], **kwargs)
    assert torch.equal(indices, data["out_1"])
    torch.testing.assert_close(dets, data["out_0"], rtol=1e-6, atol=1e-6)


coordinate = st.sampled_from([0.0, 1.0, 2.0, 2.5, 3.0, 4.0])
candidate = st.tuples(*[coordinate] * 4, st.sampled_from([0.1, 0.5, 0.9]))


@settings(deadline=None, max_examples=150)
@given(
    st.lists(candidate, max_size=25),
    st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0]),
    st.sampled_from(["naive", "linear", "gaussian"]),
    st.sampled_from([0, 1]),
)
def test_soft_nms_agrees_with_the_reference(candidates, threshold, method, offset):
    table = torch.tensor(candidates, dtype=torch.float64).reshape(-1, 5)
    boxes = torch.cat((table[:, :2], table[:, :2] + table[:, 2:4] / 2), 1)
    scores = table[:, 4] + torch.arange(len(table)) * 1e-3  # ties: of rounding only
    options = threshold, 0.5, 0.05, method, offset
    want = plain.soft_nms(boxes, scores, *options)
    for got, expected in zip(soft_nms(boxes, scores, *options), want):
        torch.testing.assert_close(got, expected)


def test_soft_nms_of_equal_scores_and_of_nan():
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]]).repeat(4, 1)
    indices = soft_nms(boxes, torch.full((4,), 0.5), method="naive")[1]
    assert indices.tolist() == [0]
    indices = soft_nms(boxes, torch.full((4,), 0.5), 1.5)[1]
    assert indices.tolist() == [0, 1, 2, 3]
    scores = torch.tensor([0.5, torch.nan, 0.4, torch.nan])
    soft_nms(boxes, scores)  # comes to an end


def test_the_first_box_stays_whatever_its_score():
    boxes, _ = random_boxes(5, extent=1e4)
    dets, indices = soft_nms(boxes, torch.tensor([1e-5, 3e-5, 2e-5, 0, 0]), min_score=0.1)
    assert indices.tolist() == [1]
    assert dets[0, 4] == 3e-5


def test_nms_match_agrees_with_the_compiled_operator(golden):
    data, kwargs = golden("nms_match")
    members, sizes = nms_match(data["in_dets"], **kwargs)
    want = [data[f"out_{i}"].tolist() for i in range(len(sizes))]
    assert [g.tolist() for g in members.split(sizes.tolist())] == want
    assert f"out_{len(sizes)}" not in data


@pytest.mark.parametrize("threshold", [-0.5, 0.0, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("part", [1 << 20, 500])
def test_nms_match_agrees_with_the_reference(threshold, part, monkeypatch):
    monkeypatch.setattr(_box_pairs, "_PAIRS", part)
    boxes, scores = random_boxes(120)
    scores = (scores * 10).round() / 10  # ties
    iou = box_iou.bbox_overlaps(boxes, boxes)
    groups = plain.greedy(scores.tolist(), lambda i, j: iou[i, j], lambda u: u >= threshold)
    members, sizes = nms_match(torch.cat((boxes, scores[:, None]), 1), threshold)
    assert [g.tolist() for g in members.split(sizes.tolist())] == groups


@pytest.mark.parametrize("op", [nms_rotated, nms_quadri])
def test_agrees_with_the_compiled_operator(golden, op):
    data, kwargs = golden(op.__name__)
    assert torch.equal(op(data["in_dets"], data["in_scores"], **kwargs), data["out_1"])


def bev_iou(boxes):
    inter = box_iou.boxes_overlap_bev(boxes, boxes)
    area = boxes[:, 3] * boxes[:, 4]
    return inter / (area[:, None] + area - inter)


def straight_iou(boxes):
    return bev_iou(torch.cat((boxes[:, :6], boxes[:, 6:] * 0), 1))


KINDS = {
    "nms_rotated": (nms_rotated, rotated, lambda b: box_iou.box_iou_rotated(b, b), True),
    "nms_quadri": (nms_quadri, quadri, lambda b: box_iou.box_iou_quadri(b, b), True),
    "nms3d": (nms3d, bev, bev_iou, False),
    "nms3d_normal": (nms3d_normal, bev, straight_iou, False),
}
kinds = pytest.mark.parametrize(("op", "boxes", "iou", "or_equal"), KINDS.values(), ids=KINDS)


@kinds
@pytest.mark.parametrize("threshold", [-0.5, 0.0, 0.1, 0.4, 1.0])
def test_agrees_with_the_reference(op, boxes, iou, or_equal, threshold):
    dets = boxes(90)
    scores = (torch.rand(90, generator=torch.Generator().manual_seed(2)) * 20).round() / 20  # ties
    overlaps = iou(dets).double().fill_diagonal_(1)
    drops = (lambda u: u >= threshold) if or_equal else (lambda u: u > threshold)
    got = op(dets, scores, threshold)
    assert got.dtype == torch.int64
    groups = plain.greedy(scores.tolist(), lambda i, j: overlaps[i, j], drops)
    assert got.tolist() == [group[0] for group in groups]


def test_on_the_threshold():
    dets = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0], [0.5, 0.0, 1.0, 2.0, 0.0]])  # IoU 0.5
    scores = torch.tensor([1.0, 0.5])
    assert nms_rotated(dets, scores, 0.5).tolist() == [0]
    boxes = torch.tensor([[0.0, 0, 0, 2, 2, 1, 0], [0.5, 0, 0, 1, 2, 1, 0]])
    assert nms3d(boxes, scores, 0.5).tolist() == [0, 1]


@kinds
@pytest.mark.parametrize("n", [0, 1])
def test_few_boxes(op, boxes, iou, or_equal, n):
    assert op(boxes(n), torch.ones(n), 0.5).tolist() == [0] * n


@kinds
def test_half_precision_strides_and_gradients(op, boxes, iou, or_equal):
    dets, scores = boxes(40).half(), torch.rand(40)
    want = op(dets.float(), scores, 0.3)
    assert torch.equal(op(dets, scores, 0.3), want)
    strided = torch.stack((dets, dets), 2)[..., 0].float().requires_grad_()
    assert torch.equal(op(strided, scores.repeat_interleave(2)[::2], 0.3), want)


@pytest.mark.parametrize("n", [0, 6])
def test_opcheck(n):
    boxes, scores = random_boxes(n, extent=5)
    opcheck(soft_nms_op, (boxes.requires_grad_(), scores, 0.3, 0.5, 1e-3, "gaussian", 0))
    opcheck(nms_match_op, (torch.cat((boxes.detach(), scores[:, None]), 1), 0.3))
    for name, (_, make, _, _) in KINDS.items():
        opcheck(getattr(module, f"{name}_op"), (make(n).requires_grad_(), scores, 0.3))


BOXES, SCORES = random_boxes(3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: soft_nms(BOXES.long(), SCORES),
            TypeError,
            "soft_nms: boxes: expected a floating dtype, got torch.int64",
        ),
        (
            lambda: soft_nms(BOXES, SCORES.double()),
            TypeError,
            "soft_nms: scores: expected torch.float32",
        ),
        (
            lambda: soft_nms(BOXES, SCORES, method="cosine"),
            ValueError,
            "soft_nms: method: expected one of .*, got 'cosine'",
        ),
        (
            lambda: soft_nms(BOXES, SCORES, offset=3),
            ValueError,
            "soft_nms: offset: expected 0 or 1, got 3",
        ),
        (
            lambda: soft_nms(BOXES, SCORES, sigma=0.0),
            ValueError,
            "soft_nms: sigma: expected a positive number, got 0.0",
        ),
        (
            lambda: nms_match(BOXES, 0.5),
            ValueError,
            r"nms_match: dets: expected shape \(N, 5\), got \(3, 4\)",
        ),
        (
            lambda: nms_rotated(BOXES, SCORES, 0.5),
            ValueError,
            r"nms_rotated: dets: expected shape \(N, 5\)",
        ),
        (
            lambda: nms_quadri(quadri(2), SCORES, 0.5),
            ValueError,
            r"nms_quadri: scores: expected shape \(2,\), got \(3,\)",
        ),
        (
            lambda: nms3d(bev(3), SCORES.to("meta"), 0.5),
            ValueError,
            "nms3d: scores: expected device cpu as boxes, got meta",
        ),
        (
            lambda: nms3d_normal([1], SCORES, 0.5),
            TypeError,
            "nms3d_normal: boxes: expected a torch.Tensor, got list",
        ),
    ],
)
def test_bad_arguments(call, error, words):
    with pytest.raises(error, match=words):
        call()
