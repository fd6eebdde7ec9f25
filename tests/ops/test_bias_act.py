"""bias_act and fused_bias_leakyrelu against torch's activations, in float64."""

from __future__ import annotations

import importlib

import pytest
import torch
import torch.nn.functional as F
from operator_checks import (
    assert_agree,
    assert_arguments_are_left_alone,
    assert_rounded_once,
    assert_strides_do_not_matter,
    random,
    with_gradients,
)
from torch.library import opcheck

from mx_autopatch.ops import bias_act, fused_bias_leakyrelu

module = importlib.import_module("mx_autopatch.ops.bias_act")
fused_module = importlib.import_module("mx_autopatch.ops.fused_bias_leakyrelu")

FUNCTIONS = {
    "linear": lambda x: x,
    "relu": F.relu,
    "lrelu": lambda x: F.leaky_relu(x, 0.3),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "elu": F.elu,
    "selu": F.selu,
    "softplus": F.softplus,
    "swish": F.silu,
}
acts = pytest.mark.parametrize("act", FUNCTIONS)
INPUT, BIAS = random(2, 3, 4, 5), random(3, seed=1)


@acts
@pytest.mark.parametrize("clamp", [None, 0.4])
def test_agrees_with_torch(act, clamp):
    limit = float("inf") if clamp is None else clamp
    assert_agree(
        lambda x, b: bias_act(x, b, 1, act, 0.3, 1.7, clamp),
        lambda x, b: (FUNCTIONS[act](x + b[:, None, None]) * 1.7).clamp(-limit, limit),
        (INPUT, BIAS),
        (0, 1),
    )


@acts
@pytest.mark.parametrize("clamp", [None, 0.7])
def test_two_derivatives(act, clamp):
    tensors = [t.clone().requires_grad_() for t in (INPUT[:, :, :1], BIAS)]
    f = lambda x, b: bias_act(x, b, 1, act, 0.3, 1.7, clamp)  # noqa: E731
    torch.autograd.gradcheck(f, tensors)
    torch.autograd.gradgradcheck(f, tensors)


def test_the_third_derivative_says_that_it_is_missing():
    x = INPUT.clone().requires_grad_()
    y = bias_act(x, act="tanh")
    for _ in range(2):
        (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="bias_act: is differentiable twice only"):
        torch.autograd.grad(y.sum(), x)


@acts
def test_defaults(act):
    gain = 2**0.5 if act in ("relu", "lrelu", "swish") else 1
    function = F.leaky_relu if act == "lrelu" else FUNCTIONS[act]
    expected = function(INPUT, 0.2) if act == "lrelu" else function(INPUT)
    torch.testing.assert_close(bias_act(INPUT, act=act), expected * gain)


@acts
def test_huge_values(act):
    x = torch.tensor([[-1e4, 1e4, -90.0, 90.0]], requires_grad=True)
    y = bias_act(x, act=act, gain=1.0)
    (grad,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    second = torch.autograd.grad(grad.sum(), x)[0]
    assert all(t.isfinite().all() for t in (y, grad, second))
    function = F.leaky_relu if act == "lrelu" else FUNCTIONS[act]
    expected = function(x, 0.2) if act == "lrelu" else function(x)
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("dim", [0, -1, 2])
def test_bias_along_any_dimension(dim):
    bias = random(INPUT.shape[dim], seed=2)
    shape = [1] * 4
    shape[dim] = -1
    torch.testing.assert_close(bias_act(INPUT, bias, dim), INPUT + bias.view(shape))


def tanh(x, b):
    return bias_act(x, b, 1, "tanh")


@pytest.mark.parametrize("f", [tanh, fused_bias_leakyrelu])
def test_half_precision_is_rounded_once(f):
    assert_rounded_once(f, (INPUT, BIAS), (0,))


@pytest.mark.parametrize("f", [tanh, fused_bias_leakyrelu])
def test_strides_do_not_matter(f):
    assert_strides_do_not_matter(f, (INPUT, BIAS), (0, 1))
    assert_arguments_are_left_alone(f, (INPUT, BIAS))


@pytest.mark.parametrize("f", [tanh, fused_bias_leakyrelu])
@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0), (2, 3, 0)])
def test_empty(f, shape):
    tensors = torch.zeros(shape), torch.zeros(shape[1])
    output, *grads = with_gradients(f, tensors, (0, 1))
    assert output.shape == grads[0].shape == shape
    assert grads[1].eq(0).all()


