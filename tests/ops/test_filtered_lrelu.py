"""filtered_lrelu against its parts."""

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
from torch.nn.functional import leaky_relu

from mx_autopatch.ops import filtered_lrelu
from mx_autopatch.verify.references import activations as plain

module = importlib.import_module("mx_autopatch.ops.filtered_lrelu")

INPUT, BIAS = random(2, 3, 5, 6), random(3, seed=1)
SQUARE, OBLONG, LINE = random(4, 4, seed=2), random(3, 5, seed=3), random(4, seed=4)


CASES = {
    "up and down": (SQUARE, SQUARE, 2, 2, (3, 2, 3, 2), 1.4, 0.2, 1.0, False),
    "separable": (LINE, LINE, 2, 2, (3, 3, 1, 4), 1.4, 0.2, float("inf"), False),
    "oblong, flipped": (OBLONG, SQUARE, 3, 2, (4, 1, 0, 2), 0.7, 0.5, 0.8, True),
    "cropped": (SQUARE, OBLONG, 4, 3, (-1, 2, 3, -2), 1.0, 0.0, 2.0, False),
    "one size": (LINE, OBLONG, 1, 1, (2, 2, 2, 2), 1.0, 0.1, 1.5, True),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def reference(input, bias, case):
    fu, fd, up, down, *options = case
    return plain.filtered_lrelu(input, fu, fd, bias, up, down, *options)


def ours(input, bias, case):
    fu, fd, up, down, *options = case
    return filtered_lrelu(input, fu, fd, bias, up, down, *options)


@cases
def test_agrees_with_its_parts(case):
    assert_agree(
        lambda x, b: ours(x, b, case), lambda x, b: reference(x, b, case), (INPUT, BIAS), (0, 1)
    )


@cases
def test_gradients_of_any_order(case):
    tensors = [t.clone().requires_grad_() for t in (INPUT[:1, :2, :3, :4], BIAS[:2])]
    torch.autograd.gradcheck(lambda x, b: ours(x, b, case), tensors)
    torch.autograd.gradgradcheck(lambda x, b: ours(x, b, case), tensors)


def test_defaults():
    torch.testing.assert_close(filtered_lrelu(INPUT), leaky_relu(INPUT, 0.2) * 2**0.5)
    a = filtered_lrelu(INPUT, SQUARE, padding=(1, 2))
    torch.testing.assert_close(a, filtered_lrelu(INPUT, SQUARE, padding=[1, 1, 2, 2]))


def test_the_activation_alone_and_its_signs():
    input = torch.tensor([[[[-3.0, -0.5, 0.5, 3.0, -1.0]]]])
    output, signs = module.filtered_lrelu_act(input, None, (0, 0), 2.0, 0.5, 2.0, True)
    assert output.flatten().tolist() == [-2, -0.5, 1, 2, -1]
    # Limited, negative, neither, limited: 2 + 1 * 4 + 2 * 64; negative; padding to 16.
    assert signs.flatten().tolist() == [134, 1, 0, 0]
    again, none = module.filtered_lrelu_act(
        torch.ones_like(input), signs, (0, 0), 2.0, 0.5, 9.0, True
    )
    assert again.flatten().tolist() == [0, 1, 2, 0, 1]
    assert none.numel() == 0
    # Places moved: one to the right, and one up, where there are no signs.
    again, _ = module.filtered_lrelu_act(
        torch.ones_like(input), signs, (1, 0), 2.0, 0.5, 9.0, False
    )
    assert again.flatten().tolist() == [1, 2, 0, 1, 2]
    for offset in ((0, -1), (-9, 0), (20, 0)):
        again, _ = module.filtered_lrelu_act(input, signs, offset, 2.0, 0.5, 9.0, False)
        assert torch.equal(again, input * 2)


def test_without_signs_there_is_no_gradient():
    options = 1, 1, (0, 0, 0, 0), (0, 0), 1.0, 0.2, 1.0, False, False
    output, signs = module.filtered_lrelu_with_signs(
        INPUT.clone().requires_grad_(), None, None, None, None, *options
    )
    assert signs.numel() == 0
    with pytest.raises(RuntimeError, match="filtered_lrelu: a gradient needs the signs"):
        output.sum().backward()


def test_half_precision_is_rounded_once():
    fu, fd, *options = CASES["up and down"]
    case = fu.float(), fd.float(), *options
    assert_rounded_once(lambda x, b: ours(x, b, case), (INPUT, BIAS), (0,))


def test_strides_do_not_matter():
    f = lambda x, b: ours(x, b, CASES["oblong, flipped"])  # noqa: E731
    assert_strides_do_not_matter(f, (INPUT, BIAS), (0, 1))
    assert_arguments_are_left_alone(f, (INPUT, BIAS))


@pytest.mark.parametrize("shape", [(0, 3, 5, 6), (2, 0, 5, 6)])
def test_empty(shape):
    tensors = torch.zeros(shape).double(), torch.zeros(shape[1]).double()
    case = CASES["up and down"]
    output, *grads = with_gradients(lambda x, b: ours(x, b, case), tensors, (0, 1))
    assert output.shape == (*shape[:2], *ours(INPUT, BIAS, case).shape[2:])
    assert [g.shape for g in grads] == [t.shape for t in tensors]


@pytest.mark.parametrize("name", ["separable", "oblong, flipped"])
def test_opcheck(name):
    case = CASES[name]
    fu, fd, up, down, (left, right, top, bottom), gain, slope, clamp, flip = case
    input, bias = INPUT.float().requires_grad_(), BIAS.float().requires_grad_()
    sizes = [up, down, top, bottom, left, right, 0, 0]
    filters = fu.float(), fd.float()
    args = input, *filters, bias, None, sizes, gain, slope, clamp, flip
    opcheck(module.filtered_lrelu_op, (*args, True))
    with torch.no_grad():
        output, signs = module.filtered_lrelu_op(*args, True)
    x = INPUT.float()
    opcheck(module.filtered_lrelu_op, (x, *filters, None, signs, *args[5:], False))
    opcheck(module.filtered_lrelu_act_op, (output, None, [0, 0], gain, slope, clamp, True))


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((INPUT[0],), ValueError, r"input: expected shape \(B, C, H, W\)"),
        ((INPUT, INPUT), ValueError, r"filter_up: expected shape \(fh, fw\)"),
        ((INPUT, LINE[:0]), ValueError, "filter_up: expected elements"),
        ((INPUT, LINE, LINE, BIAS[1:]), ValueError, r"bias: expected shape \(3,\)"),
        ((INPUT, LINE, LINE, BIAS, 0), ValueError, "up: expected at least 1, got 0"),
        ((INPUT, LINE, LINE, BIAS, 1, 1, (1, 2, 3)), ValueError, "padding: expected one, two or"),
        ((INPUT, LINE, LINE, BIAS, 1, 1, -1), ValueError, "filter_down: expected at most the si"),
    ],
)
def test_bad_arguments(args, error, words):
    with pytest.raises(error, match=f"filtered_lrelu: {words}"):
        filtered_lrelu(*args)
