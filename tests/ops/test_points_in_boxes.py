"""Points in 3D boxes, and pooling of them, against plain loops."""

from __future__ import annotations

import importlib

import pytest
import torch
from operator_checks import assert_rounded_once, random
from torch.library import opcheck

from mx_autopatch.ops.points_in_boxes import points_in_boxes, points_in_boxes_part
from mx_autopatch.ops.roiaware_pool3d import (
    roiaware_pool3d,
    roiaware_pool3d_backward,
    roiaware_pool3d_backward_op,
    roiaware_pool3d_op,
)
from mx_autopatch.ops.roipoint_pool3d import roipoint_pool3d, roipoint_pool3d_op
from mx_autopatch.verify.references import points_in as plain

# The package exports the function under the module's name.
module = importlib.import_module("mx_autopatch.ops.points_in_boxes")


def scene(batch=2, points=60, boxes=5, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    p = torch.rand(batch, points, 3, generator=g, dtype=torch.float64) * 10 - 5
    b = torch.rand(batch, boxes, 7, generator=g, dtype=torch.float64)
    b = b * torch.tensor([8, 8, 6, 5, 4, 5, 7.0]) - torch.tensor([4, 4, 5, -1, -1, -1, 3.5])
    return p.to(dtype), b.to(dtype)


def test_agrees_with_the_compiled_operator(golden):
    data, _ = golden("points_in_boxes_cpu")
    assert torch.equal(points_in_boxes(data["in_points"], data["in_boxes"]), data["out_0"])


@pytest.mark.parametrize("part", [1 << 20, 7])
def test_agrees_with_the_reference(part, monkeypatch):
    monkeypatch.setattr(module, "_PAIRS", part)
    points, boxes = scene()
    want = plain.points_in_boxes(points, boxes)
    assert want.any()
    got = points_in_boxes(points, boxes)
    assert got.dtype == torch.int32
    assert torch.equal(got, want)
    first = points_in_boxes_part(points, boxes)
    assert first.dtype == torch.int32
    assert torch.equal(first, plain.points_in_boxes_part(points, boxes))


def test_top_and_bottom_belong_to_a_box():
    box = torch.tensor([[[0.0, 0, 0, 2, 2, 2, 0]]])
    points = torch.tensor(
        [[[0.0, 0, 0], [0, 0, 2], [1, 0, 1], [0, -1, 1], [0, 0, 2.1], [0.9, 0.9, 1]]]
    )
    assert points_in_boxes(points, box)[0, :, 0].tolist() == [1, 1, 0, 0, 0, 1]


@pytest.mark.parametrize(("points", "boxes"), [(0, 3), (4, 0), (0, 0), (1, 1)])
def test_few(points, boxes):
    p, b = scene(1, points, boxes)
    assert points_in_boxes(p, b).shape == (1, points, boxes)
    assert points_in_boxes_part(p, b).shape == (1, points)
    if not boxes:
        assert points_in_boxes_part(p, b).eq(-1).all()
    pooled, argmax, lists = roiaware_pool3d(b[0], p[0], torch.ones(points, 2), 2, 4)
    assert pooled.shape == argmax.shape == (boxes, 2, 2, 2, 2)
    assert lists.shape == (boxes, 2, 2, 2, 4)
    sampled, empty = roipoint_pool3d(p, p, b, 4)
    assert sampled.shape == (1, boxes, 4, 6)
    assert empty.shape == (1, boxes)


@pytest.mark.parametrize("mode", ["max", "avg"])
@pytest.mark.parametrize(("size", "length"), [((2, 3, 1), 20), ((1, 1, 1), 4), ((4, 4, 4), 1)])
def test_roiaware_pooling(mode, size, length):
    points, boxes = scene(1, 120, 4)
    features = random(120, 3).requires_grad_()
    got, argmax, lists = roiaware_pool3d(boxes[0], points[0], features, size, length, mode)
    want, winners, own = plain.roiaware_pool3d(boxes[0], points[0], features, size, length, mode)
    want = want + features.sum() * 0  # no box may have a point
    torch.testing.assert_close(got, want)
    assert torch.equal(argmax, winners)
    assert torch.equal(lists, own)
    cotangent = random(*got.shape, seed=1)
    torch.testing.assert_close(
        *(torch.autograd.grad(t, features, cotangent)[0] for t in (got, want))
    )
    if mode == "max":
        chosen = features.gather(0, argmax.clamp(min=0).flatten(0, 3).long()).view(got.shape)
        assert torch.equal(torch.where(argmax < 0, 0.0, chosen), got)
    else:
        assert argmax.eq(-1).all()
    assert not argmax.requires_grad
    assert not lists.requires_grad


@pytest.mark.parametrize("mode", ["max", "avg"])
def test_roiaware_gradients_and_half(mode):
    points, boxes = scene(1, 20, 2)

    def f(t):
        return roiaware_pool3d(boxes[0], points[0], t, 2, 5, mode)[0]

    torch.autograd.gradcheck(f, random(20, 2).requires_grad_())
    assert_rounded_once(f, (random(20, 2),))


def test_roiaware_ties_and_nan():
    box = torch.tensor([[0.0, 0, 0, 2, 2, 2, 0]])
    points = torch.tensor([[0.1, 0, 1], [0.2, 0, 1], [0.3, 0, 1]])
    features = torch.tensor([[1.0, torch.nan], [2.0, 0.0], [2.0, torch.nan]])
    pooled, argmax, _ = roiaware_pool3d(box, points, features, 1)
    assert pooled.flatten().tolist() == [2, 0]
    assert argmax.flatten().tolist() == [1, 1]


@pytest.mark.parametrize("samples", [1, 5, 100])
def test_roipoint_pooling(samples):
    points, boxes = scene(2, 60, 5)
    features = random(2, 60, 3)
    got, empty = roipoint_pool3d(points, features, boxes, samples)
    want, none = plain.roipoint_pool3d(points, features, boxes, samples)
    assert torch.equal(got, want)
    assert torch.equal(empty, none)
    assert empty.dtype == torch.int32


def test_half_precision_strides_and_gradients():
    points, boxes = (t.half() for t in scene())
    want = points_in_boxes(points.float(), boxes.float())
    strided = torch.stack((points, points), 3)[..., 0].requires_grad_()
    got = points_in_boxes(strided, boxes)
    assert torch.equal(got, want)
    assert torch.equal(
        points_in_boxes_part(strided, boxes), points_in_boxes_part(points.float(), boxes.float())
    )
    sampled, _ = roipoint_pool3d(strided, strided, boxes, 3)
    assert not sampled.requires_grad


@pytest.mark.parametrize(("points", "boxes"), [(0, 2), (9, 3)])
def test_opcheck(points, boxes):
    p, b = scene(2, points, boxes)
    opcheck(module.points_in_boxes_op, (p.requires_grad_(), b))
    opcheck(module.points_in_boxes_part_op, (p, b))
    opcheck(roipoint_pool3d_op, (p, p.detach(), b, 4))
    for mode in ("max", "avg"):
        features = random(points, 2)
        opcheck(
            roiaware_pool3d_op, (b[0], p[0].detach(), features.requires_grad_(), [2, 1, 2], 4, mode)
        )
        grad, argmax, lists = (
            t.detach() for t in roiaware_pool3d(b[0], p[0].detach(), features, (2, 1, 2), 4, mode)
        )
        opcheck(roiaware_pool3d_backward_op, (grad, argmax, lists, points, mode))


P, B = scene(1, 4, 2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: points_in_boxes(P[0], B),
            ValueError,
            r"points_in_boxes: points: expected shape \(B, M, 3\), got \(4, 3\)",
        ),
        (
            lambda: points_in_boxes(P, B.float()),
            TypeError,
            "points_in_boxes: boxes: expected torch.float64, got torch.float32",
        ),
        (
            lambda: points_in_boxes_part(P, B[..., :6]),
            ValueError,
            r"points_in_boxes_part: boxes: expected shape \(1, T, 7\)",
        ),
        (
            lambda: roiaware_pool3d(B[0], P[0], P[0], 0),
            ValueError,
            "roiaware_pool3d: out_size: expected one or three sizes >= 1, got 0",
        ),
        (
            lambda: roiaware_pool3d(B[0], P[0], P[0], 2, mode="sum"),
            ValueError,
            "roiaware_pool3d: mode: expected one of",
        ),
        (
            lambda: roiaware_pool3d(B[0], P[0], P[0, :2], 2),
            ValueError,
            r"pts_feature: expected shape \(4, C\)",
        ),
        (
            lambda: roiaware_pool3d(B[0], P[0], P[0], 2, 0),
            ValueError,
            "max_pts_per_voxel: expected >= 1, got 0",
        ),
        (
            lambda: roiaware_pool3d_backward(P, P, P, 3, "max"),
            ValueError,
            "roiaware_pool3d_backward: grad: expected shape",
        ),
        (
            lambda: roipoint_pool3d(P, P, B, 0),
            ValueError,
            "roipoint_pool3d: num_sampled_points: expected >= 1, got 0",
        ),
        (
            lambda: roipoint_pool3d(P, P.to("meta"), B),
            ValueError,
            "roipoint_pool3d: point_features: expected device cpu",
        ),
    ],
)
def test_bad_arguments(call, error, words):
    with pytest.raises(error, match=words):
        call()
