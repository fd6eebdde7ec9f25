"""tin_shift against its definition."""

from __future__ import annotations

import importlib

import pytest
import torch
from operator_checks import (
    assert_agree,
    assert_arguments_are_left_alone,
    assert_strides_do_not_matter,
    random,
    with_gradients,
)
from torch.library import opcheck

from mx_autopatch.ops import tin_shift
from mx_autopatch.verify.references import convolution as plain

module = importlib.import_module("mx_autopatch.ops.tin_shift")

INPUT = random(2, 4, 6, 5)
SHIFT = torch.tensor([[1, 0, -2], [9, -1, 3]])


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_agrees_with_the_reference(dtype):
    shift = SHIFT.to(dtype)
    assert_agree(
        lambda t: tin_shift(t, shift), lambda t: plain.tin_shift(t, shift), [INPUT], tolerance=0
    )


def test_gradients_of_any_order():
    torch.autograd.gradcheck(lambda t: tin_shift(t, SHIFT), INPUT.clone().requires_grad_())
    torch.autograd.gradgradcheck(lambda t: tin_shift(t, SHIFT), INPUT.clone().requires_grad_())


def test_the_gradient_goes_back():
    grad = module.tin_shift_backward(INPUT, SHIFT)
    assert torch.equal(grad, plain.tin_shift(INPUT, -SHIFT))


def test_half_precision_is_copied():
    output = tin_shift(INPUT.bfloat16(), SHIFT)
    assert torch.equal(output, plain.tin_shift(INPUT.bfloat16(), SHIFT))


def test_nothing_else_is_read():
    input = torch.full_like(INPUT, float("nan"))
    assert tin_shift(input, torch.full_like(SHIFT, 9)).eq(0).all()


def test_strides_do_not_matter():
    assert_strides_do_not_matter(tin_shift, (INPUT, SHIFT))
    assert_arguments_are_left_alone(tin_shift, (INPUT, SHIFT))


@pytest.mark.parametrize("shape", [(0, 4, 6, 5), (2, 0, 6, 5), (2, 4, 0, 5)])
def test_empty(shape):
    shift = SHIFT[: shape[0]]
    output, grad = with_gradients(lambda t: tin_shift(t, shift), [torch.zeros(shape)], [0])
    assert output.shape == grad.shape == shape


def test_opcheck():
    opcheck(module.tin_shift_op, (INPUT.float().requires_grad_(), SHIFT.int()))


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((INPUT[0], SHIFT), ValueError, r"input: expected shape \(B, T, C, HW\)"),
        ((INPUT, SHIFT[:1]), ValueError, r"shift: expected shape \(2, groups\)"),
        ((INPUT, SHIFT.float()), TypeError, "shift: expected torch.int64, got torch.float32"),
        ((INPUT[:, :, :4], SHIFT), ValueError, "shift: expected a number of groups that divides"),
        ((INPUT, SHIFT[:, :0]), ValueError, "shift: expected a number of groups that divides"),
    ],
)
def test_bad_arguments(args, error, words):
    with pytest.raises(error, match=f"tin_shift: {words}"):
        tin_shift(*args)
