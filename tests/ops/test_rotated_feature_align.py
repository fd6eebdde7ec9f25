"""rotated_feature_align against a plain float64 reference."""

from __future__ import annotations

import importlib

import pytest
import torch
from operator_checks import (
    assert_agree,
    assert_arguments_are_left_alone,
    assert_rounded_once,
    assert_strides_do_not_matter,
    random,
    with_gradients,
)
from torch.library import opcheck

from mx_autopatch.ops import rotated_feature_align
from mx_autopatch.verify.references import turned_pooling as plain

module = importlib.import_module("mx_autopatch.ops.rotated_feature_align")

SCALE = 0.5


FEATURES = random(2, 3, 4, 5)
BOXES = random(2, 4, 5, 5, seed=1) * 4 + 4

points = pytest.mark.parametrize("points", [1, 5])


def aligned(features, boxes, points=5):
    return rotated_feature_align(features, boxes, SCALE, points)


@points
def test_agrees_with_the_reference(points):
    assert_agree(
        lambda t: aligned(t, BOXES, points),
        lambda t: plain.rotated_feature_align(t, BOXES, SCALE, points),
        [FEATURES],
    )


@points
def test_gradcheck(points):
    features = FEATURES[:1].clone().requires_grad_()
    torch.autograd.gradcheck(lambda t: aligned(t, BOXES[:1], points), features)


@points
def test_half_precision_is_rounded_once(points):
    assert_rounded_once(lambda t: aligned(t, BOXES.float(), points), [FEATURES])


def test_strides_do_not_matter():
    assert_strides_do_not_matter(aligned, (FEATURES, BOXES))
    assert_arguments_are_left_alone(aligned, (FEATURES, BOXES))


@pytest.mark.parametrize("far", [1e4, float("nan")])
def test_boxes_far_outside_add_nothing(far):
    assert torch.equal(aligned(FEATURES, torch.full_like(BOXES, far), 1), FEATURES)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5)])
def test_empty(shape):
    boxes = BOXES[: shape[0]]
    output, grad = with_gradients(lambda t: aligned(t, boxes), [torch.zeros(shape)], [0])
    assert output.shape == grad.shape == shape


@points
def test_opcheck(points):
    features, boxes = FEATURES.float().requires_grad_(), BOXES.float()
    opcheck(module.rotated_feature_align_op, (features, boxes, SCALE, points))
    grad = FEATURES.float()
    opcheck(module.rotated_feature_align_backward_op, (grad, boxes, SCALE, points))


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((FEATURES[0], BOXES), ValueError, r"features: expected shape \(B, C, H, W\)"),
        ((FEATURES, BOXES[..., :4]), ValueError, r"boxes: expected shape \(2, 4, 5, 5\)"),
        ((FEATURES, BOXES.long()), TypeError, "boxes: expected a floating dtype"),
        ((FEATURES, BOXES, 4), ValueError, "points: expected 1 or 5, got 4"),
    ],
)
def test_bad_arguments(args, error, words):
    with pytest.raises(error, match=f"rotated_feature_align: {words}"):
        aligned(*args)