@pytest.mark.parametrize("act", ["tanh", "swish"])
def test_opcheck(act):
    input, bias = INPUT.float().requires_grad_(), BIAS.float().requires_grad_()
    options = 1, act, 0.3, 1.7, 0.8
    opcheck(module.bias_act_op, (input, bias, *options))
    if act == "tanh":
        opcheck(module.bias_act_op, (input, None, *options))
        x, b = input.detach(), bias.detach()
        y = module.bias_act_op(x, b, *options)
        opcheck(module.bias_act_gradient_op, (y.clone(), x, b, y, None, 1, *options))
        opcheck(module.bias_act_gradient_op, (y.clone(), x, b, y, x, 2, *options))


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        (([1.0],), TypeError, "input: expected a torch.Tensor, got list"),
        ((INPUT.int(),), TypeError, "input: expected a floating dtype"),
        ((INPUT, BIAS[:2]), ValueError, r"bias: expected shape \(3,\), got \(2,\)"),
        ((INPUT, BIAS.float()), TypeError, "bias: expected torch.float64"),
        ((INPUT, BIAS, 4), ValueError, "dim: expected one of 4 dimensions, got 4"),
        ((INPUT, BIAS, 1, "gelu"), ValueError, "act: expected one of linear, relu, .*'gelu'"),
        ((INPUT, BIAS, 1, "relu", 0.2, 1, -1), ValueError, "clamp: expected at least 0 or None"),
    ],
)
def test_bad_arguments(args, error, words):
    with pytest.raises(error, match=f"bias_act: {words}"):
        bias_act(*args)


def test_bad_arguments_of_the_gradient():
    with pytest.raises(ValueError, match="bias_act_gradient: output: expected a tensor for 'tanh'"):
        module.bias_act_gradient(INPUT, INPUT, BIAS, None, act="tanh")
    with pytest.raises(ValueError, match="bias_act_gradient: order: expected 1 or 2, got 3"):
        module.bias_act_gradient(INPUT, INPUT, BIAS, INPUT, order=3)


@pytest.mark.parametrize(("slope", "scale"), [(0.2, 2**0.5), (-0.5, 1.0), (0.0, -2.0)])
def test_fused_bias_leakyrelu(slope, scale):
    f = lambda x, b: fused_bias_leakyrelu(x, b, None, slope, scale)  # noqa: E731
    assert_agree(
        f, lambda x, b: F.leaky_relu(x + b[:, None, None], slope) * scale, (INPUT, BIAS), (0, 1)
    )
    tensors = [t.clone().requires_grad_() for t in (INPUT, BIAS)]
    torch.autograd.gradcheck(f, tensors)
    torch.autograd.gradgradcheck(f, tensors)


def test_a_reference_chooses_the_slope():
    reference = torch.tensor([[1.0, -1.0, 0.0]])
    output = fused_bias_leakyrelu(torch.full((1, 3), 2.0), None, reference, 0.5, 3.0)
    assert output.tolist() == [[6.0, 3.0, 3.0]]


def test_opcheck_of_the_fused_one():
    input, bias = INPUT.float().requires_grad_(), BIAS.float().requires_grad_()
    opcheck(fused_module.fused_bias_leakyrelu_op, (input, bias, None, 0.2, 1.5))
    opcheck(fused_module.fused_bias_leakyrelu_op, (input, None, INPUT.float(), 0.2, 1.5))


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((BIAS, BIAS), ValueError, r"input: expected shape \(B, C, ...\), got \(3,\)"),
        ((INPUT, BIAS[1:]), ValueError, r"bias: expected shape \(3,\)"),
        ((INPUT, BIAS, INPUT[1:]), ValueError, r"reference: expected shape \(2, 3, 4, 5\)"),
    ],
)
def test_bad_arguments_of_the_fused_one(args, error, words):
    with pytest.raises(error, match=f"fused_bias_leakyrelu: {words}"):
        fused_bias_leakyrelu(*args)
