"""Normalisations against their formulas, and gradients against torch's of these."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from npu_calls import agrees, call, close
from torch import Tensor


def rms(x: Tensor, gamma: Tensor, eps: float = 1e-6) -> Tensor:
    dims = tuple(range(-gamma.dim(), 0))
    return x / torch.sqrt((x * x).mean(dims, keepdim=True) + eps) * gamma


@pytest.mark.parametrize("shape", [(8,), (4, 8)])
def test_rms_norm(shape: tuple[int, ...]) -> None:
    x, gamma = torch.randn(2, 3, 4, 8), torch.randn(shape)
    _y, rstd = agrees("npu_rms_norm", rms, [x, gamma])
    dims = tuple(range(-len(shape), 0))
    close(rstd, 1 / torch.sqrt((x * x).mean(dims, keepdim=True) + 1e-6))


def test_rms_norm_backward_gives_float32_for_gamma() -> None:
    x, gamma = torch.randn(5, 8).half(), torch.randn(8).half()
    _, rstd = call("npu_rms_norm", x, gamma)
    dx, dgamma = call("npu_rms_norm_backward", torch.randn(5, 8).half(), x, gamma, rstd)
    assert (dx.dtype, dgamma.dtype) == (torch.float16, torch.float32)


def test_relatives_of_rms_norm() -> None:
    x1, x2, gamma = torch.randn(3, 8), torch.randn(3, 8), torch.randn(8)
    expected = rms(x1 + x2, gamma)
    y, rstd, total = call("npu_add_rms_norm", x1, x2, gamma)
    close([y, total], [expected, x1 + x2])
    wide, narrow, _, _ = call("npu_add_rms_norm_cast", x1.half(), x2.half(), gamma.half())
    assert (wide.dtype, narrow.dtype) == (torch.float32, torch.float16)
    close(call("npu_gemma_rms_norm", x1, gamma)[0], rms(x1, 1 + gamma))
    close(call("npu_add_rms_norm_v2_functional", x1, x2, gamma), [rstd, y, total])
    a, b = x1.npu(), x2.npu()
    torch.ops.npu.npu_add_rms_norm_v2(a, b, gamma.npu())
    close([a.cpu(), b.cpu()], [y, total])


def test_layer_norm_eval() -> None:
    x, w, b = torch.randn(2, 3, 5), torch.randn(5), torch.randn(5)
    close(call("npu_layer_norm_eval", x, [5], w, b, 1e-3), F.layer_norm(x, (5,), w, b, 1e-3))


def test_add_layer_norm() -> None:
    x1, x2 = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    gamma, beta = torch.randn(8), torch.randn(8)

    def plain(a: Tensor, b: Tensor, g: Tensor, s: Tensor) -> Tensor:
        return F.layer_norm(a + b, (8,), g, s)

    found = agrees("npu_add_layer_norm", plain, [x1, x2, gamma, beta])
    total = x1 + x2
    close(found[1], total.mean(-1, keepdim=True))
    close(found[2], (total.var(-1, unbiased=False, keepdim=True) + 1e-5).rsqrt())
    close(found[3].detach(), total)


def test_gradient_through_the_sum_of_add_layer_norm() -> None:
    x1, x2 = (torch.randn(3, 8).npu().requires_grad_() for _ in range(2))
    gamma, beta = torch.ones(8).npu(), torch.zeros(8).npu()
    torch.ops.npu.npu_add_layer_norm(x1, x2, gamma, beta)[3].sum().backward()
    close(x1.grad.cpu(), torch.ones(3, 8))


def test_deep_norm() -> None:
    x, gx = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    beta, gamma = torch.randn(8), torch.randn(8)
    leaves = [t.npu().requires_grad_() for t in (x, gx, beta, gamma)]
    mean, _rstd, y = torch.ops.npu.npu_deep_norm(*leaves)
    wide = [t.double().requires_grad_() for t in (x, gx, beta, gamma)]
    total = wide[0] * 0.3 + wide[1]
    expected = F.layer_norm(total, (8,), wide[3], wide[2], 1e-6)
    close(y.detach().cpu(), expected.detach())
    close(mean.cpu(), total.detach().mean(-1, keepdim=True))
    seed = torch.randn(2, 3, 8)
    (expected * seed).sum().backward()
    y.backward(seed.npu())
    for leaf, other in zip(leaves, wide):
        close(leaf.grad.cpu(), other.grad)
    call("npu_deep_norm", x, gx, beta, gamma)


def test_group_norm_silu() -> None:
    x, w, b = torch.randn(2, 6, 3, 3), torch.randn(6), torch.randn(6)
    expected = torch.native_group_norm(x, w, b, 2, 6, 9, 3, 1e-5)
    found = call("npu_group_norm_silu", x, w, b, 3)
    close(found, [F.silu(expected[0]), expected[1], expected[2]])


@pytest.mark.parametrize("scale", [1.0, 1.7])
def test_group_norm_swish(scale: float) -> None:
    x, w, b = torch.randn(2, 6, 4), torch.randn(6), torch.randn(6)

    def plain(a: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y = F.group_norm(a, 3, weight, bias)
        return y * torch.sigmoid(scale * y)

    leaves = [t.npu().requires_grad_() for t in (x, w, b)]
    out, mean, rstd = torch.ops.npu.npu_group_norm_swish(
        leaves[0], 3, leaves[1], leaves[2], swish_scale=scale
    )
    wide = [t.double().requires_grad_() for t in (x, w, b)]
    expected = plain(*wide)
    close(out.detach().cpu(), expected.detach())
    seed = torch.randn(x.shape)
    (expected * seed).sum().backward()
    out.backward(seed.npu())
    for leaf, other in zip(leaves, wide):
        close(leaf.grad.cpu(), other.grad)
    rows = x.reshape(2, 3, 8)
    close([mean.cpu(), rstd.cpu()], [rows.mean(2), (rows.var(2, unbiased=False) + 1e-5).rsqrt()])


def test_layernorm_grad() -> None:
    x, w, b = torch.randn(4, 5), torch.randn(5), torch.randn(5)
    mean, rstd = x.mean(1, keepdim=True), (x.var(1, unbiased=False, keepdim=True) + 1e-5).rsqrt()
    seed = torch.randn(4, 5)
    leaves = [t.clone().requires_grad_() for t in (x, w, b)]
    (F.layer_norm(leaves[0], (5,), leaves[1], leaves[2]) * seed).sum().backward()
    found = call("npu_layernorm_grad", seed, x, [5], mean, rstd, w, b)
    close(found, [leaf.grad for leaf in leaves])


def test_statistics_of_synchronised_batch_norm() -> None:
    x = torch.randn(4, 3, 5)
    sums = call("batch_norm_reduce", x, 1e-5)
    close(sums, [x.sum((0, 2)), (x * x).sum((0, 2))])
    parts = x[:1], x[1:]
    means = torch.stack([p.mean((0, 2)) for p in parts])
    inverse = torch.stack([(p.var((0, 2), unbiased=False) + 1e-5).rsqrt() for p in parts])
    running = torch.zeros(3), torch.ones(3)
    on_npu = [t.npu() for t in running]
    mean, invstd = torch.ops.npu.batch_norm_gather_stats_update(
        *(x.npu(), means.npu(), inverse.npu(), *on_npu, 0.1, 1e-5, torch.tensor([5, 15]).npu())
    )
    close(mean.cpu(), x.mean((0, 2)))
    close(invstd.cpu(), (x.var((0, 2), unbiased=False) + 1e-5).rsqrt())
    close(on_npu[0].cpu(), 0.1 * x.mean((0, 2)))
    close(on_npu[1].cpu(), 0.9 + 0.1 * x.var((0, 2)))
