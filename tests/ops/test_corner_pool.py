"""corner_pool against its definition."""

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

from mx_autopatch.ops import corner_pool
from mx_autopatch.verify.references import convolution as plain

module = importlib.import_module("mx_autopatch.ops.corner_pool")

INPUT = random(2, 3, 4, 5)
directions = pytest.mark.parametrize("direction", ["top", "bottom", "left", "right"])


@directions
def test_agrees_with_the_reference(direction):
    assert_agree(
        lambda t: corner_pool(t, direction),
        lambda t: plain.corner_pool(t, direction),
        [INPUT],
        tolerance=0,
    )


@directions
def test_gradcheck(direction):
    torch.autograd.gradcheck(
        lambda t: corner_pool(t, direction), INPUT[:1].clone().requires_grad_()
    )


@directions
def test_of_equals_the_nearest_to_the_border_wins(direction):
    input = torch.ones(1, 1, 3, 3, requires_grad=True)
    corner_pool(input, direction).sum().backward()
    expected = torch.zeros(3, 3)
    border = {"top": (2, ...), "bottom": (0, ...), "left": (..., 2), "right": (..., 0)}
    expected[border[direction]] = 3
    assert torch.equal(input.grad[0, 0], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_exact(dtype):
    output, grad = with_gradients(lambda t: corner_pool(t, "top"), [INPUT.to(dtype)], [0])
    assert output.dtype == grad.dtype == dtype
    assert torch.equal(output, plain.corner_pool(INPUT.to(dtype), "top"))


@directions
def test_strides_do_not_matter(direction):
    assert_strides_do_not_matter(lambda t: corner_pool(t, direction), [INPUT])
    assert_arguments_are_left_alone(lambda t: corner_pool(t, direction), [INPUT])


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5)])
def test_empty(shape):
    output, grad = with_gradients(lambda t: corner_pool(t, "top"), [torch.zeros(shape)], [0])
    assert output.shape == grad.shape == shape


@directions
def test_opcheck(direction):
    input = INPUT.float()
    opcheck(module.corner_pool_op, (input.clone().requires_grad_(), direction))
    opcheck(module.corner_pool_backward_op, (input.clone(), input, direction))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"corner_pool: input: expected shape \(B, C, H, W\)"):
        corner_pool(INPUT[0], "top")
    with pytest.raises(TypeError, match="corner_pool: input: expected a floating dtype"):
        corner_pool(INPUT.int(), "top")
    with pytest.raises(ValueError, match="corner_pool: direction: expected one of top, bottom"):
        corner_pool(INPUT, "up")
