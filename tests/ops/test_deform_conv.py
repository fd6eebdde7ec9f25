"""Deformable convolutions against a plain float64 reference, and against torch's own."""

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
)
from torch.library import opcheck

from mx_autopatch.ops import deform_conv2d, modulated_deform_conv2d
from mx_autopatch.verify.references import convolution as plain

module = importlib.import_module("mx_autopatch.ops.deform_conv")


CASES = {
    "plain": (((1, 1), (1, 1), (1, 1), 1, 1), (3, 3), (5, 6)),
    "groups": (((2, 1), (0, 2), (1, 1), 2, 2), (3, 2), (2, 9)),
    "depthwise": (((1, 2), (2, 1), (2, 1), 4, 1), (2, 3), (7, 3)),
    "offsets by channel": (((1, 1), (0, 0), (1, 1), 1, 4), (1, 1), (5, 6)),
}


def arguments(case, dtype=torch.float64):
    """Tensors and options; some offsets point far outside, none to a whole pixel."""
    options, kernel, size = CASES[case]
    *_, groups, deform_groups = options
    taps = deform_groups * kernel[0] * kernel[1]
    offset = random(2, 2 * taps, *size, seed=1) * 2
    offset[0, :, 0] *= 10
    tensors = (
        random(2, 4, 5, 6),
        offset,
        random(2, taps, *size, seed=2).sigmoid(),
        random(8, 4 // groups, *kernel, seed=3),
        random(8, seed=4),
    )
    return tuple(t.to(dtype) for t in tensors), options


@pytest.mark.parametrize("case", CASES)
def test_modulated_agrees_with_the_reference(case):
    tensors, options = arguments(case)
    assert_agree(
        lambda *t: modulated_deform_conv2d(*t, *options),
        lambda *t: plain.modulated_deform_conv2d(*t, *options),
        tensors,
        range(5),
    )


@pytest.mark.parametrize("case", CASES)
def test_plain_agrees_with_the_reference(case):
    (input, offset, _, weight, _), options = arguments(case)
    assert_agree(
        lambda *t: deform_conv2d(*t, *options),
        lambda *t: plain.deform_conv2d(*t, *options),
        (input, offset, weight),
        range(3),
    )


@pytest.mark.parametrize("groups", [1, 2])
def test_without_offsets_it_is_a_convolution(groups):
    (input, _, _, _, bias), _ = arguments("plain")
    weight = random(8, 4 // groups, 3, 3)
    offset, mask = torch.zeros(2, 18, 3, 5).double(), torch.ones(2, 9, 3, 5).double()
    options = ((2, 1), (1, 2), (1, 3), groups)
    offset, mask = offset[..., :4], mask[..., :4]
    assert_agree(
        lambda i, m, w, b: modulated_deform_conv2d(i, offset, m, w, b, *options),
        lambda i, m, w, b: torch.conv2d(i, w, b, *options),
        (input, mask, weight, bias),
        (0, 2, 3),
    )


def test_gradcheck():
    (input, offset, mask, weight, bias), options = arguments("groups")
    tensors = input[:1, :, :, :3], offset[:1, ..., :6], mask[:1, ..., :6], weight[:4], bias[:4]
    tensors = [t.clone().requires_grad_() for t in tensors]
    torch.autograd.gradcheck(lambda *t: modulated_deform_conv2d(*t, *options), tensors)


def test_parts_add_up(monkeypatch):
    tensors, options = arguments("groups")
    whole = lambda *t: modulated_deform_conv2d(*t, *options)  # noqa: E731
    expected = [t.clone() for t in gradients(whole, tensors)]
    monkeypatch.setattr("mx_autopatch.ops._deform_columns._ELEMENTS", 1)
    torch.testing.assert_close(gradients(whole, tensors), expected)


def gradients(f, tensors):
    leaves = [t.clone().requires_grad_() for t in tensors]
    output = f(*leaves)
    output.square().sum().backward()
    return [output.detach(), *(t.grad for t in leaves)]


def test_only_what_is_needed_gets_a_gradient():
    tensors, options = arguments("groups")
    full = gradients(lambda *t: modulated_deform_conv2d(*t, *options), tensors)[1:]
    for i in range(5):
        leaves = [t.clone().requires_grad_(i == j) for j, t in enumerate(tensors)]
        modulated_deform_conv2d(*leaves, *options).square().sum().backward()
        assert [leaf.grad is not None for leaf in leaves] == [i == j for j in range(5)]
        torch.testing.assert_close(leaves[i].grad, full[i])


def test_nothing_outside_is_read():
    input = torch.full((1, 1, 2, 2), float("nan"))
    weight = torch.ones(1, 1, 1, 1)
    offset = torch.full((1, 2, 2, 2), 50.0)
    offset[0, 0, 0, 0] = float("nan")
    offset[0, :, 1, 1] = 1.0  # exactly a pixel outside
    for t in (input, weight, offset):
        t.requires_grad_()
    output = deform_conv2d(input, offset, weight)
    output.sum().backward()
    assert output.eq(0).all()
    assert all(t.grad.eq(0).all() for t in (input, weight, offset))


def test_half_precision_is_rounded_once():
    tensors, options = arguments("groups")
    assert_rounded_once(lambda *t: modulated_deform_conv2d(*t, *options), tensors, range(5))


def test_strides_do_not_matter():
    tensors, options = arguments("groups")
    f = lambda *t: modulated_deform_conv2d(*t, *options)  # noqa: E731
    assert_strides_do_not_matter(f, tensors, range(5))
    assert_arguments_are_left_alone(f, tensors)


@pytest.mark.parametrize("shape", [(0, 4, 5, 6), (2, 0, 5, 6)])
def test_empty(shape):
    input = torch.zeros(shape, requires_grad=True)
    offset = torch.zeros(shape[0], 18, 5, 6, requires_grad=True)
    weight = torch.zeros(3, shape[1], 3, 3, requires_grad=True)
    output = deform_conv2d(input, offset, weight, padding=1)
    output.sum().backward()
    assert output.shape == (shape[0], 3, 5, 6)
    for t in (input, offset, weight):
        assert t.grad.shape == t.shape
        assert t.grad.eq(0).all()


def test_opcheck():
    tensors, options = arguments("groups", torch.float32)
    options = [list(o) if isinstance(o, tuple) else o for o in options]
    tensors = [t.requires_grad_() for t in tensors]
    opcheck(module.deform_conv2d_op, (*tensors, *options))
    input, offset, mask, weight, bias = (t.detach() for t in tensors)
    opcheck(module.deform_conv2d_op, (input, offset, None, weight, None, *options))
    grad = module.deform_conv2d_op(input, offset, mask, weight, bias, *options)
    args = (grad, input, offset, mask, weight, *options)
    opcheck(module.deform_conv2d_backward_op, (*args, [True] * 4))
    opcheck(module.deform_conv2d_backward_op, (*args, [False, True, False, True]))


def test_compiles_whole():
    tensors, options = arguments("groups")

    def f(*t):
        return modulated_deform_conv2d(*t, *options).square()

    torch._dynamo.reset()
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(gradients(compiled, tensors), gradients(f, tensors))


INPUT, OFFSET, WEIGHT = torch.zeros(1, 4, 5, 6), torch.zeros(1, 18, 3, 4), torch.zeros(2, 4, 3, 3)


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        (([1], OFFSET, WEIGHT), TypeError, "deform_conv2d: input: expected a torch.Tensor, got li"),
        ((INPUT[0], OFFSET, WEIGHT), ValueError, r"input: expected shape \(B, C, H, W\)"),
        ((INPUT, OFFSET[:, :17], WEIGHT), ValueError, r"offset: expected shape \(1, 18, 3, 4\)"),
        ((INPUT, OFFSET[..., :2], WEIGHT), ValueError, r"offset: .*got \(1, 18, 3, 2\)"),
        ((INPUT, OFFSET.double(), WEIGHT), TypeError, "offset: expected torch.float32, got"),
        ((INPUT, OFFSET, WEIGHT[:, :3]), ValueError, r"weight: expected shape \(O, 4, kh, kw\)"),
        ((INPUT, OFFSET.to("meta"), WEIGHT), ValueError, "offset: expected device cpu as input"),
        ((INPUT, OFFSET, WEIGHT, 0), ValueError, "stride: expected one or two sizes >= 1, got 0"),
        ((INPUT, OFFSET, WEIGHT, 1, (1, 2, 3)), ValueError, "padding: expected one or two sizes"),
        ((INPUT, OFFSET, WEIGHT, 1, 0, 9), ValueError, r"input: expected a size that .*\(5, 6\)"),
        ((INPUT, OFFSET, WEIGHT, 1, 0, 1, 3), ValueError, "groups: expected a divisor of the 4"),
        ((INPUT, OFFSET, WEIGHT, 1, 0, 1, 1, 0), ValueError, "deform_groups: expected at least 1"),
    ],
)
def test_bad_arguments(args, error, words):
    with pytest.raises(error, match=words):
        deform_conv2d(*args)


def test_bad_mask_and_bias():
    with pytest.raises(
        ValueError, match=r"mask: expected shape \(1, 9, 3, 4\), got \(1, 8, 3, 4\)"
    ):
        modulated_deform_conv2d(INPUT, OFFSET, OFFSET[:, :8], WEIGHT)
    with pytest.raises(TypeError, match=r"mask: expected a torch\.Tensor, got NoneType"):
        modulated_deform_conv2d(INPUT, OFFSET, None, WEIGHT)
    with pytest.raises(ValueError, match=r"bias: expected shape \(2,\)"):
        modulated_deform_conv2d(INPUT, OFFSET, OFFSET[:, :9], WEIGHT, torch.zeros(3))
