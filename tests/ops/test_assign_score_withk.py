"""assign_score_withk against its formula, in float64."""

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

from mx_autopatch.ops import assign_score_withk
from mx_autopatch.verify.references import attention as plain

module = importlib.import_module("mx_autopatch.ops.assign_score_withk")

INDEX = torch.randint(0, 5, (2, 4, 3), generator=torch.Generator().manual_seed(0))
INDEX[0, 1, 2], INDEX[1, 2, 1] = 5, -1
TENSORS = random(2, 4, 3, 2), random(2, 5, 2, 6, seed=1), random(2, 5, 2, 6, seed=2)


def assigned(*tensors):
    return assign_score_withk(*tensors, INDEX)


@pytest.mark.parametrize("elements", [1 << 20, 1])
def test_agrees_with_the_reference(elements, monkeypatch):
    monkeypatch.setattr(module, "_ELEMENTS", elements)
    assert_agree(assigned, lambda *t: plain.assign_score_withk(*t, INDEX), TENSORS, range(3))


def test_gradcheck():
    torch.autograd.gradcheck(assigned, [t.clone().requires_grad_() for t in TENSORS])


def test_half_precision_is_rounded_once():
    assert_rounded_once(assigned, TENSORS, range(3))


def test_strides_do_not_matter():
    assert_strides_do_not_matter(assigned, TENSORS, range(3))
    assert_arguments_are_left_alone(assign_score_withk, (*TENSORS, INDEX))


@pytest.mark.parametrize("empty", ["neighbours", "points", "channels"])
def test_empty(empty):
    scores, points, centers = TENSORS
    index = INDEX
    if empty == "neighbours":
        scores, index = scores[:, :, :0], index[:, :, :0]
    elif empty == "points":
        points, centers = points[:, :0], centers[:, :0]
    else:
        points, centers = points[..., :0], centers[..., :0]
    output, *grads = with_gradients(
        lambda *t: assign_score_withk(*t, index), (scores, points, centers), range(3)
    )
    assert output.shape == (2, points.shape[3], 4, index.shape[2])
    assert all(t.eq(0).all() for t in (output, *grads))


def test_opcheck():
    tensors = [t.float().requires_grad_() for t in TENSORS]
    opcheck(module.assign_score_withk_op, (*tensors, INDEX))
    tensors = [t.detach() for t in tensors]
    grad = module.assign_score_withk_op(*tensors, INDEX)
    opcheck(module.assign_score_withk_backward_op, (grad, *tensors, INDEX))


S, P, C = TENSORS


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((S[0], P, C, INDEX), ValueError, r"scores: expected shape \(B, n, K, M\)"),
        ((S, P[:, :, :1], C, INDEX), ValueError, r"point_features: expected shape \(2, N, 2, O\)"),
        ((S, P, C[:, :4], INDEX), ValueError, r"center_features: expected shape \(2, 5, 2, 6\)"),
        ((S, P, C.float(), INDEX), TypeError, "center_features: expected torch.float64"),
        ((S, P, C, INDEX.int()), TypeError, "knn_idx: expected torch.int64"),
    ],
)
def test_bad_arguments(args, error, words):
    with pytest.raises(error, match=f"assign_score_withk: {words}"):
        assign_score_withk(*args)
