"""The kernels for NPUs under the operators of driving projects.

mx_driving is a fake here that checks what the real one documents; see fake_mx_driving.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Callable

import pytest
import torch
from test_bindings import assert_as_portable
from torch import Tensor

from mx_autopatch import ops
from mx_autopatch.ops.npu import _mx_driving
from mx_autopatch.softnpu.npu.reference import vjp

SIZE = (2, 2, 3, 4)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def on_cpu(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """An autograd.Function of the floating tensors, as those of mx_driving are."""

    class Native(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *given: Tensor) -> Tensor:
            assert all(t.device.type == "npu" for t in given)
            assert all(t.dtype in (torch.float32, torch.int32) for t in given)
            ctx.given = [t.cpu() for t in given]
            return function(*ctx.given).to("npu")

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
            grads = vjp(function, ctx.given, [grad.cpu()])
            return tuple(None if g is None else g.to("npu") for g in grads)

    return Native.apply(*tensors)


class Fake:
    """Names, order and limits of Ascend/DrivingSDK, docs/zh/api/context, April 2026."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def bev_pool(self, feat, geom_feat, B, D, H, W):
        self.calls["bev_pool"] += 1
        assert max(B, D) <= 8
        assert max(H, W) <= 256
        limits = torch.tensor((H, W, D, B))
        assert ((geom_feat.cpu() >= 0) & (geom_feat.cpu() < limits)).all()
        return on_cpu(lambda f, g: ops.bev_pool(f, g, B, D, H, W), feat, geom_feat)

    def bev_pool_v3(self, depth, feat, ranks_depth, ranks_feat, ranks_bev, bev_feat_shape):
        self.calls["bev_pool_v3"] += 1
        channels = bev_feat_shape[4]
        assert depth.dim() == feat.dim() == 5
        assert channels % 8 == 0
        assert channels <= 360
        cells = torch.Size(bev_feat_shape[:4]).numel()
        assert ((ranks_bev.cpu() >= 0) & (ranks_bev.cpu() < cells)).all()
        ranks = ranks_depth, ranks_feat, ranks_bev
        return on_cpu(lambda *t: ops.bev_pool_v2(*t, bev_feat_shape), depth, feat, *ranks)

    def deformable_aggregation(
        self, feature_maps, spatial_shape, scale_start_index, sample_locations, weight
    ):
        self.calls["deformable_aggregation"] += 1
        assert weight.shape[5] == 8
        assert feature_maps.shape[2] // 8 % 8 == 0
        tables = spatial_shape, scale_start_index
        return on_cpu(ops.deformable_aggregation, feature_maps, *tables, sample_locations, weight)


@pytest.fixture
def mx_driving(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setattr(_mx_driving, "_module", lambda: fake)
    return fake


def coordinates() -> Tensor:
    """Some are outside of the grid."""
    return torch.stack([torch.randint(-1, n + 1, (40,)) for n in (3, 4, 2, 2)], 1)


def pooled(feats: Tensor, coords: Tensor) -> Tensor:
    return ops.bev_pool(feats, coords, *SIZE)


def v2_tensors(channels: int = 8) -> list[Tensor]:
    ranks = torch.randperm(48)[:30], torch.randint(0, 8, (30,)), torch.randint(-1, 49, (30,))
    return [torch.rand(1, 2, 6, 2, 2), torch.randn(1, 2, 2, 2, channels), *ranks]


def pooled_v2(depth: Tensor, feat: Tensor, *ranks: Tensor) -> Tensor:
    return ops.bev_pool_v2(depth, feat, *ranks, (*SIZE, feat.shape[-1]))


def aggregation_tensors(channels: int = 64) -> list[Tensor]:
    shapes = torch.tensor([[[3, 4], [2, 2]], [[2, 3], [1, 1]]])
    starts = torch.tensor([[0, 12], [16, 22]])
    maps, locations = torch.randn(2, 23, channels), torch.rand(2, 3, 2, 2, 2) * 1.5 - 0.25
    return [maps, shapes, starts, locations, torch.randn(2, 3, 2, 2, 2, 8)]


def test_mx_driving_comes_first(mx_driving: Fake) -> None:
    assert_as_portable(pooled, [torch.randn(40, 5), coordinates()])
    assert_as_portable(pooled_v2, v2_tensors())
    assert_as_portable(ops.deformable_aggregation, aggregation_tensors(), 1e-4)
    # The forward pass is not calculated again for the backward pass.
    assert mx_driving.calls == {"bev_pool": 1, "bev_pool_v3": 1, "deformable_aggregation": 1}


def test_the_portable_ones_have_what_it_does_not_cover(mx_driving: Fake) -> None:
    coords = coordinates()
    assert_as_portable(pooled, [torch.randn(40, 5, dtype=torch.float64), coords])
    assert_as_portable(pooled, [torch.randn(40, 5), torch.full((40, 4), 9)])
    assert_as_portable(lambda f, c: ops.bev_pool(f, c, 1, 9, 2, 2), [torch.randn(40, 5), coords])
    assert_as_portable(pooled_v2, v2_tensors(channels=6))
    assert_as_portable(ops.deformable_aggregation, aggregation_tensors(channels=32), 1e-4)
    assert not mx_driving.calls


def test_without_mx_driving() -> None:
    assert_as_portable(pooled, [torch.randn(40, 5), coordinates()])
    assert_as_portable(pooled_v2, v2_tensors())
    assert_as_portable(ops.deformable_aggregation, aggregation_tensors(), 1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(mx_driving: Fake, dtype: torch.dtype) -> None:
    tolerance = 4 * torch.finfo(dtype).eps

    def half(tensors: list[Tensor]) -> list[Tensor]:
        return [t.to(dtype) if t.is_floating_point() else t for t in tensors]

    assert_as_portable(pooled, half([torch.randn(40, 5), coordinates()]), tolerance)
    assert_as_portable(pooled_v2, half(v2_tensors()), tolerance)
    assert len(mx_driving.calls) == 2


def test_who_calls_the_backward_operators(mx_driving: Fake) -> None:
    """As the projects' own autograd.Functions do, by the compiled module's function."""
    from mx_autopatch.provided.projects import bev_pool_v2 as ext
    from mx_autopatch.provided.projects import deformable_aggregation as aggregation

    depth, feat, *ranks = v2_tensors()
    grad = torch.randn(*SIZE, 8)
    results = []
    for device in ("cpu", "npu"):
        moved = [t.to(device) for t in (depth, feat, *ranks)]
        grads = [torch.zeros_like(t) for t in moved[:2]]
        ext.bev_pool_v2_backward(grad.to(device), *grads, *moved, moved[4], moved[4])
        results.append([g.cpu() for g in grads])
    torch.testing.assert_close(*results)
    tensors, grad = aggregation_tensors(), torch.randn(2, 3, 64)
    results = []
    for device in ("cpu", "npu"):
        moved = [t.to(device) for t in tensors]
        grads = [torch.zeros_like(moved[i]) for i in (0, 3, 4)]
        aggregation.deformable_aggregation_backward(*moved, grad.to(device), *grads)
        results.append([g.cpu() for g in grads])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
    assert mx_driving.calls == {"bev_pool_v3": 1, "deformable_aggregation": 1}
