"""psa_mask against its definition."""

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

from mx_autopatch.ops import psa_mask
from mx_autopatch.verify.references import convolution as plain

module = importlib.import_module("mx_autopatch.ops.psa_mask")


types = pytest.mark.parametrize("psa_type", ["collect", "distribute"])


@types
@pytest.mark.parametrize("mask_size", [(3, 5), (7, 9), (2, 4), (1, 1)])
def test_agrees_with_the_reference(psa_type, mask_size):
    input = random(2, mask_size[0] * mask_size[1], 3, 4)
    assert_agree(
        lambda t: psa_mask(t, psa_type, mask_size),
        lambda t: plain.psa_mask(t, psa_type, mask_size),
        [input],
        tolerance=0,
    )


@types
def test_gradcheck(psa_type):
    input = random(1, 9, 2, 3).requires_grad_()
    torch.autograd.gradcheck(lambda t: psa_mask(t, psa_type, (3, 3)), input)
    torch.autograd.gradgradcheck(lambda t: psa_mask(t, psa_type, (3, 3)), input)


@types
def test_half_precision_is_copied(psa_type):
    input = random(2, 9, 3, 4, dtype=torch.bfloat16)
    output = psa_mask(input, psa_type, (3, 3))
    assert output.dtype == torch.bfloat16
    assert torch.equal(output.float(), psa_mask(input.float(), psa_type, (3, 3)))


@types
def test_strides_do_not_matter(psa_type):
    f = lambda t: psa_mask(t, psa_type, (3, 3))  # noqa: E731
    assert_strides_do_not_matter(f, [random(2, 9, 3, 4)])
    assert_arguments_are_left_alone(f, [random(2, 9, 3, 4)])


@types
@pytest.mark.parametrize("shape", [(0, 9, 3, 4), (2, 9, 0, 4)])
def test_empty(psa_type, shape):
    output, grad = with_gradients(
        lambda t: psa_mask(t, psa_type, (3, 3)), [torch.zeros(shape)], [0]
    )
    assert output.shape == (shape[0], shape[2] * shape[3], *shape[2:])
    assert grad.shape == shape


@types
def test_opcheck(psa_type):
    input = random(2, 9, 3, 4, dtype=torch.float32).requires_grad_()
    opcheck(module.psa_mask_op, (input, psa_type, [3, 3]))
    output = module.psa_mask_op(input.detach(), psa_type, [3, 3])
    opcheck(module.psa_mask_backward_op, (output.requires_grad_(), psa_type, [3, 3]))


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        (
            (random(1, 8, 3, 4), "collect", (3, 3)),
            ValueError,
            r"input: expected shape \(B, 9, H, W",
        ),
        ((random(1, 9, 3, 4).int(), "collect", (3, 3)), TypeError, "input: expected a floating"),
        ((random(1, 9, 3, 4), "spread", (3, 3)), ValueError, "psa_type: expected 'collect' or"),
        ((random(1, 9, 3, 4), "collect", (3, 0)), ValueError, "mask_size: expected two sizes"),
    ],
)
def test_bad_arguments(args, error, words):
    with pytest.raises(error, match=f"psa_mask: {words}"):
        psa_mask(*args)
