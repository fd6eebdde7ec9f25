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


@needs_mmcv
def test_neighbours(ops):
    points, centres = (
        torch.stack((cloud(40), cloud(40, 1))),
        torch.stack((cloud(6, 2), cloud(6, 3))),
    )
    index = ops.ball_query(0, 3.0, 5, points, centres)
    assert (index.shape, index.dtype) == ((2, 6, 5), torch.int32)
    count, asked = torch.tensor([40, 40]).int(), torch.tensor([6, 6]).int()
    stacked = ops.ball_query(
        0, 3.0, 5, points.flatten(0, 1), centres.flatten(0, 1), count, asked
    ).view(2, 6, 5)
    found = stacked[..., 0] >= 0
    assert torch.equal(stacked[found], index[found])
    distance, nearest = ops.three_nn(centres, points)
    square = (centres[:, :, None] - points[:, None]).square().sum(-1)
    torch.testing.assert_close(distance, square.sqrt().sort(2)[0][..., :3])
    assert torch.equal(nearest.long(), square.argsort(2)[..., :3])
    dist1, dist2, idx1, _ = ops.chamfer_distance(
        points[..., :2].contiguous(), centres[..., :2].contiguous()
    )
    assert (dist1.shape, dist2.shape, idx1.dtype) == ((2, 40), (2, 6), torch.int32)
    far = ops.furthest_point_sample_with_dist(
        (points[:, :, None] - points[:, None]).square().sum(-1), 4
    )
    assert far[:, 0].eq(0).all()


@needs_mmcv
def test_features_of_points(ops):
    points = torch.stack((cloud(40), cloud(40, 1)))
    features = torch.rand(2, 7, 40).requires_grad_()
    index = ops.ball_query(0, 3.0, 5, points, points[:, :6].contiguous())
    grouped = ops.grouping_operation(features, index)
    assert grouped.shape == (2, 7, 6, 5)
    assert torch.equal(grouped[1, :, 2, 3], features[1, :, index[1, 2, 3]])
    picked = ops.gather_points(features, index[..., 0].contiguous())
    assert torch.equal(picked, grouped[..., 0])
    (grouped.sum() + 2 * picked.sum()).backward()
    uses = torch.stack([torch.bincount(i.flatten(), minlength=40) for i in index])
    uses += 2 * torch.stack([torch.bincount(i[:, 0], minlength=40) for i in index])
    torch.testing.assert_close(features.grad, uses[:, None].expand_as(features).float())

    rows = torch.rand(10, 4).requires_grad_()
    index = torch.tensor([[0, 3], [1, 0], [5, 5]]).int()
    stacked = ops.grouping_operation(
        rows, index, torch.tensor([4, 6]).int(), torch.tensor([2, 1]).int()
    )
    torch.testing.assert_close(stacked, rows[[[0, 3], [1, 0], [9, 9]],].transpose(1, 2))
    stacked.sum().backward()
    assert rows.grad[:, 0].tolist() == [2, 1, 0, 1, 0, 0, 0, 0, 0, 2]

    features = torch.rand(2, 3, 4).requires_grad_()
    index, weight = torch.zeros(2, 5, 3).int(), torch.full((2, 5, 3), 0.5)
    smooth = ops.three_interpolate(features, index, weight)
    torch.testing.assert_close(smooth, 1.5 * features[..., :1].expand(-1, -1, 5))
    smooth.sum().backward()
    torch.testing.assert_close(features.grad.sum(), torch.tensor(2 * 3 * 5 * 1.5))
    assert ops.QueryAndGroup(3.0, 5)(points, points[:, :6].contiguous()).shape == (2, 3, 6, 5)
