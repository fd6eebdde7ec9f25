"""The sparse convolution layers of mmcv run and train."""

from __future__ import annotations

import pytest
import torch
from test_mmcv_ext import needs_mmcv
from torch import nn
from torch.nn import functional as F

# mmcv's scatter_nd, behind SparseConvTensor.dense().
pytestmark = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")


def sparse_tensor(ops, shape, channels=4, batch=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    cells = (torch.rand(batch, *shape, generator=g) < 0.3).nonzero().int()
    features = torch.randn(len(cells), channels, generator=g)
    return ops.SparseConvTensor(features, cells, list(shape), batch)


def kernel(layer):
    dims = layer.weight.dim() - 2
    return layer.weight.permute(dims + 1, dims, *range(dims))


@needs_mmcv
@pytest.mark.parametrize("dims", [2, 3])
def test_convolution_of_a_dense_grid(ops, dims):
    x = sparse_tensor(ops, (5, 6, 7)[:dims])
    layer = getattr(ops, f"SparseConv{dims}d")(4, 5, 3, stride=2, padding=1)
    got = layer(x)
    convolution = (F.conv2d, F.conv3d)[dims - 2]
    want = convolution(x.dense(), kernel(layer), layer.bias, 2, 1)
    active = convolution(x.dense().ne(0).float(), torch.ones_like(kernel(layer)), None, 2, 1) > 0
    assert got.spatial_shape == list(want.shape[2:])
    torch.testing.assert_close(got.dense(), torch.where(active[:, :1], want, 0.0))


@needs_mmcv
def test_layers_that_share_indices(ops):
    x = sparse_tensor(ops, (5, 6, 7))
    first = ops.SubMConv3d(4, 4, 3, bias=False, indice_key="a")
    second = ops.SubMConv3d(4, 4, 3, bias=False, indice_key="a")
    down = ops.SparseConv3d(4, 6, 3, stride=2, padding=1, bias=False, indice_key="b")
    up = ops.SparseInverseConv3d(6, 4, 3, bias=False, indice_key="b")
    y = second(first(x))
    assert set(x.indice_dict) == {"a"}
    mask = x.dense().ne(0).any(1, keepdim=True)
    want = x.dense()
    for layer in (first, second):
        want = torch.where(mask, F.conv3d(want, kernel(layer), None, 1, 1), 0.0)
    torch.testing.assert_close(y.dense(), want, rtol=1e-4, atol=1e-5)
    z = up(down(y))
    assert torch.equal(z.indices, x.indices)
    assert z.spatial_shape == [5, 6, 7]
    assert z.features.shape == x.features.shape


@needs_mmcv
def test_transposed_convolution_pooling_and_four_dimensions(ops):
    x = sparse_tensor(ops, (4, 5, 3))
    layer = ops.SparseConvTranspose3d(4, 5, 3, stride=2, padding=1)
    got = layer(x)
    want = F.conv_transpose3d(
        x.dense(), kernel(layer).transpose(0, 1), layer.bias, stride=2, padding=1
    )
    assert got.spatial_shape == list(want.shape[2:])
    cells = tuple(got.indices.long().T)
    torch.testing.assert_close(got.features, want.movedim(1, -1)[cells], rtol=1e-4, atol=1e-5)
    pooled = ops.SparseMaxPool3d(2, 2)(x)
    cells = tuple(pooled.indices.long().T)
    want = F.max_pool3d(x.dense(), 2, 2).clamp(min=0)
    torch.testing.assert_close(pooled.features, want.movedim(1, -1)[cells])
    x = sparse_tensor(ops, (3, 4, 3, 2))
    assert ops.sparse_conv.SubMConv4d(4, 5, 3)(x).features.shape == (len(x.features), 5)
    assert ops.sparse_conv.SparseConv4d(4, 5, 2)(x).spatial_shape == [2, 3, 2, 1]


@needs_mmcv
def test_training(ops):
    torch.manual_seed(0)
    x = sparse_tensor(ops, (6, 6, 6))
    net = ops.SparseSequential(
        ops.SubMConv3d(4, 8, 3, padding=1, bias=False, indice_key="a"),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        ops.SparseConv3d(8, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        ops.SparseMaxPool3d(2),
        ops.sparse_modules.ToDense(),
    )
    target = torch.rand(2, 8, 2, 2, 2)
    optimizer = torch.optim.Adam(net.parameters(), 0.05)
    losses = []
    for _ in range(30):
        loss = F.mse_loss(net(x), target)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad.isfinite().all() for p in net.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@needs_mmcv
def test_given_grid_fused_bias_and_half(ops):
    from mx_autopatch import mmcv_ext

    x = sparse_tensor(ops, (5, 6, 7))
    layer = ops.SparseConv3d(4, 5, 3, stride=2, padding=1)
    want = layer(x)
    grid = torch.full((2 * 3 * 3 * 4,), -1, dtype=torch.int32)
    y = ops.SparseConvTensor(x.features, x.indices, x.spatial_shape, 2, grid)
    torch.testing.assert_close(layer(y).features, want.features)
    assert grid.eq(-1).all()
    shapes = [3, 3, 4], [5, 6, 7]
    options = [3] * 3, [2] * 3, [1] * 3, [1] * 3, [0] * 3
    outids, *pairs = mmcv_ext.get_indice_pairs_3d_forward(x.indices, 2, *shapes, *options, 0, 0)
    tensors = x.features.half(), layer.weight.half(), layer.bias.half()
    fused = mmcv_ext.fused_indice_conv_forward(*tensors, *pairs, len(outids), 0, 0)
    assert fused.dtype == torch.float16
    torch.testing.assert_close(fused.float(), want.features, rtol=1e-2, atol=1e-2)


@needs_mmcv
def test_pairs_of_a_smaller_kernel(ops):
    """As in mmdet3d's Cylinder3D: so many elements of the kernel count as there are pairs of."""
    x = sparse_tensor(ops, (5, 6, 7))
    small = ops.SubMConv3d(4, 4, (1, 3, 3), bias=False, indice_key="a")
    large = ops.SubMConv3d(4, 4, 3, bias=False, indice_key="a")
    y = large(small(x))
    mask = x.dense().ne(0).any(1, keepdim=True)
    want = x.dense()
    for weight in (kernel(small), kernel(large)[:, :, :1]):
        want = torch.where(mask, F.conv3d(want, weight, None, 1, (0, 1, 1)), 0.0)
    torch.testing.assert_close(y.dense(), want, rtol=1e-4, atol=1e-5)
    y.features.sum().backward()
    assert large.weight.grad[0].any()
    assert not large.weight.grad[1:].any()
