"""Operators that torch has for accelerators alone, against what they are to compute."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

NPU = torch.device("npu:0")
aten = torch.ops.aten


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(4)
    yield
    torch.set_num_threads(threads)


def close(ours, expected, **tolerance):
    assert ours.device == NPU
    torch.testing.assert_close(ours.detach().cpu(), expected.detach(), **tolerance)


# ---- synchronised batch normalisation ------------------------------------------------------


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 5), (6, 3, 4, 5)], ids=["2d", "3d", "4d"])
def test_batch_norm_of_two_devices_is_that_of_the_whole_batch(shape, affine):
    x = torch.randn(shape, requires_grad=True)
    norm = nn.BatchNorm1d(3) if len(shape) < 4 else nn.BatchNorm2d(3)
    if affine:
        nn.init.uniform_(norm.weight)
        nn.init.uniform_(norm.bias)
        weight, bias = norm.weight.detach().to(NPU), norm.bias.detach().to(NPU)
    else:
        weight = bias = None
    grad = torch.randn(shape)
    expected = norm(x)
    expected.backward(grad)

    eps, momentum = norm.eps, norm.momentum
    parts = [part.detach().to(NPU) for part in x.split((2, 4))]
    grads = [part.to(NPU) for part in grad.split((2, 4))]
    stats = [aten.batch_norm_stats(part, eps) for part in parts]
    means, invstds = (torch.stack(each) for each in zip(*stats))
    counts = torch.tensor([float(part.numel() // 3) for part in parts], device=NPU)
    running = torch.zeros(3, device=NPU), torch.ones(3, device=NPU)
    mean, invstd = aten.batch_norm_gather_stats_with_counts(
        parts[0], means, invstds, *running, momentum, eps, counts
    )
    close(running[0], norm.running_mean)
    close(running[1], norm.running_var)
    ours = [aten.batch_norm_elemt(part, weight, bias, mean, invstd, eps) for part in parts]
    close(torch.cat(ours), expected)
    out = torch.empty(0, device=NPU)
    aten.batch_norm_elemt.out(parts[0], weight, bias, mean, invstd, eps, out=out)
    assert torch.equal(out, ours[0])

    sums = [
        aten.batch_norm_backward_reduce(g, part, mean, invstd, weight, True, affine, affine)
        for g, part in zip(grads, parts)
    ]
    total_dy, total_xmu = sums[0][0] + sums[1][0], sums[0][1] + sums[1][1]
    dx = [
        aten.batch_norm_backward_elemt(
            g, part, mean, invstd, weight, total_dy, total_xmu, counts.int()
        )
        for g, part in zip(grads, parts)
    ]
    close(torch.cat(dx), x.grad, rtol=1e-4, atol=1e-5)
    if affine:
        close(sums[0][2] + sums[1][2], norm.weight.grad, rtol=1e-4, atol=1e-5)
        close(sums[0][3] + sums[1][3], norm.bias.grad)
    else:
        assert sums[0][2] is None


def test_batch_norm_of_half_precision_has_statistics_in_float32():
    x = torch.randn(4, 3, 2, 2).half()
    mean, invstd = aten.batch_norm_stats(x.to(NPU), 1e-5)
    assert mean.dtype == invstd.dtype == torch.float32
    close(mean, x.float().mean((0, 2, 3)))
    y = aten.batch_norm_elemt(x.to(NPU), None, None, mean, invstd, 1e-5)
    assert y.dtype == torch.float16


# ---- recurrent networks --------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cls", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_networks_forward_and_backward(cls, bias):
    host = cls(4, 5, num_layers=2, bidirectional=True, bias=bias)
    ours = cls(4, 5, num_layers=2, bidirectional=True, bias=bias)
    ours.load_state_dict(host.state_dict())
    ours.to(NPU)
    x = torch.randn(6, 3, 4)
    gradients = []
    for model, device in ((host, "cpu"), (ours, NPU)):
        here = x.detach().to(device).requires_grad_()
        output, state = model(here)
        last = state[1] if cls is nn.LSTM else state
        (output.square().sum() + last.sin().sum()).backward()
        gradients.append([output, last, here.grad, *(p.grad for p in model.parameters())])
    for one, two in zip(*gradients):
        close(two, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cls", [nn.LSTM, nn.GRU])
def test_packed_sequences(cls):
    model = cls(3, 4)
    lengths = torch.tensor([5, 2, 1])
    x = torch.randn(5, 3, 3)
    outputs = []
    for device in ("cpu", NPU):
        packed = nn.utils.rnn.pack_padded_sequence(x.to(device), lengths)
        output, _ = model.to(device)(packed)
        outputs.append(nn.utils.rnn.pad_packed_sequence(output))
    close(outputs[1][0], outputs[0][0])
    assert outputs[1][1].tolist() == lengths.tolist()
    with pytest.raises(RuntimeError, match="should be a 1D CPU int64 tensor"):
        nn.utils.rnn.pack_padded_sequence(x.to(NPU), lengths.to(NPU))


@pytest.mark.parametrize("cls", [nn.LSTMCell, nn.GRUCell])
def test_cells_have_gradients_of_gradients(cls):
    def penalty(device):
        torch.manual_seed(9)
        cell = cls(2, 3).to("cpu", torch.float64).to(device)
        x = torch.linspace(-1, 1, 8, dtype=torch.float64).view(4, 2).to(device).requires_grad_()
        result = cell(x)
        state = result[1] if isinstance(result, tuple) else result
        (slope,) = torch.autograd.grad(state.square().sum(), x, create_graph=True)
        slope.square().sum().backward()
        return x.grad

    close(penalty(NPU), penalty("cpu"))


# ---- products ------------------------------------------------------------------------------


def test_products_of_half_precision_in_float32():
    a, b = torch.randn(2, 3, 4).half(), torch.randn(2, 4, 5).half()
    c = torch.randn(2, 3, 5)
    wide = a.float() @ b.float()
    an, bn, cn = a.to(NPU), b.to(NPU), c.to(NPU)
    close(torch.mm(an[0], bn[0], out_dtype=torch.float32), wide[0])
    close(torch.bmm(an, bn, out_dtype=torch.float32), wide)
    close(torch.addmm(cn[0], an[0], bn[0], out_dtype=torch.float32, beta=2), 2 * c[0] + wide[0])
    close(torch.baddbmm(cn, an, bn, out_dtype=torch.float32, alpha=3), c + 3 * wide)
    out = torch.empty(0, device=NPU)
    torch.bmm(an, bn, out_dtype=torch.float32, out=out)
    close(out, wide)
    with pytest.raises(RuntimeError, match="out_dtype must be"):
        torch.mm(an[0], bn[0], out_dtype=torch.float64)
    with pytest.raises(RuntimeError, match="to have dtype"):
        torch.bmm(an, bn, out_dtype=torch.float32, out=torch.empty(0, device=NPU).half())


@pytest.mark.parametrize(
    ("left", "right"),
    [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4))],
)
def test_matmul_backward(left, right):
    a, b = torch.randn(left, requires_grad=True), torch.randn(right, requires_grad=True)
    product = a @ b
    grad = torch.randn(product.shape)
    product.backward(grad)
    arguments = [x.detach().to(NPU) for x in (grad, a, b)]
    to_a, to_b = aten.matmul_backward(*arguments, [True, True])
    close(to_a, a.grad)
    close(to_b, b.grad)
    assert aten.matmul_backward(*arguments, [False, True])[0] is None


def test_depthwise_convolution():
    x, weight, bias = torch.randn(2, 3, 6, 7), torch.randn(6, 1, 3, 2), torch.randn(6)
    options = ([2, 1], [1, 0], [1, 2])
    expected = F.conv2d(x, weight, bias, *options, groups=3)
    arguments = (x.to(NPU), weight.to(NPU), [3, 2], bias.to(NPU), *options)
    close(aten._conv_depthwise2d(*arguments), expected)
    out = torch.empty(0, device=NPU)
    close(aten._conv_depthwise2d.out(*arguments, out=out), expected)


def test_masked_scale():
    x, mask = torch.randn(4), torch.tensor([1, 0, 1, 0], dtype=torch.uint8)
    close(aten._masked_scale(x.to(NPU), mask.to(NPU), 2.0), x * mask * 2)


# ---- copies --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.bool, torch.complex64])
def test_casts_across_devices_and_strides(dtype):
    x = torch.tensor([[0.0, 1.0, -2.5], [3.0, 0.0, 4.0]])
    for source in (x, x.t(), x[:, ::2], x.expand(2, 2, 3)):
        ours = source.to(NPU)
        assert torch.equal(ours.cpu(), source)
        for there in (ours.to(dtype), source.to(NPU, dtype), ours.to("cpu", dtype)):
            assert torch.equal(there.cpu(), source.to(dtype))
            assert there.stride() == source.to(dtype).stride()


def test_zero_and_zeros():
    x = torch.ones(4, 4, device=NPU)
    x[1:, 1].zero_()
    x.t()[0].zero_()
    assert x.sum().item() == 9
    assert torch.zeros(2, 3, dtype=torch.int8, device="npu").tolist() == [[0, 0, 0]] * 2
    assert torch.zeros_like(x.t()[:2], dtype=torch.bool).any().item() is False
    assert x.new_zeros(0).shape == (0,)


# ---- convolutions of half precision ----------------------------------------------------------


@pytest.mark.parametrize("transposed", [False, True])
def test_a_convolution_of_float16_is_that_of_float32_rounded(transposed):
    """The CPU's own rounds sums on the way, and takes 50 times as long."""
    convolve = F.conv_transpose2d if transposed else F.conv2d
    results = []
    operands = [torch.randn(2, 64, 6, 5), torch.randn(64, 64, 3, 3) / 8, torch.randn(64)]
    grad = torch.randn_like(convolve(*operands)).half()
    for device in (NPU, "cpu"):
        mine = [t.half().to(device) for t in operands]
        mine = [(t if device == NPU else t.float()).requires_grad_() for t in mine]
        output = convolve(*mine)
        output.backward(grad.to(device, output.dtype))
        results.append([output.detach(), *(t.grad for t in mine)])
    for ours, expected in zip(*results):
        assert torch.equal(ours.cpu(), expected.half())
