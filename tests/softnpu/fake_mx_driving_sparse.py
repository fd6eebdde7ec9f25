"""A fake of mx_driving's sparse layers and of its voxelization; see fake_mx_driving.

Names, parameters and defaults are those of its documentation (Ascend/DrivingSDK,
docs/zh/api/context, April 2026) and code, and so are the limits that it raises for. The
numbers are those of the portable operators, on the CPU.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from mx_autopatch import ops
from mx_autopatch.ops.sparse_conv import indice_conv_backward

#: Calls of the layers below, by name.
calls: Counter[str] = Counter()


class SparseConvTensor:
    def __init__(self, features, indices, spatial_shape, batch_size, grid=None) -> None:
        assert features.device.type == indices.device.type == "npu"
        assert features.dtype in (torch.float32, torch.float16)
        assert indices.dtype == torch.int32
        assert all(type(size) is int for size in spatial_shape)
        self.features, self.indices = features, indices
        self.spatial_shape, self.batch_size, self.grid = spatial_shape, batch_size, grid
        self.indice_dict: dict[Any, Any] = {}

    def find_indice_pair(self, key: Any) -> Any:
        return None if key is None else self.indice_dict.get(key)


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, pairs: Any, num_out: int, subm: bool):
        ctx.given = features.cpu(), weight.cpu()
        ctx.pairs, ctx.subm = pairs, subm
        return ops.indice_conv(*ctx.given, *pairs, num_out).to("npu")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # As the kernel says; the documentation has no such limit.
        assert ctx.subm or all(t.shape[1] % 16 == 0 for t in (ctx.given[0], grad))
        grads = indice_conv_backward(*ctx.given, grad.cpu(), *ctx.pairs)
        return grads[0].to("npu"), grads[1].to("npu"), None, None, None


class _Layer(nn.Module):
    subm = False

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        bias=True,
        indice_key=None,
        mode="mmcv",
    ) -> None:
        super().__init__()
        triple = [v if isinstance(v, list) else [v] * 3 for v in (kernel_size, stride, padding)]
        self.kernel_size, self.stride, self.padding = triple
        assert dilation == groups == 1
        assert mode == "mmcv"
        if self.subm:
            assert triple[:2] in ([[1] * 3, [1] * 3], [[3] * 3, [1] * 3])
        else:
            assert all(1 <= k <= 3 for k in self.kernel_size)
        self.indice_key = indice_key
        self.weight = nn.Parameter(torch.randn(*self.kernel_size, in_channels, out_channels))
        self.bias = nn.Parameter(torch.randn(out_channels)) if bias else None

    def forward(self, input_: SparseConvTensor) -> SparseConvTensor:
        calls[type(self).__name__] += 1
        known = input_.find_indice_pair(self.indice_key) if self.subm else None
        shape, options = list(input_.spatial_shape), (self.kernel_size, self.stride, self.padding)
        if not self.subm:
            assert self.weight.shape[4] % 8 == 0
            assert self.weight.shape[4] <= 1024
            shape = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(shape, *options)]
        if known is None:
            calls["pairs"] += 1
            known = ops.get_indice_pairs(
                input_.indices.cpu(), input_.batch_size, shape, *options, [1] * 3, self.subm
            )
        outids, *pairs = known
        assert len(outids) > 0
        if self.indice_key is not None:
            input_.indice_dict[self.indice_key] = known
        features = _Conv.apply(input_.features, self.weight, pairs, len(outids), self.subm)
        if self.bias is not None:
            features = features + self.bias
        output = SparseConvTensor(features, outids.to("npu"), shape, input_.batch_size)
        output.indice_dict = input_.indice_dict.copy()
        return output


class SubMConv3d(_Layer):
    subm = True


class SparseConv3d(_Layer):
    pass


def voxelization(
    points, voxel_size, coors_range, max_points=-1, max_voxels=-1, deterministic=True, layout="XYZ"
):
    if len(points) == 0:
        raise Exception("Error! Input Tensor can not be a empty Tensor.\n")
    assert points.device.type == "npu"
    assert points.dtype == torch.float32
    assert points.shape[1] >= 3
    limits = voxel_size, coors_range
    if -1 in (max_points, max_voxels):
        calls["dynamic"] += 1
        # (3, N), seen the other way round.
        return ops.dynamic_voxelize(points.cpu(), *limits).T.contiguous().T.to("npu")
    calls["hard"] += 1
    assert max_points <= 1000
    voxels, coors, count = ops.hard_voxelize(points.cpu(), *limits, max_points, max_voxels)
    coors = coors.flip(1) if layout == "XYZ" else coors
    return len(voxels), voxels.to("npu"), coors.to("npu"), count.to("npu")
