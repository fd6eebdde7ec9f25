"""correlation against its definition, in float64."""

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

from mx_autopatch.ops import correlation
from mx_autopatch.verify.references import convolution as plain

module = importlib.import_module("mx_autopatch.ops.correlation")


OPTIONS = {
    "single pixels": ((1, 1), 2, (1, 1), (0, 0), (1, 1), (1, 1)),
    "mmcv's default": ((1, 1), 1, (1, 1), (1, 1), (1, 1), (1, 1)),
    "windows": ((3, 2), 1, (2, 3), (1, 2), (1, 2), (2, 1)),
    "no displacement": ((2, 2), 0, (1, 2), (0, 1), (2, 1), (1, 1)),
}


def tensors():
    return random(2, 3, 5, 6), random(2, 3, 5, 6, seed=1)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_agrees_with_the_reference(options):
    assert_agree(
        lambda *t: correlation(*t, *options),
        lambda *t: plain.correlation(*t, *options),
        tensors(),
        (0, 1),
    )


def test_one_number_is_both_axes():
    a = correlation(*tensors(), 3, 1, 2, 1, 2, 2)
    b = correlation(*tensors(), (3, 3), 1, (2, 2), (1, 1), (2, 2), (2, 2))
    assert torch.equal(a, b)


def windows(*t):
    return correlation(*t, *OPTIONS["windows"])


def test_gradcheck():
    torch.autograd.gradcheck(windows, [t[:1].clone().requires_grad_() for t in tensors()])


def test_half_precision_is_rounded_once():
    assert_rounded_once(windows, tensors(), (0, 1))


def test_strides_do_not_matter():
    assert_strides_do_not_matter(windows, tensors(), (0, 1))
    assert_arguments_are_left_alone(windows, tensors())


@pytest.mark.parametrize("shape", [(0, 3, 5, 6), (2, 0, 5, 6)])
def test_empty(shape):
    output, *grads = with_gradients(windows, [torch.zeros(shape)] * 2, (0, 1))
    assert output.shape == (shape[0], *windows(*tensors()).shape[1:])
    assert output.eq(0).all()
    assert [grad.shape for grad in grads] == [shape] * 2


def test_opcheck():
    a, b = (t.float().requires_grad_() for t in tensors())
    options = [[3, 2], [3, 3], [2, 3], [1, 2], [1, 2], [2, 1]]
    opcheck(module.correlation_op, (a, b, *options))
    a, b = a.detach(), b.detach()
    grad = module.correlation_op(a, b, *options)
    opcheck(module.correlation_backward_op, (grad, a, b, *options))


A = random(1, 2, 5, 6)


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((A[0], A), ValueError, r"input1: expected shape \(B, C, H, W\)"),
        ((A, A[..., 1:]), ValueError, r"input2: expected shape \(1, 2, 5, 6\)"),
        ((A, A.float()), TypeError, "input2: expected torch.float64"),
        ((A, A, 9), ValueError, r"input1: expected a size that the kernel \(9, 9\) fits into"),
        ((A, A, 1, -1), ValueError, "max_displacement: expected at least 0"),
        ((A, A, 1, 1, 0), ValueError, "stride: expected one or two sizes >= 1, got 0"),
    ],
)
def test_bad_arguments(args, error, words):
    with pytest.raises(error, match=f"correlation: {words}"):
        correlation(*args)


def test_an_even_number_of_displacements():
    with pytest.raises(ValueError, match="patch_size: expected odd sizes, got 2"):
        module.correlation_forward(A, A, 1, 2, 1, 0, 1, 1)
