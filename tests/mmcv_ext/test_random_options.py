"""mmcv.ops with random options and sizes, results and gradients, beside plain loops.

Each seed draws everything anew: strides, groups, modes, sizes down to none, regions beyond
the image. ``SEEDS`` of them run; more, with another first one, by hand:
``MMCV_OPS_SEEDS=1000:1200 pytest tests/mmcv_ext/test_random_options.py``.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Callable

import pytest
import torch
from test_mmcv_ext import needs_mmcv
from torch import Tensor

from mx_autopatch.verify.references import (
    attention,
    boxes,
    convolution,
    points,
    points_in,
    pooling,
    turned_pooling,
    voxels,
)

pytestmark = needs_mmcv
FIRST, LAST = map(int, os.environ.get("MMCV_OPS_SEEDS", "0:6").split(":"))
seeds = pytest.mark.parametrize("seed", range(FIRST, LAST))


class Draw(random.Random):
    """Random options and float64 tensors."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._torch = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._torch, dtype=torch.float64)

    def uniform_(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._torch, dtype=torch.float64)

    def whole(self, high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=self._torch)

    def pair(self, low: int, high: int) -> tuple[int, int]:
        return self.randint(low, high), self.randint(low, high)

    def flag(self) -> bool:
        return self.random() < 0.5

    def image(self, channels: int) -> Tensor:
        return self.normal(self.randint(1, 2), channels, self.randint(1, 7), self.randint(1, 7))

    def corners(self, image: Tensor, scale: float) -> Tensor:
        """(R, 5) RoIs within the image, across its border and outside."""
        number = self.choice((0, 1, 4))
        height, width = (n / scale for n in image.shape[2:])
        extent = torch.tensor([width, height, width, height])
        corners = (self.uniform_(number, 4) * 1.6 - 0.3) * extent
        if self.flag():  # in order; else some are inside out
            low, high = corners.view(-1, 2, 2).sort(1).values.unbind(1)
            corners = torch.cat((low, high), 1)
        return torch.cat((self.whole(len(image), number, 1), corners), 1)

    def turned(self, image: Tensor, scale: float) -> Tensor:
        """(R, 6) likewise, turned."""
        image_index, x1, y1, x2, y2 = self.corners(image, scale).unbind(1)
        size = (x2 - x1).abs(), (y2 - y1).abs()
        angle = self.normal(len(x1)) * 4
        return torch.stack((image_index, (x1 + x2) / 2, (y1 + y2) / 2, *size, angle), 1)

    def boxes(self, number: int) -> Tensor:
        """(N, 4) with whole coordinates from 0 on: overlaps are exact, and some are equal."""
        low = self.whole(24, number, 2)
        return torch.cat((low, low + self.whole(12, number, 2) + 1), 1).double()

    def scores(self, number: int) -> Tensor:
        return self.whole(64, number).double() / 64


def compare(
    ours: Callable[..., Any],
    plain: Callable[..., Any],
    tensors: Sequence[Tensor],
    wrt: int,
    tolerance: float = 1e-9,
) -> None:
    """Results, and gradients in the first ``wrt`` tensors."""
    found = []
    for function in (ours, plain):
        leaves = [t.clone().requires_grad_(n < wrt) for n, t in enumerate(tensors)]
        output = function(*leaves)
        loss = (output * torch.arange(1.0, output.numel() + 1).cos().view(output.shape)).sum()
        # Where a loop added nothing there is no graph.
        loss = loss + sum(leaf.sum() * 0 for leaf in leaves[:wrt])
        grads = torch.autograd.grad(loss, leaves[:wrt]) if wrt else ()
        found.append((output.detach(), *grads))
    for got, want in zip(*found):
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


@seeds
def test_straight_regions(ops: ModuleType, seed: int) -> None:
    draw = Draw(seed)
    scale, bins, ratio = draw.choice((0.25, 0.5, 1.0)), draw.pair(1, 3), draw.randint(0, 3)
    image = draw.image(draw.randint(1, 3))
    rois = draw.corners(image, scale)
    options = bins, scale, ratio, draw.choice(("avg", "max")), draw.flag()
    compare(
        lambda i: ops.roi_align(i, rois, *options),
        lambda i: pooling.roi_align(i, rois, *options),
        [image],
        1,
    )
    compare(
        lambda i: ops.roi_pool(i, rois, bins, scale),
        lambda i: pooling.roi_pool(i, rois, bins, scale),
        [image],
        1,
    )
    compare(
        lambda i, r: ops.prroi_pool(i.float(), r.float(), bins, scale).double(),
        lambda i, r: pooling.prroi_pool(i, r, bins, scale),
        [image, rois],
        2,
        tolerance=2e-3,  # mmcv takes float32 alone
    )
    offset = draw.normal(len(rois), 2, *bins)
    compare(
        lambda i, o: ops.deform_roi_pool(i, rois, o, bins, scale, ratio, 0.2),
        lambda i, o: pooling.deform_roi_pool(i, rois, o, bins, scale, ratio, 0.2),
        [image, offset],
        2,
    )


