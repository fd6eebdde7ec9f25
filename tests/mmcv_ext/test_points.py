"""Points, voxels and their features through the public API of mmcv."""

from __future__ import annotations

import torch
from test_mmcv_ext import needs_mmcv


def cloud(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, generator=g) * 8 - 4


BOXES = torch.tensor([[0.0, 0, -2, 4, 2, 4, 0.5], [2.0, 2, -3, 3, 3, 6, -1.0]])


@needs_mmcv
def test_voxelization_and_scatter_layers(ops):
    points = torch.cat((cloud(200), torch.rand(200, 1)), 1)
    limits = [-4.0, -4, -4, 4, 4, 4]
    layer = ops.Voxelization([2.0, 2, 8], limits, 3, max_voxels=10)
    voxels, coors, count = layer(points)
    assert voxels.shape == (10, 3, 4)
    assert (coors.shape, count.shape) == ((10, 3), (10,))
    every = ops.Voxelization([2.0, 2, 8], limits, -1)(points)
    assert every.shape == (200, 3)
    features = points.clone().requires_grad_()
    for average in (True, False):
        scatter = ops.DynamicScatter([2.0, 2, 8], limits, average)
        rows, where = scatter(features, every)
        assert (rows.shape, where.shape) == ((16, 4), (16, 3))
        rows.sum().backward()
    images = torch.nn.functional.pad(every, (1, 0))
    images[100:, 0] = 1
    rows, where = scatter(features, images)
    assert where.shape == (len(rows), 4)
    assert where[:, 0].unique().tolist() == [0, 1]


@needs_mmcv
def test_pooling_layers(ops):
    points, features = cloud(300), torch.rand(300, 5)
    inside = ops.points_in_boxes_cpu(points[None], BOXES[None])[0].bool()
    assert inside.any(0).all()
    for mode in ("max", "avg"):
        leaf = features.clone().requires_grad_()
        pooled = ops.RoIAwarePool3d(1, 128, mode)(BOXES, points, leaf)
        for k, row in enumerate(pooled.view(2, 5)):
            own = features[inside[:, k]]
            torch.testing.assert_close(row, own.amax(0) if mode == "max" else own.mean(0))
        pooled.sum().backward()
        torch.testing.assert_close(leaf.grad.sum(), torch.tensor(10.0))
        assert not leaf.grad[~inside.any(1)].any()
    sampled, empty = ops.RoIPointPool3d(7)(points[None], features[None], BOXES[None])
    assert sampled.shape == (1, 2, 7, 8)
    assert not empty.any()
    assert torch.equal(sampled[0, 0, 0, 3:], features[inside[:, 0]][0])
