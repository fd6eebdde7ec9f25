"""mmcv.ops on boxes, voxels and points with random options, beside plain loops."""

from __future__ import annotations

from types import ModuleType

import torch
from random_options import Draw, compare, seeds
from test_mmcv_ext import needs_mmcv

from mx_autopatch.verify.references import boxes, points, points_in, voxels

pytestmark = needs_mmcv


@seeds
def test_suppression(ops: ModuleType, seed: int) -> None:
    draw = Draw(seed)
    number = draw.choice((0, 1, 30))
    rows, scores = draw.boxes(number), draw.scores(number)
    threshold, offset = draw.choice((0.0, 0.25, 0.5, 0.7)), draw.randint(0, 1)
    least, most = draw.choice((0, 0.3)), draw.choice((-1, 5))
    dets, kept = ops.nms(rows, scores, threshold, offset, least, most)
    valid = (scores > least).nonzero()[:, 0] if least else torch.arange(number)
    want = valid[boxes.nms(rows[valid], scores[valid], threshold, offset)]
    want = want[:most] if most > 0 else want
    assert torch.equal(kept, want)
    assert torch.equal(dets, torch.cat((rows, scores[:, None]), 1)[want])

    method = draw.choice(("naive", "linear", "gaussian"))
    # Of equal scores the order is a matter of rounding.
    apart = scores / 2 + torch.arange(number) / 977
    got = ops.soft_nms(rows, apart, threshold, 0.5, 0.05, method, offset)
    want_soft = boxes.soft_nms(rows, apart, threshold, 0.5, 0.05, method, offset)
    for a, b in zip(got, want_soft):
        torch.testing.assert_close(a, b)

    groups = ops.nms_match(torch.cat((rows, scores[:, None]), 1), threshold)
    members, sizes = boxes.nms_match(torch.cat((rows, scores[:, None]), 1), threshold)
    assert [g.tolist() for g in groups] == [g.tolist() for g in members.split(sizes.tolist())]


@seeds
def test_suppression_class_by_class(ops: ModuleType, seed: int) -> None:
    draw = Draw(seed)
    number = draw.choice((1, 40))
    rows, labels = draw.boxes(number), draw.whole(3, number)
    scores = torch.tensor(draw.sample(range(100), number)).double() / 100  # no two alike
    threshold, agnostic = draw.choice((0.2, 0.5)), draw.flag()
    config = {"type": "nms", "iou_threshold": threshold}
    if draw.flag():
        config["split_thr"] = 20
    if agnostic:
        config["class_agnostic"] = True
    most = draw.choice((-1, 6))
    if most > 0:
        config["max_num"] = most
    dets, kept = ops.batched_nms(rows, scores, labels, config)
    parts = [torch.arange(number)] if agnostic else [
        (labels == k).nonzero()[:, 0] for k in range(3)
    ]  # fmt: skip
    if agnostic and number >= config.get("split_thr", 10000):  # mmcv splits all the same
        parts = [(labels == k).nonzero()[:, 0] for k in range(3)]
    want = torch.cat([part[boxes.nms(rows[part], scores[part], threshold)] for part in parts])
    want = want[scores[want].argsort(descending=True)]
    want = want[:most] if most > 0 else want
    assert torch.equal(kept, want)
    assert torch.equal(dets, torch.cat((rows, scores[:, None]), 1)[want])