@seeds
def test_turned_regions(ops: ModuleType, seed: int) -> None:
    draw = Draw(seed)
    scale, bins, ratio = draw.choice((0.25, 0.5, 1.0)), draw.pair(1, 3), draw.randint(0, 2)
    orientations = draw.choice((1, 2, 4))
    image = draw.image(orientations * draw.randint(1, 2))
    rois = draw.turned(image, scale)
    options = bins, scale, ratio, draw.flag(), draw.flag()
    compare(
        lambda i: ops.roi_align_rotated(i, rois, *options),
        lambda i: turned_pooling.roi_align_rotated(i, rois, *options),
        [image],
        1,
    )
    options = bins, scale, ratio, orientations, draw.flag()
    compare(
        lambda i: ops.riroi_align_rotated(i, rois, *options),
        lambda i: turned_pooling.riroi_align_rotated(i, rois, *options),
        [image],
        1,
    )
    curves = draw.uniform_(len(rois), 16) * 8 / scale
    curves = torch.cat((rois[:, :1], curves), 1)
    align = ops.BezierAlign(bins, scale, ratio, draw.flag())
    compare(
        lambda i: align(i, curves),
        lambda i: turned_pooling.bezier_align(i, curves, bins, scale, ratio, align.aligned),
        [image],
        1,
    )


@seeds
def test_borders_and_centres(ops: ModuleType, seed: int) -> None:
    draw = Draw(seed)
    image = draw.image(4 * draw.randint(1, 2))
    batch, _, height, width = image.shape
    corners = draw.uniform_(batch, height * width, 4) * 9 - 1
    steps = draw.randint(1, 4)
    compare(
        lambda i: ops.border_align(i, corners, steps),
        lambda i: turned_pooling.border_align(i, corners, steps),
        [image],
        1,
    )
    centres = draw.uniform_(batch, height, width, 5) * 12
    points_of = draw.choice((1, 5))
    compare(
        lambda i: ops.rotated_feature_align(i, centres, 0.5, points_of),
        lambda i: turned_pooling.rotated_feature_align(i, centres, 0.5, points_of),
        [image],
        1,
    )


