"""Mixtures of experts, products in groups, integer arithmetic, and gradients under own names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from npu_calls import call, close
from torch import Tensor

from mx_autopatch.errors import SoftNpuError


def test_gating() -> None:
    x = torch.randn(5, 6)
    finished = torch.tensor([False, True, False, False, False])
    y, experts, rows = call("npu_moe_gating_top_k_softmax", x, finished, 2)
    shares = torch.softmax(x, 1)
    expected = shares.topk(2, 1)
    close(y, expected.values)
    assert torch.equal(experts[~finished].long(), expected.indices[~finished])
    assert experts[1].tolist() == [6, 6]
    assert rows.tolist() == [[i, 5 + i] for i in range(5)]


def test_routing_there_and_back() -> None:
    """A mixture of experts whose experts scale by a number, against the plain sum."""
    x, logits = torch.randn(7, 4), torch.randn(7, 5)
    y, experts, rows = call("npu_moe_gating_top_k_softmax", logits, None, 2)
    tokens, places, order = call("npu_moe_init_routing", x, rows, experts, 7)
    counts = call("npu_moe_compute_expert_tokens", order, 5)
    assert counts.tolist() == [int((experts <= e).sum()) for e in range(5)]
    matrices = torch.randn(5, 4, 4)
    made = call(
        *("npu_grouped_matmul", [tokens], [matrices]),
        group_list=counts.long(),
        split_item=2,
        group_type=0,
    )[0]
    bias, skip = torch.randn(5, 4), torch.randn(7, 4)
    found = call("npu_moe_finalize_routing", made, skip, None, bias, y, places, experts)
    expected = skip.clone()
    for i in range(7):
        for j in range(2):
            e = int(experts[i, j])
            expected[i] += y[i, j] * (x[i] @ matrices[e] + bias[e])
    close(found, expected)


@pytest.mark.parametrize("each", [1, 2])
def test_permuting_tokens_and_back_with_gradients(each: int) -> None:
    x = torch.randn(6, 4)
    experts = torch.randint(0, 3, (6, each)) if each > 1 else torch.randint(0, 3, (6,))
    probs = torch.rand(6, each) if each > 1 else None
    leaf = x.npu().requires_grad_()
    tokens, places = torch.ops.npu.npu_moe_token_permute(leaf, experts.npu())
    order = experts.flatten().argsort(stable=True)
    close(tokens.detach().cpu(), x[order // each])
    shares = None if probs is None else probs.npu().requires_grad_()
    out = torch.ops.npu.npu_moe_token_unpermute(tokens * 2, places, shares)
    total = 1.0 if probs is None else probs.sum(1, keepdim=True)
    close(out.detach().cpu(), x * 2 * total)
    seed = torch.randn(6, 4)
    out.backward(seed.npu())
    close(leaf.grad.cpu(), seed * 2 * total)
    if probs is not None:
        close(shares.grad.cpu(), (seed * x * 2).sum(1, keepdim=True).expand(6, each))


def test_permuting_drops_what_is_too_much() -> None:
    x, experts = torch.randn(4, 3), torch.tensor([1, 0, 1, 0])
    tokens, places = call("npu_moe_token_permute", x, experts, 3)
    close(tokens, x[[1, 3, 0]])
    found = call("npu_moe_token_unpermute", tokens, places)
    close(found, x * torch.tensor([[1.0], [1], [0], [1]]))


def test_groups_of_products() -> None:
    x, w = [torch.randn(2, 3), torch.randn(4, 5)], [torch.randn(3, 6), torch.randn(5, 2)]
    b = [torch.randn(6), torch.randn(2)]
    found = call("npu_grouped_matmul", x, w, bias=b, group_type=-1)
    close(found, [x[i] @ w[i] + b[i] for i in range(2)])
    y, m = torch.randn(5, 3), [torch.randn(3, 2), torch.randn(3, 2)]
    sizes = torch.tensor([1, 3])
    found = call(
        *("npu_grouped_matmul", [y], m),
        group_list=sizes,
        group_list_type=1,
        split_item=3,
        group_type=0,
    )
    close(found[0], torch.cat((y[:1] @ m[0], y[1:4] @ m[1], torch.zeros(1, 2))))
    with pytest.raises(SoftNpuError, match="npu_grouped_matmul: group_type 2"):
        call("npu_grouped_matmul", x, w, group_type=2)


# ---- integers ----------------------------------------------------------------------------------


def test_quantising_and_back() -> None:
    x, scales = torch.randn(3, 4), torch.rand(4) + 0.1
    found = call("npu_quantize", x, scales, torch.tensor([3]).int(), 12, 1)
    expected = np.clip(np.rint(x.numpy() / scales.numpy() + 3), -128, 127)
    assert found.dtype == torch.int8
    assert np.array_equal(found.numpy(), expected)
    back = call("npu_anti_quant", found, scales, offset=torch.full((4,), -3.0))
    assert back.dtype == torch.float16
    assert (back.float() - x).abs().max() < 0.6 * scales.max()


def test_dynamic_quantisation_by_row() -> None:
    x = torch.randn(2, 3, 8) * 5
    y, scale = call("npu_dynamic_quant", x)
    close(scale, x.abs().amax(-1) / 127)
    assert y.abs().amax(-1).unique().tolist() == [127]
    assert (y * scale[..., None] - x).abs().max() <= scale.max() * 0.51


def test_products_of_integers() -> None:
    a = torch.randint(-128, 128, (4, 40), dtype=torch.int8)
    b = torch.randint(-128, 128, (40, 5), dtype=torch.int8)
    whole = a.long() @ b.long()
    scale, token = torch.rand(5) * 1e-3, torch.rand(4)
    bias = torch.randint(-99, 99, (5,), dtype=torch.int32)
    found = call("npu_quant_matmul", a, b, scale, bias=bias, output_dtype=3)
    assert torch.equal(found, (whole + bias).int())
    found = call("npu_quant_matmul", a, b, scale, pertoken_scale=token, output_dtype=15)
    close(found, (whole * scale * token[:, None]).bfloat16())
    found = call("npu_quant_matmul", a, b, scale, offset=torch.full((5,), 2.0))
    close(found, (whole.double() * scale.double() + 2).round().clamp(-128, 127).to(torch.int8))
    with pytest.raises(SoftNpuError, match="npu_quant_matmul: argument y_scale"):
        call("npu_quant_matmul", a, b, scale, y_scale=torch.zeros(1))


def test_product_with_an_integer_weight() -> None:
    x, w = torch.randn(3, 8).half(), torch.randint(-128, 128, (8, 5), dtype=torch.int8)
    scale, offset = torch.rand(5) * 0.01, torch.randn(5)
    expected = x.float() @ ((w + offset) * scale)
    close(call("npu_weight_quant_batchmatmul", x, w, scale.half(), offset.half()), expected, 1e-2)
    groups = torch.rand(2, 5) * 0.01
    found = call("npu_weight_quant_batchmatmul", x, w, groups, antiquant_group_size=4)
    close(found, x.float() @ (w * groups.repeat_interleave(4, 0)), 2e-3)


# ---- gradients of torch's operators, under torch_npu's names ------------------------------------


def gradient(function: Any, x: Tensor, seed: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    (function(leaf) * seed).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize(("number", "reduction"), [(0, "none"), (1, "mean"), (2, "sum")])
def test_gradients_of_losses(number: int, reduction: str) -> None:
    x, y = torch.randn(3, 4), torch.rand(3, 4)
    seed = torch.randn(3, 4) if reduction == "none" else torch.randn(())
    weight, positive = torch.rand(4), torch.rand(4)

    def bce(a: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(a, y, weight, None, None, reduction, positive)

    found = call(
        *("npu_binary_cross_entropy_with_logits_backward", seed, x, y, weight, positive, number)
    )
    close(found, gradient(bce, x, seed))
    found = call("l1_loss_backward", seed, x, y, number)
    close(found, gradient(lambda a: F.l1_loss(a, y, reduction=reduction), x, seed))
    found = call("kl_div_backward", seed, x, y, number)
    close(found, gradient(lambda a: torch.kl_div(a, y, number), x, seed))
    found = call("kl_div_target_backward", seed, x, y, number)
    close(found, gradient(lambda t: torch.kl_div(x, t, number), y, seed))


def test_gradients_of_repetition_and_renormalisation() -> None:
    x, counts = torch.randn(3, 4), torch.tensor([2, 0, 3])
    seed = torch.randn(3, 8)
    close(
        call("repeat_interleave_backward_int", seed, x, 2, 1),
        gradient(lambda a: a.repeat_interleave(2, 1), x, seed),
    )
    seed = torch.randn(5, 4)
    close(
        call("repeat_interleave_backward_tensor", seed, x, counts, 0),
        gradient(lambda a: a.repeat_interleave(counts, 0), x, seed),
    )
    seed = torch.randn(3, 4)
    close(
        call("npu_renorm_backward", seed, x, 2, 0, 1.0),
        gradient(lambda a: torch.renorm(a, 2, 0, 1.0), x, seed),
    )


@pytest.mark.parametrize("size", [6, 7])
def test_gradients_of_transforms(size: int) -> None:
    x = torch.randn(2, size)
    spectrum = torch.randn(2, size // 2 + 1, dtype=torch.complex64)
    leaf = x.clone().requires_grad_()
    torch.fft.rfft(leaf).backward(spectrum)
    close(call("fft_r2c_backward", spectrum, [1], 0, True, size), leaf.grad)
    other = spectrum.clone().requires_grad_()
    torch.fft.irfft(other, n=size, norm="forward").backward(x)
    found = call("fft_c2r_backward", x, [1], 0)
    close([found.real, found.imag], [other.grad.real, other.grad.imag])


def test_gradient_of_a_short_time_transform() -> None:
    x, window = torch.randn(2, 20), torch.hann_window(8)
    leaf = x.clone().requires_grad_()
    out = torch.stft(leaf, 8, 4, 8, window, center=False, return_complex=True)
    seed = torch.randn_like(out)
    out.backward(seed)
    found = call("stft_backward", seed, x, 8, 4, 8, window, False, True, True)
    close(found, leaf.grad)


def test_gradients_of_convolutions_with_other_names() -> None:
    x, w, b = torch.randn(1, 4, 6, 6), torch.randn(2, 4, 3, 3), torch.randn(2)
    leaves = [t.clone().requires_grad_() for t in (x, w, b)]
    out = F.conv2d(*leaves, dilation=2)
    seed = torch.randn_like(out)
    out.backward(seed)
    sizes = [3, 3], [1, 1], [0, 0]
    found = call("slow_conv_dilated2d_backward", seed, x, w, *sizes, [2, 2], [True] * 3)
    close(found, [leaf.grad for leaf in leaves])
    w = torch.randn(4, 2, 3, 3)
    leaves = [t.clone().requires_grad_() for t in (x, w, b)]
    out = F.conv_transpose2d(*leaves)
    seed = torch.randn_like(out)
    out.backward(seed)
    found = call("slow_conv_transpose2d_backward", seed, x, w, *sizes, [0, 0], [1, 1], [True] * 3)
    close(found, [leaf.grad for leaf in leaves])
    w = torch.randn(4, 1, 3, 3)
    leaves = [t.clone().requires_grad_() for t in (x, w)]
    out = F.conv2d(*leaves, groups=4)
    seed = torch.randn_like(out)
    out.backward(seed)
    found = call("_conv_depthwise2d_backward", seed, x, w, *sizes, [1, 1], [True, True])
    close(found, [leaf.grad for leaf in leaves])
