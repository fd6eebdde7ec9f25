"""mmcv.ops on maps of features with random options, results and gradients, beside plain loops."""

from __future__ import annotations

from types import ModuleType
from typing import Callable

import pytest
import torch
from random_options import Draw, compare, seeds
from test_mmcv_ext import needs_mmcv
from torch import Tensor

from mx_autopatch.verify.references import attention, convolution, pooling, turned_pooling

pytestmark = needs_mmcv


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