@seeds
def test_turned_boxes(ops: ModuleType, seed: int) -> None:
    draw = Draw(seed)
    first, second = draw.choice(((0, 3), (1, 1), (7, 5), (6, 6)))
    a, b = (
        torch.cat((draw.uniform_(n, 2) * 9, draw.uniform_(n, 2) * 6 + 0.5, draw.normal(n, 1)), 1)
        for n in (first, second)
    )
    mode, aligned = draw.choice(("iou", "iof")), first == second and draw.flag()
    clockwise = draw.flag()
    sense = torch.tensor([1, 1, 1, 1, 1 if clockwise else -1])
    got = ops.box_iou_rotated(a, b, mode, aligned, clockwise)
    torch.testing.assert_close(got, boxes.box_iou_rotated(a * sense, b * sense, mode, aligned))
    scores = draw.scores(first)
    if first:
        _, kept = ops.nms_rotated(a, scores, 0.3, None, clockwise)
        assert torch.equal(kept, boxes.nms_rotated(a * sense, scores, 0.3))

    low, high = draw.boxes(first), draw.boxes(second)
    offset = draw.randint(0, 1)
    got = ops.bbox_overlaps(low, high, mode, aligned, offset)
    torch.testing.assert_close(got, boxes.bbox_overlaps(low, high, mode, aligned, offset))

    solid = torch.cat((a[:, :2], a[:, :1], a[:, 2:4], a[:, 2:3], a[:, 4:]), 1)
    other = torch.cat((b[:, :2], b[:, :1], b[:, 2:4], b[:, 2:3], b[:, 4:]), 1)
    got = ops.boxes_overlap_bev(solid, other)
    torch.testing.assert_close(got, boxes.boxes_overlap_bev(solid, other))
    for name in ("nms3d", "nms3d_normal"):
        kept = getattr(ops, name)(solid, scores, 0.2)
        assert torch.equal(kept, getattr(boxes, name)(solid, scores, 0.2))


@seeds
def test_voxels(ops: ModuleType, seed: int) -> None:
    draw = Draw(seed)
    cloud = draw.normal(draw.choice((0, 1, 60)), draw.randint(3, 5)) * 2
    size = [draw.choice((0.25, 0.5, 1.0)) for _ in range(3)]
    extent = [-2.0, -2.0, -1.0, 2.0, 2.0, 1.0]
    most, cells = draw.randint(1, 3), draw.choice((1, 10, 1000))
    hard = ops.Voxelization(size, extent, most, cells)
    for got, want in zip(hard(cloud), voxels.hard_voxelize(cloud, size, extent, most, cells)):
        assert torch.equal(got, want)
    coors = ops.Voxelization(size, extent, -1)(cloud)
    assert torch.equal(coors, voxels.dynamic_voxelize(cloud, size, extent))
    reduce = draw.choice(("max", "mean", "sum"))
    if len(cloud):
        where = ops.dynamic_scatter(cloud, coors, reduce)[1]
        assert torch.equal(where, voxels.dynamic_scatter(cloud, coors, reduce)[1])
        compare(
            lambda t: ops.dynamic_scatter(t, coors, reduce)[0],
            lambda t: voxels.dynamic_scatter(t, coors, reduce)[0],
            [cloud],
            1,
        )


@seeds
def test_points(ops: ModuleType, seed: int) -> None:
    draw = Draw(seed)
    number, centres = draw.choice((3, 20)), draw.choice((1, 7))
    cloud, middle = draw.normal(2, number, 3), draw.normal(2, centres, 3)
    low, high, count = draw.choice((0.0, 0.5)), draw.choice((0.8, 2.0)), draw.randint(1, 4)
    got = ops.ball_query(low, high, count, cloud, middle)
    assert torch.equal(got, points.ball_query(middle, cloud, low, high, count))
    for got, want in zip(ops.three_nn(middle, cloud), points.three_nn(middle, cloud)):
        # mmcv takes the root.
        want = want.sqrt() if want.is_floating_point() else want
        torch.testing.assert_close(got, want)
    solid = torch.cat((draw.normal(2, 4, 3), draw.uniform_(2, 4, 3) * 3, draw.normal(2, 4, 1)), 2)
    got = ops.points_in_boxes_cpu(cloud, solid)
    assert torch.equal(got, points_in.points_in_boxes(cloud, solid))
    features = draw.normal(2, 3, number)
    index = draw.whole(number, 2, centres, 4).int()
    compare(
        lambda t: ops.grouping_operation(t, index),
        lambda t: points.group_points(t, index),
        [features],
        1,
    )
    near, weight = draw.whole(number, 2, centres, 3).int(), draw.uniform_(2, centres, 3)
    compare(
        lambda t: ops.three_interpolate(t, near, weight),
        lambda t: points.three_interpolate(t, near, weight),
        [features],
        1,
    )
