"""softmax_focal_loss against its formula, differentiated by autograd."""

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

from mx_autopatch.ops import softmax_focal_loss
from mx_autopatch.verify.references import activations as plain

module = importlib.import_module("mx_autopatch.ops.softmax_focal_loss")

INPUT, WEIGHT = random(9, 4) * 3, random(4, seed=1).exp()
TARGET = torch.tensor([0, 1, 2, 3, -1, 4, 0, 2, 1])


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.0, 0.5), (0.5, 0.9), (1.0, 1.0)])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["bare", "weighted"])
def test_agrees_with_the_reference(gamma, alpha, weight):
    assert_agree(
        lambda t: softmax_focal_loss(t, TARGET, gamma, alpha, weight),
        lambda t: plain.softmax_focal_loss(t, TARGET, gamma, alpha, weight),
        [INPUT],
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradcheck(gamma):
    torch.autograd.gradcheck(
        lambda t: softmax_focal_loss(t, TARGET, gamma, 0.25, WEIGHT), INPUT.clone().requires_grad_()
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_huge_logits(gamma):
    input = torch.tensor([[1e4, -1e4], [-1e4, 1e4], [0.0, float("inf")]], requires_grad=True)
    target = torch.tensor([0, 0, -1])
    loss = softmax_focal_loss(input, target, gamma, 0.25)
    loss[:2].sum().backward()
    # A right and certain answer costs nothing, a wrong one its distance.
    assert loss.tolist() == [0, 5000, 0]
    expected = torch.tensor([[0.0, 0.0], [-0.25, 0.25], [0.0, 0.0]])
    assert torch.equal(input.grad, expected)


def test_half_precision_is_rounded_once():
    assert_rounded_once(lambda t, w: softmax_focal_loss(t, TARGET, weight=w), (INPUT, WEIGHT), (0,))


def test_strides_do_not_matter():
    f = lambda t, w: softmax_focal_loss(t, TARGET, weight=w)  # noqa: E731
    assert_strides_do_not_matter(f, (INPUT, WEIGHT))
    assert_arguments_are_left_alone(f, (INPUT, WEIGHT))


@pytest.mark.parametrize("shape", [(0, 4), (9, 0)])
def test_empty(shape):
    target = TARGET[: shape[0]]
    loss, grad = with_gradients(lambda t: softmax_focal_loss(t, target), [torch.zeros(shape)], [0])
    assert loss.shape == shape[:1]
    assert loss.eq(0).all()
    assert grad.shape == shape


@pytest.mark.parametrize("weighted", [False, True])
def test_opcheck(weighted):
    weight = WEIGHT.float() if weighted else None
    args = TARGET, weight, 2.0, 0.25
    opcheck(module.softmax_focal_loss_op, (INPUT.float().requires_grad_(), *args))
    opcheck(module.softmax_focal_loss_backward_op, (INPUT.float(), *args))


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((INPUT[0], TARGET), ValueError, r"input: expected shape \(N, C\)"),
        ((INPUT, TARGET[1:]), ValueError, r"target: expected shape \(9,\), got \(8,\)"),
        ((INPUT, TARGET.int()), TypeError, "target: expected torch.int64"),
        ((INPUT, TARGET, 2, 0.25, WEIGHT[1:]), ValueError, r"weight: expected shape \(4,\)"),
    ],
)
def test_bad_arguments(args, error, words):
    with pytest.raises(error, match=f"softmax_focal_loss: {words}"):
        softmax_focal_loss(*args)
