"""carafe against a plain float64 reference."""

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

from mx_autopatch.ops import carafe
from mx_autopatch.verify.references import convolution as plain

module = importlib.import_module("mx_autopatch.ops.carafe")


OPTIONS = [(3, 1, 2), (5, 2, 1), (1, 4, 3), (5, 4, 2)]


def arguments(kernel, groups, scale):
    return random(2, 4, 3, 5), random(2, groups * kernel**2, 3 * scale, 5 * scale, seed=1)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("elements", [1 << 20, 1])
def test_agrees_with_the_reference(options, elements, monkeypatch):
    monkeypatch.setattr(module, "_ELEMENTS", elements)
    assert_agree(
        lambda *t: carafe(*t, *options),
        lambda *t: plain.carafe(*t, *options),
        arguments(*options),
        (0, 1),
    )


def test_gradcheck():
    tensors = [t[:1, :, :4, :6].clone().requires_grad_() for t in arguments(3, 2, 2)]
    tensors[0] = tensors[0].detach()[:, :, :2, :3].clone().requires_grad_()
    torch.autograd.gradcheck(lambda *t: carafe(*t, 3, 2, 2), tensors)


def test_only_what_is_needed_gets_a_gradient():
    f = lambda *t: carafe(*t, 3, 2, 2)  # noqa: E731
    full = with_gradients(f, arguments(3, 2, 2), (0, 1))
    for i in (0, 1):
        torch.testing.assert_close(with_gradients(f, arguments(3, 2, 2), (i,))[1], full[1 + i])


def test_half_precision_is_rounded_once():
    assert_rounded_once(lambda *t: carafe(*t, 3, 2, 2), arguments(3, 2, 2), (0, 1))


def test_strides_do_not_matter():
    assert_strides_do_not_matter(lambda *t: carafe(*t, 3, 2, 2), arguments(3, 2, 2), (0, 1))
    assert_arguments_are_left_alone(lambda *t: carafe(*t, 3, 2, 2), arguments(3, 2, 2))


def test_beyond_the_border_nothing_is_read():
    masks = torch.zeros(1, 9, 1, 1)
    masks[0, 4] = 2.0
    output = carafe(torch.full((1, 3, 1, 1), 5.0), masks.fill_(2.0), 3, 1, 1)
    assert output.eq(10).all()


@pytest.mark.parametrize("shape", [(0, 4, 3, 5), (2, 0, 3, 5), (2, 4, 0, 5)])
def test_empty(shape):
    tensors = torch.zeros(shape), torch.zeros(shape[0], 9, 2 * shape[2], 2 * shape[3])
    output, *grads = with_gradients(lambda *t: carafe(*t, 3, 1, 2), tensors, (0, 1))
    assert output.shape == (shape[0], shape[1], 2 * shape[2], 2 * shape[3])
    assert all(grad.eq(0).all() for grad in grads)


def test_opcheck():
    tensors = [t.float().requires_grad_() for t in arguments(3, 2, 2)]
    opcheck(module.carafe_op, (*tensors, 3, 2, 2))
    features, masks = (t.detach() for t in tensors)
    grad = module.carafe_op(features, masks, 3, 2, 2)
    for needed in ([True, True], [False, True]):
        opcheck(module.carafe_backward_op, (grad, features, masks, 3, 2, 2, needed))


F, M = arguments(3, 2, 2)


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((F[0], M, 3, 2, 2), ValueError, r"features: expected shape \(B, C, H, W\)"),
        ((F, M[..., :1], 3, 2, 2), ValueError, r"masks: expected shape \(2, 18, 6, 10\)"),
        ((F, M.float(), 3, 2, 2), TypeError, "masks: expected torch.float64"),
        ((F, M, 2, 2, 2), ValueError, "kernel_size: expected an odd number, got 2"),
        ((F, M, 3, 3, 2), ValueError, "group_size: expected a divisor of the 4 channels"),
        ((F, M, 3, 2, 0), ValueError, "scale_factor: expected at least 1, got 0"),
    ],
)
def test_bad_arguments(args, error, words):
    with pytest.raises(error, match=f"carafe: {words}"):
        carafe(*args)
