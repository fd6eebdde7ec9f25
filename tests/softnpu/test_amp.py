"""Automatic mixed precision on the soft NPU: autocast and the scalers of gradients."""

from __future__ import annotations

import io
from typing import Any, Callable

import pytest
import torch
from torch import Tensor, nn, npu


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_chooses_the_dtypes_and_gives_gradients_in_float32(dtype: torch.dtype) -> None:
    linear, conv = nn.Linear(4, 4).npu(), nn.Conv2d(1, 2, 3).npu()
    x = torch.randn(2, 4, device="npu")
    assert not torch.is_autocast_enabled("npu")
    with torch.autocast("npu", dtype):
        assert torch.is_autocast_enabled("npu")
        assert torch.get_autocast_dtype("npu") == dtype
        y = linear(x)
        assert y.dtype == dtype
        assert (y @ y.t()).dtype == dtype
        assert conv(torch.randn(1, 1, 4, 4, device="npu")).dtype == dtype
        assert torch.softmax(y, -1).dtype == torch.float32
        assert nn.functional.mse_loss(y, y).dtype == torch.float32
        assert (y + x).dtype == torch.float32
        with torch.autocast("npu", enabled=False):
            assert linear(x).dtype == torch.float32
        loss = y.float().square().mean()
    loss.backward()
    assert linear.weight.grad is not None
    assert linear.weight.grad.dtype == torch.float32
    expected = linear(x).square().mean()
    torch.testing.assert_close(loss, expected, rtol=2e-2, atol=1e-3)


def test_the_other_spellings_of_autocast() -> None:
    linear, x = nn.Linear(4, 4).npu(), torch.randn(2, 4, device="npu")
    with npu.amp.autocast():
        assert linear(x).dtype == torch.float16
    with npu.amp.autocast(dtype=torch.bfloat16):
        assert linear(x).dtype == torch.bfloat16
    with torch.amp.autocast("npu"):
        assert linear(x).dtype == torch.float16

    @torch.amp.custom_fwd(device_type="npu", cast_inputs=torch.float32)
    def in_single(x: Tensor) -> Tensor:
        return x

    with torch.autocast("npu"):
        assert in_single(linear(x)).dtype == torch.float32


SCALERS: list[Callable[[], Any]] = [lambda: torch.amp.GradScaler("npu"), npu.amp.GradScaler]


@pytest.mark.parametrize("make", SCALERS, ids=["torch.amp", "torch_npu"])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.filterwarnings("ignore:.*Gradient overflow")
def test_a_scaler_steps_and_skips_the_step_of_what_overflows(
    make: Callable[[], Any], optimizer: Callable[..., torch.optim.Optimizer]
) -> None:
    linear = nn.Linear(4, 4).npu()
    stepper, scaler = optimizer(linear.parameters(), lr=0.1), make()
    x = torch.randn(2, 4, device="npu")
    scale, weight = scaler.get_scale(), linear.weight.detach().clone()
    with torch.autocast("npu", torch.float16):
        loss = linear(x).float().square().mean()
    scaler.scale(loss).backward()
    scaler.unscale_(stepper)
    gradient = linear.weight.grad
    assert gradient is not None
    (expected,) = torch.autograd.grad(linear(x).square().mean(), linear.weight)
    torch.testing.assert_close(gradient, expected, rtol=2e-2, atol=2e-3)
    nn.utils.clip_grad_norm_(linear.parameters(), 1.0)
    scaler.step(stepper)
    scaler.update()
    assert not torch.equal(linear.weight, weight)
    assert scaler.get_scale() == scale

    for bad in (float("inf"), float("nan")):
        weight = linear.weight.detach().clone()
        stepper.zero_grad()
        scaler.scale(linear(x).sum() * bad).backward()
        scaler.step(stepper)
        scaler.update()
        assert torch.equal(linear.weight, weight)
        scale /= 2
        assert scaler.get_scale() == scale


def test_a_scaler_grows_again() -> None:
    linear = nn.Linear(2, 1).npu()
    stepper = torch.optim.SGD(linear.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("npu", init_scale=8.0, growth_interval=2)
    for expected in (8.0, 16.0, 16.0, 32.0):
        stepper.zero_grad()
        scaler.scale(linear(torch.ones(1, 2, device="npu")).sum()).backward()
        scaler.step(stepper)
        scaler.update()
        assert scaler.get_scale() == expected


@pytest.mark.parametrize("make", SCALERS, ids=["torch.amp", "torch_npu"])
def test_the_state_of_a_scaler_is_saved(make: Callable[[], Any]) -> None:
    scaler, file = make(), io.BytesIO()
    scaler.scale(torch.ones(1, device="npu"))
    torch.save(scaler.state_dict(), file)
    file.seek(0)
    other = make()
    other.load_state_dict({**torch.load(file), "scale": 4.0})
    assert other.scale(torch.ones(1, device="npu")).item() == 4.0


def test_overflow_is_checked_on_the_numbers() -> None:
    """As on a 910B, which has no flag of overflow that could be asked."""
    check = npu.utils.npu_check_overflow
    assert check(torch.tensor([float("inf")], device="npu"))
    assert check(torch.tensor([float("nan")], device="npu"))
    assert not check(torch.ones(2, device="npu"))
    with pytest.raises(RuntimeError, match="please use npu_check_overflow"):
        npu.get_npu_overflow_flag()
