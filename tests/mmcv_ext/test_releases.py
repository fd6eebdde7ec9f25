"""The ways in which releases of mmcv before 1.3.18 called the same functions."""

from __future__ import annotations

import inspect

import pytest
import torch

from mx_autopatch import mmcv_ext as ext

POINTS = torch.rand(2, 20, 3, generator=torch.Generator().manual_seed(0))
FEATURES = POINTS.transpose(1, 2).contiguous()
INDEX = torch.arange(10, dtype=torch.int32).view(2, 5)
GROUPS = INDEX.view(2, 5, 1).repeat(1, 1, 2)
WEIGHT = torch.ones(2, 5, 3)
FEATURES_OF_SETS = torch.rand(2, 20, 3, 5, generator=torch.Generator().manual_seed(1))
SCORES = torch.rand(2, 20, 4, 3, generator=torch.Generator().manual_seed(2))
NEIGHBOURS = torch.arange(20).roll(3).repeat(8).view(2, 20, 4)

# name: numbers, inputs, shapes and dtypes of the results
CALLS = {
    "ball_query_forward": ((2, 20, 20, 0.0, 0.5, 3), (POINTS, POINTS), [((2, 20, 3), int)]),
    "knn_forward": ((2, 20, 20, 4), (POINTS, POINTS), [((2, 20, 4), int), ((2, 20, 4), float)]),
    "three_nn_forward": ((2, 20, 20), (POINTS, POINTS), [((2, 20, 3), float), ((2, 20, 3), int)]),
    "furthest_point_sampling_forward": ((2, 20, 5), (POINTS, torch.zeros(2, 20)), [((2, 5), int)]),
    "gather_points_forward": ((2, 3, 20, 5), (FEATURES, INDEX), [((2, 3, 5), float)]),
    "gather_points_backward": ((2, 3, 20, 5), (FEATURES[..., :5], INDEX), [((2, 3, 20), float)]),
    "group_points_forward": ((2, 3, 20, 5, 2), (FEATURES, GROUPS), [((2, 3, 5, 2), float)]),
    "assign_score_withk_forward": (
        (2, 20, 20, 3, 4, 5, 1),
        (FEATURES_OF_SETS, FEATURES_OF_SETS, SCORES, NEIGHBOURS),
        [((2, 5, 20, 4), float)],
    ),
    "assign_score_withk_backward": (
        (2, 20, 20, 3, 4, 5, 1),
        (torch.ones(2, 5, 20, 4), FEATURES_OF_SETS, FEATURES_OF_SETS, SCORES, NEIGHBOURS),
        [((2, 20, 3, 5), float), ((2, 20, 3, 5), float), ((2, 20, 4, 3), float)],
    ),
    "three_interpolate_forward": (
        (2, 3, 20, 5),
        (FEATURES, INDEX[..., None].repeat(1, 1, 3), WEIGHT),
        [((2, 3, 5), float)],
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_numbers_before_tensors(name):
    numbers, inputs, shapes = CALLS[name]
    results = [
        [torch.zeros(s, dtype=torch.float32 if d is float else torch.int32) for s, d in shapes]
        for _ in range(2)
    ]
    function = getattr(ext, name)
    function(*inputs, *results[0], *numbers)
    function(*numbers, *inputs, *results[1])
    assert any(t.any() for t in results[0])
    assert all(torch.equal(a, b) for a, b in zip(*results))
    index = "knn_idx" if name.startswith("assign_score") else "idx_tensor"
    assert index in inspect.signature(function).parameters


def test_voxels():
    size, limits = [0.5, 0.5, 0.5], [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    now, then = (
        (torch.zeros(8, 3, 3), torch.zeros(8, 3).int(), torch.zeros(8).int()) for _ in range(2)
    )
    count = torch.zeros((), dtype=torch.long)
    tensors = torch.tensor(size), torch.tensor(limits)
    ext.hard_voxelize_forward(POINTS[0], *tensors, *now, count, max_points=3, max_voxels=8, NDim=3)
    assert ext.hard_voxelize_forward(POINTS[0], *then, size, limits, 3, 8, 3) == int(count) > 0
    assert all(torch.equal(a, b) for a, b in zip(now, then))
    now, then = torch.zeros(20, 3).int(), torch.zeros(20, 3).int()
    ext.dynamic_voxelize_forward(POINTS[0], *tensors, now, NDim=3)
    ext.dynamic_voxelize_forward(POINTS[0], then, size, limits, 3)
    assert torch.equal(now, then)


def test_suppression():
    boxes = torch.tensor([[0.0, 0, 4, 4, 0.1], [0.0, 0, 4, 3.9, 0.1], [9.0, 9, 10, 10, 0.1]])
    for suppress in (ext.iou3d_nms_forward, ext.iou3d_nms_normal_forward):
        keep = torch.zeros(3, dtype=torch.long)
        assert suppress(boxes, keep, 0.5) == 2
        assert keep[:2].tolist() == [0, 2]
    scores = torch.tensor([0.9, 0.8, 0.7])
    sorted_ = scores.argsort(descending=True), boxes
    assert ext.nms_rotated(boxes, scores, *sorted_, 0.5, False).tolist() == [0, 2]
    options = {"iou_threshold": 0.5, "multi_label": False}
    assert ext.nms_rotated(boxes, scores, *sorted_, **options).tolist() == [0, 2]


def test_chamfer_distance_of_mmcv_1_5_3_passes_the_indices_last():
    xyz1, xyz2 = POINTS[..., :2].contiguous(), POINTS[:, :15, 1:].contiguous()
    index = torch.arange(20).remainder(15).int().repeat(2, 1)
    indices = index, index[:, :15].contiguous()
    grads = torch.rand(2, 20), torch.rand(2, 15)
    results = [(torch.zeros(2, 20, 2), torch.zeros(2, 15, 2)) for _ in range(2)]
    ext.chamfer_distance_backward(xyz1, xyz2, *indices, *grads, *results[0])
    ext.chamfer_distance_backward(xyz1, xyz2, *results[1], *grads, *indices)
    assert results[0][0].any()
    assert all(torch.equal(a, b) for a, b in zip(*results))


def test_filters_of_mmcv_1():
    """Channels last, other keywords, and neither direction nor gain."""
    image, kernel = torch.rand(2, 3, 6, 5), torch.rand(3, 2)
    want = ext.upfirdn2d(image, kernel, 2, 3, 1, 2, 1, 0, 2, 1, False, 1.0)
    options = {"up_x": 2, "up_y": 3, "down_x": 1, "down_y": 2}
    options.update(pad_x0=1, pad_x1=0, pad_y0=2, pad_y1=1)
    last = image.permute(0, 2, 3, 1)
    got = ext.upfirdn2d(last, kernel, **options)
    torch.testing.assert_close(got.permute(0, 3, 1, 2), want)
    assert torch.equal(ext.upfirdn2d(last, kernel, *options.values()), got)
    assert got.is_contiguous()