@seeds
def test_deformable_convolution(ops: ModuleType, seed: int) -> None:
    draw = Draw(seed)
    groups, deform_groups = draw.choice((1, 2, 4)), draw.choice((1, 2, 4))
    kernel, stride, padding, dilation = (draw.pair(*r) for r in ((1, 3), (1, 2), (0, 2), (1, 2)))
    size = draw.pair(1, 4)
    # What gives an output of that size, and sometimes a row or column that is left over.
    height, width = (
        max((n - 1) * s - 2 * p + d * (k - 1) + 1 + draw.randint(0, s - 1), 1)
        for n, s, p, d, k in zip(size, stride, padding, dilation, kernel)
    )
    sizes = zip((height, width), stride, padding, dilation, kernel)
    size = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, s, p, d, k in sizes)
    batch, taps = draw.randint(1, 2), deform_groups * kernel[0] * kernel[1]
    image, bias = draw.normal(batch, 4, height, width), draw.normal(4)
    offset = draw.normal(batch, 2 * taps, *size) * draw.choice((0.3, 2.0))
    weight = draw.normal(4, 4 // groups, *kernel)
    options = stride, padding, dilation, groups, deform_groups
    if draw.flag():
        # mmcv refuses an image smaller than the kernel.
        image = torch.nn.functional.pad(image, (0, 3, 0, 3))
        size = tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, s, p, d, k in zip(image.shape[2:], stride, padding, dilation, kernel)
        )
        offset = draw.normal(batch, 2 * taps, *size)
    compare(
        lambda *t: ops.deform_conv2d(*t, *options),
        lambda *t: convolution.deform_conv2d(*t, *options),
        [image, offset, weight],
        3,
    )
    mask = draw.uniform_(batch, taps, *size)
    tensors = [image, offset, mask, weight, *([bias] if draw.flag() else [])]

    def modulated(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(i: Tensor, o: Tensor, m: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
            return function(i, o, m, w, b, *options)

        return call

    compare(
        modulated(ops.modulated_deform_conv2d),
        modulated(convolution.modulated_deform_conv2d),
        tensors,
        len(tensors),
    )


@seeds
def test_attention(ops: ModuleType, seed: int) -> None:
    from mmcv.ops.multi_scale_deform_attn import (
        MultiScaleDeformableAttnFunction,
        multi_scale_deformable_attn_pytorch,
    )

    draw = Draw(seed)
    levels, heads = draw.randint(1, 3), draw.randint(1, 2)
    shapes = draw.whole(4, levels, 2) + 1
    sizes = shapes.prod(1)
    starts = sizes.cumsum(0) - sizes
    batch, queries, samples = draw.randint(1, 3), draw.randint(1, 3), draw.randint(1, 3)
    tensors = (
        draw.normal(batch, int(sizes.sum()), heads, draw.randint(1, 4)),
        draw.uniform_(batch, queries, heads, levels, samples, 2) * 1.6 - 0.3,
        draw.uniform_(batch, queries, heads, levels, samples),
    )
    step = draw.randint(1, batch) if batch != 3 else draw.choice((1, 3))  # mmcv: a divisor

    def plain(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return attention.ms_deform_attn(value, shapes, starts, locations, weights)

    compare(
        lambda *t: MultiScaleDeformableAttnFunction.apply(t[0], shapes, starts, *t[1:], step),
        plain,
        tensors,
        3,
    )
    compare(lambda *t: multi_scale_deformable_attn_pytorch(t[0], shapes, *t[1:]), plain, tensors, 3)


@seeds
def test_windows(ops: ModuleType, seed: int) -> None:
    draw = Draw(seed)
    groups, kernel, scale = draw.choice((1, 2)), draw.choice((1, 3, 5)), draw.randint(1, 3)
    image = draw.image(4)
    batch, _, height, width = image.shape
    masks = draw.uniform_(batch, groups * kernel**2, height * scale, width * scale)
    # The gradient of the latter is in tests/patches/test_carafe_naive.py.
    for function, wrt in ((ops.carafe, 2), (ops.carafe_naive, 0)):
        compare(
            lambda *t, f=function: f(*t, kernel, groups, scale),
            lambda *t: convolution.carafe(*t, kernel, groups, scale),
            [image, masks],
            wrt,
        )
    kind, size = draw.choice(("collect", "distribute")), (2 * draw.randint(0, 3) + 1,) * 2
    compare(
        lambda t: ops.PSAMask(kind, size)(t),
        lambda t: convolution.psa_mask(t, kind, size),
        [draw.normal(batch, size[0] ** 2, height, width)],
        1,
    )
    direction = draw.choice(("top", "bottom", "left", "right"))
    compare(ops.CornerPool(direction), lambda t: convolution.corner_pool(t, direction), [image], 1)
    kernel, reach, stride, step = (draw.randint(*r) for r in ((1, 3), (0, 2), (1, 2), (1, 2)))
    dilation, padding = draw.randint(1, 2), draw.randint(4, 5)  # the kernel fits in
    options = kernel, reach, stride, padding, dilation, step
    compare(
        lambda *t: ops.Correlation(*options)(*t),
        lambda *t: convolution.correlation(*t, *options),
        [image[:1, :2, :3, :3], draw.normal(*image[:1, :2, :3, :3].shape)],
        2,
    )


@seeds
@pytest.mark.filterwarnings("ignore:This overload of addmm is deprecated:UserWarning")  # mmcv's
def test_masked_convolution(ops: ModuleType, seed: int) -> None:
    """Where the mask is, the convolution; elsewhere nothing."""
    draw = Draw(seed)
    layer = ops.MaskedConv2d(3, 4, 3, padding=1).double()
    image = draw.image(3)[:1]
    mask = (draw.uniform_(1, *image.shape[2:]) > draw.choice((0.3, 1.0))).double()
    want = torch.conv2d(image, layer.weight, layer.bias, padding=1) * mask
    torch.testing.assert_close(layer(image, mask), want)


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
