"""The pieces of synchronised batch normalisation, put together on one process."""

from __future__ import annotations

import pytest
import torch
from operator_checks import assert_arguments_are_left_alone, random
from torch.library import opcheck
from torch.nn.functional import batch_norm

from mx_autopatch.ops import sync_bn

INPUT, WEIGHT, BIAS = random(3, 4, 5), random(4, seed=1), random(4, seed=2)
EPS = 1e-3


def forward(input, weight=WEIGHT, bias=BIAS):
    mean = sync_bn.sync_bn_mean(input)
    var = sync_bn.sync_bn_var(input, mean)
    return sync_bn.sync_bn_output(input, mean, var, weight, bias, EPS)


def test_forward():
    output, norm, std = forward(INPUT)
    torch.testing.assert_close(output, batch_norm(INPUT, None, None, WEIGHT, BIAS, True, 0, EPS))
    torch.testing.assert_close(norm, batch_norm(INPUT, None, None, None, None, True, 0, EPS))
    torch.testing.assert_close(std, (INPUT.var((0, 2), correction=0) + EPS).sqrt())
    bare, norm, _ = forward(INPUT, None, None)
    assert torch.equal(bare, norm)
    assert bare.data_ptr() != norm.data_ptr()


def test_backward():
    leaves = [t.clone().requires_grad_() for t in (INPUT, WEIGHT, BIAS)]
    grad = random(*INPUT.shape, seed=3)
    batch_norm(leaves[0], None, None, *leaves[1:], True, 0, EPS).backward(grad)
    _, norm, std = forward(INPUT)
    params = sync_bn.sync_bn_backward_param(grad, norm)
    data = sync_bn.sync_bn_backward_data(grad, WEIGHT, *params, norm, std)
    for got, leaf in zip((data, *params), leaves):
        torch.testing.assert_close(got, leaf.grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_has_statistics_in_float32(dtype):
    input, wide = INPUT.to(dtype), INPUT.to(dtype).float()
    weight, bias = WEIGHT.float(), BIAS.float()
    half, full = forward(input, weight, bias), forward(wide, weight, bias)
    assert [t.dtype for t in half] == [dtype, torch.float32, torch.float32]
    assert torch.equal(half[0], full[0].to(dtype))
    assert torch.equal(half[1], full[1])
    params = sync_bn.sync_bn_backward_param(input, half[1])
    data = sync_bn.sync_bn_backward_data(input, weight, *params, *half[1:])
    assert data.dtype == dtype
    expected = sync_bn.sync_bn_backward_data(wide, weight, *params, *half[1:])
    assert torch.equal(data, expected.to(dtype))


def test_strides_do_not_matter():
    strided = torch.stack((INPUT, INPUT), 3)[..., 0]
    for got, want in zip(forward(strided), forward(INPUT)):
        torch.testing.assert_close(got, want)
    assert_arguments_are_left_alone(forward, (INPUT, WEIGHT, BIAS))


def test_the_pieces_have_no_gradient():
    assert not sync_bn.sync_bn_mean(INPUT.clone().requires_grad_()).requires_grad


def test_opcheck():
    input, weight, bias = (t.float() for t in (INPUT, WEIGHT, BIAS))
    mean = sync_bn.sync_bn_mean(input)
    var = sync_bn.sync_bn_var(input, mean)
    _, norm, std = sync_bn.sync_bn_output(input, mean, var, weight, bias, EPS)
    params = sync_bn.sync_bn_backward_param(input, norm)
    leaf = input.clone().requires_grad_()
    opcheck(sync_bn.sync_bn_mean_op, (leaf,))
    opcheck(sync_bn.sync_bn_var_op, (leaf, mean))
    opcheck(sync_bn.sync_bn_output_op, (leaf, mean, var, weight, bias, EPS))
    opcheck(sync_bn.sync_bn_output_op, (input.half(), mean, var, None, None, EPS))
    opcheck(sync_bn.sync_bn_backward_param_op, (input, norm))
    opcheck(sync_bn.sync_bn_backward_data_op, (input, weight, *params, norm, std))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"sync_bn_mean: input: expected shape \(N, C, L\)"):
        sync_bn.sync_bn_mean(INPUT[0])
    with pytest.raises(ValueError, match=r"sync_bn_var: mean: expected shape \(4,\), got \(5,\)"):
        sync_bn.sync_bn_var(INPUT, torch.zeros(5))
    with pytest.raises(TypeError, match="sync_bn_output: weight: expected a floating dtype"):
        sync_bn.sync_bn_output(INPUT, WEIGHT, WEIGHT, WEIGHT.int(), None, EPS)
    with pytest.raises(ValueError, match=r"sync_bn_backward_param: norm: expected shape \(3, 4, 5"):
        sync_bn.sync_bn_backward_param(INPUT, INPUT[:1])
