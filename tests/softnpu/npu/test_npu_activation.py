"""Activations against their formulas, written out."""

from __future__ import annotations

import math

import pytest
import torch
from npu_calls import agrees, call, close
from torch import Tensor


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def erf_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def tanh_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


X = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["fast_gelu", "npu_fast_gelu"])
def test_fast_gelu(name: str) -> None:
    # As documented, with an exponential that cannot overflow.
    def plain(x: Tensor) -> Tensor:
        return x / (1 + torch.exp(-1.702 * x.abs())) * torch.exp(0.851 * (x - x.abs()))

    agrees(name, plain, [X])


def test_gelu() -> None:
    agrees("npu_gelu", erf_gelu, [X])
    agrees("npu_gelu", tanh_gelu, [X], approximate="tanh")


def test_silu_and_mish() -> None:
    agrees("npu_silu", lambda x: x * sigmoid(x), [X])
    agrees("npu_mish", lambda x: x * torch.tanh(torch.log1p(torch.exp(x))), [X])


def test_silu_in_place() -> None:
    x = X.clone().npu()
    y = torch.ops.npu.npu_silu_(x)
    assert y.data_ptr() == x.data_ptr()
    close(x.cpu(), X * sigmoid(X))


@pytest.mark.parametrize("dim", [-1, 1])
def test_swiglu(dim: int) -> None:
    def plain(x: Tensor) -> Tensor:
        half = x.size(dim) // 2
        left, right = x.narrow(dim, 0, half), x.narrow(dim, half, half)
        return left * sigmoid(left) * right

    agrees("npu_swiglu", plain, [X], dim=dim)


@pytest.mark.parametrize("activate_left", [False, True])
@pytest.mark.parametrize("approximate", [0, 1])
def test_geglu(approximate: int, activate_left: bool) -> None:
    gelu = tanh_gelu if approximate else erf_gelu

    def plain(x: Tensor) -> Tensor:
        left, right = x[..., :3], x[..., 3:]
        return gelu(left) * right if activate_left else left * gelu(right)

    found = agrees(
        "npu_geglu", plain, [X], dim=-1, approximate=approximate, activate_left=activate_left
    )
    close(found[1].detach(), gelu(X[..., :3] if activate_left else X[..., 3:]))


def test_gelu_mul() -> None:
    agrees("npu_gelu_mul", lambda x: erf_gelu(x[..., :3]) * x[..., 3:], [X], backward=False)


def test_clipped_swiglu_takes_rows_as_a_whole() -> None:
    x = torch.randn(4, 2, 6) * 8
    rows = x.reshape(4, 12)
    a, b = rows[:, ::2].clamp(max=7), rows[:, 1::2].clamp(-7, 7)
    expected = a * sigmoid(1.702 * a) * (b + 1)
    close(call("npu_clipped_swiglu", x, dim=1), expected.reshape(4, 1, 6))
    groups = torch.tensor([1, 2])
    found = call("npu_clipped_swiglu", x, dim=1, group_index=groups)
    close(found[:3], expected.reshape(4, 1, 6)[:3])
    assert not found[3].any()


def test_half_precision_is_computed_in_float32_and_returned_as_it_came() -> None:
    x = (torch.randn(64) * 4).half()
    found = call("npu_fast_gelu", x)
    assert found.dtype == torch.float16
    assert torch.equal(found, (x.float() * sigmoid(1.702 * x.float())).half())
