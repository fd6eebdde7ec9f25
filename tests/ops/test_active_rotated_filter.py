"""active_rotated_filter against its definition."""

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

from mx_autopatch.ops import active_rotated_filter
from mx_autopatch.verify.references import convolution as plain

module = importlib.import_module("mx_autopatch.ops.active_rotated_filter")

ORIENTATIONS, KERNEL, ROTATIONS = 2, (3, 2), 4
PLACES = torch.stack(
    [torch.randperm(12, generator=torch.Generator().manual_seed(i)) + 1 for i in range(ROTATIONS)],
    1,
).view(ORIENTATIONS, *KERNEL, ROTATIONS)
INPUT = random(3, 2, ORIENTATIONS, *KERNEL)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_agrees_with_the_reference(dtype):
    places = PLACES.to(dtype)
    assert_agree(
        lambda t: active_rotated_filter(t, places),
        lambda t: plain.active_rotated_filter(t, places),
        [INPUT],
    )


def test_gradients_of_any_order():
    input = INPUT.clone().requires_grad_()
    torch.autograd.gradcheck(lambda t: active_rotated_filter(t, PLACES), input)
    torch.autograd.gradgradcheck(lambda t: active_rotated_filter(t, PLACES), input)


def test_half_precision_is_copied_and_summed_in_float32():
    input = INPUT.half()
    output, grad = with_gradients(lambda t: active_rotated_filter(t, PLACES), [input], [0])
    assert output.dtype == grad.dtype == torch.float16
    assert torch.equal(output.double(), plain.active_rotated_filter(input.double(), PLACES))
    large = torch.full_like(output, 3e4)
    large[::2] = -3e4
    assert module.active_rotated_filter_backward(large, PLACES).eq(0).all()


def test_strides_do_not_matter():
    assert_strides_do_not_matter(active_rotated_filter, (INPUT, PLACES))
    assert_arguments_are_left_alone(active_rotated_filter, (INPUT, PLACES))


def test_empty():
    output, grad = with_gradients(lambda t: active_rotated_filter(t, PLACES), [INPUT[:0]], [0])
    assert output.shape == (0, 4, *KERNEL)
    assert grad.shape == (0, *INPUT.shape[1:])


def test_opcheck():
    input = INPUT.float().requires_grad_()
    opcheck(module.active_rotated_filter_op, (input, PLACES.int()))
    grad = module.active_rotated_filter_op(input.detach(), PLACES).requires_grad_()
    opcheck(module.active_rotated_filter_backward_op, (grad, PLACES))


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((INPUT[0], PLACES), ValueError, r"input: expected shape \(O, I, orientations, kh, kw\)"),
        ((INPUT, PLACES[:1]), ValueError, r"indices: expected shape \(2, 3, 2, rotations\)"),
        ((INPUT, PLACES.float()), TypeError, "indices: expected torch.int64, got torch.float32"),
        ((INPUT, PLACES - 1), ValueError, "indices: expected places from 1 to 12, got 0 to 11"),
    ],
)
def test_bad_arguments(args, error, words):
    with pytest.raises(error, match=f"active_rotated_filter: {words}"):
        active_rotated_filter(*args)
