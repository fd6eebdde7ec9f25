"""upfirdn2d against zeros, padding and sums written out, in float64."""

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

from mx_autopatch.ops import upfirdn2d
from mx_autopatch.verify.references import activations as plain

module = importlib.import_module("mx_autopatch.ops.upfirdn2d")


OPTIONS = {
    "filter only": ((1, 1), (1, 1), (1, 2, 0, 3), False, 1.0),
    "up": ((2, 2), (1, 1), (2, 1, 2, 1), False, 4.0),
    "up, cropped": ((2, 3), (1, 1), (-1, 3, 4, -2), True, 1.5),
    "down": ((1, 1), (2, 2), (1, 1, 1, 2), True, 1.0),
    "both": ((2, 1), (1, 3), (3, 2, 2, 0), False, 0.5),
    "both, cropped": ((3, 2), (2, 2), (-2, 1, -1, 0), False, 2.0),
}
options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
INPUT, FILTER = random(2, 3, 5, 6), random(4, 3, seed=1)


@options
def test_agrees_with_the_reference(options):
    assert_agree(
        lambda t: upfirdn2d(t, FILTER, *options),
        lambda t: plain.upfirdn2d(t, FILTER, *options),
        [INPUT],
    )


@options
def test_gradients_of_any_order(options):
    input = INPUT[:1, :1].clone().requires_grad_()
    torch.autograd.gradcheck(lambda t: upfirdn2d(t, FILTER, *options), input)
    torch.autograd.gradgradcheck(lambda t: upfirdn2d(t, FILTER, *options), input)


def test_one_number_is_both_axes():
    a = upfirdn2d(INPUT, FILTER, 2, 3)
    assert torch.equal(a, upfirdn2d(INPUT, FILTER, (2, 2), (3, 3)))


def both(input, filter=FILTER):
    return upfirdn2d(input, filter, *OPTIONS["both"])


def test_half_precision_is_rounded_once():
    assert_rounded_once(lambda t: both(t, FILTER.float()), [INPUT])


@options
def test_strides_do_not_matter(options):
    f = lambda i, k: upfirdn2d(i, k, *options)  # noqa: E731
    assert_strides_do_not_matter(f, (INPUT, FILTER))
    assert_arguments_are_left_alone(f, (INPUT, FILTER))


@pytest.mark.parametrize("shape", [(0, 3, 5, 6), (2, 0, 5, 6)])
def test_empty(shape):
    output, grad = with_gradients(both, [torch.zeros(shape)], [0])
    assert output.shape == (*shape[:2], *both(INPUT).shape[2:])
    assert grad.shape == shape


@pytest.mark.parametrize("name", ["up, cropped", "both"])
def test_opcheck(name):
    options = OPTIONS[name]
    lists = [list(o) for o in options[:3]]
    input = INPUT.float().requires_grad_()
    opcheck(module.upfirdn2d_op, (input, FILTER.float(), *lists, *options[3:]))


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((INPUT[0], FILTER), ValueError, r"input: expected shape \(B, C, H, W\)"),
        ((INPUT.int(), FILTER), TypeError, "input: expected a floating dtype"),
        ((INPUT, FILTER[0]), ValueError, r"filter: expected shape \(fh, fw\)"),
        ((INPUT, FILTER, 0), ValueError, "up: expected one or two sizes >= 1, got 0"),
        ((INPUT, FILTER, 1, 1, (1, 2)), ValueError, "padding: expected four numbers"),
        ((INPUT, FILTER, 1, 1, (-1, -1, 0, 0)), ValueError, "filter: expected 1 x 1 to the size"),
        ((INPUT, FILTER[:0]), ValueError, "filter: expected 1 x 1 to the size"),
    ],
)
def test_bad_arguments(args, error, words):
    with pytest.raises(error, match=f"upfirdn2d: {words}"):
        upfirdn2d(*args)
