"""A transformer block out of torch_npu's operators trains as one out of torch's does."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
import torch_npu
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Plain(nn.Module):
    """Attention and a gated layer, each after RMS norm, by torch alone."""

    keep = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(16))
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.up, self.down = nn.Linear(16, 64), nn.Linear(32, 16)

    def norm(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (16,), self.gamma, 1e-6)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads = [t.unflatten(2, (2, 8)).transpose(1, 2) for t in (q, k, v)]
        return F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)

    def gate(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, -1)
        return F.silu(left) * right

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.out(self.attend(*self.qkv(self.norm(x)).chunk(3, -1)))
        return x + self.down(self.gate(self.up(self.norm(x))))


class Fused(Plain):
    """The same by torch_npu's operators."""

    def norm(self, x: Tensor) -> Tensor:
        return torch_npu.npu_rms_norm(x, self.gamma)[0]

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch_npu.npu_fusion_attention(
            *(q, k, v, 2, "BSH"), scale=8**-0.5, keep_prob=self.keep
        )[0]

    def gate(self, x: Tensor) -> Tensor:
        return torch_npu.npu_swiglu(x)


@pytest.fixture(autouse=True)
def _of_torch_npus_own() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*TypedStorage is deprecated")
        warnings.filterwarnings("ignore", category=FutureWarning)
        yield


def test_losses_are_those_of_the_cpu() -> None:
    losses = []
    for kind, device, optimizer in (
        (Plain, "cpu", torch.optim.AdamW),
        (Fused, "npu", torch_npu.optim.NpuFusedAdamW),
    ):
        torch.manual_seed(0)
        model = kind().to(device)
        steps = optimizer(model.parameters(), lr=1e-2)
        x, y = torch.randn(2, 4, 8, 16).to(device)
        losses.append([])
        for _ in range(5):
            steps.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()
            steps.step()
            losses[-1].append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_with_mixed_precision_dropout_and_checkpoints() -> None:
    torch.manual_seed(0)
    model = Fused().npu()
    model.keep = 0.9
    steps = torch_npu.optim.NpuFusedAdamW(model.parameters(), lr=1e-2)
    scaler = torch.npu.amp.GradScaler()
    x, y = torch.randn(2, 4, 8, 16).npu()
    losses = []
    for _ in range(20):
        steps.zero_grad()
        with torch.autocast("npu", torch.float16):
            out = checkpoint(model, x, use_reentrant=False)
            loss = (out.float() - y).square().mean()
        scaler.scale(loss).backward()
        scaler.unscale_(steps)
        steps.clip_grad_norm_fused_(1.0)
        scaler.step(steps)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert scaler.get_scale() == 65536.0  # no step was lost
