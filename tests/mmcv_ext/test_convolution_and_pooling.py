"""mmcv's own layers and functions on our operators, those without recorded data.

What the operators compute is tested in tests/ops; here only whether arguments, results and
gradients go through the extension's calling convention unharmed.
"""

from __future__ import annotations

import importlib.util

import pytest
import torch

import mx_autopatch.ops as ours
from mx_autopatch import mmcv_ext

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mmcv") is None, reason="mmcv is not installed"
)


# What mmcv's conv2d_gradfix says on every torch without cuDNN.
ignore_rolling_back = pytest.mark.filterwarnings("ignore:Since aten.cudnn_convolution")


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


INPUT = random(2, 8, 12, 14)
ROIS = torch.tensor(
    [[0, 3.0, 2.0, 19.0, 15.0], [1, 6.5, 4.0, 26.0, 21.0], [1, -4.0, 0.0, 9.0, 9.0]]
)
TURNED = torch.cat((ROIS, torch.tensor([[0.3], [2.0], [-1.0]])), 1)
OFFSET = random(3, 2, 3, 4, seed=1)
LABELS = torch.tensor([0, 3, 1, 2, 2, 0])
SHIFT = torch.tensor([[1, 0], [-2, 3]], dtype=torch.int32)
NEIGHBOURS = torch.arange(24).view(2, 4, 3) % 5

# Function of mmcv.ops, function of ours, tensors, and which of them get a gradient.
CASES = {
    "roi_pool": (
        lambda o, i, r: o.RoIPool((3, 4), 0.5)(i, r),
        lambda i, r: ours.roi_pool(i, r, (3, 4), 0.5),
        (INPUT, ROIS),
        (0,),
    ),
    "prroi_pool": (
        lambda o, i, r: o.PrRoIPool((3, 4), 0.5)(i, r),
        lambda i, r: ours.prroi_pool(i, r, (3, 4), 0.5),
        (INPUT, ROIS),
        (0, 1),
    ),
    "deform_roi_pool": (
        lambda o, i, r, d: o.deform_roi_pool(i, r, d, (3, 4), 0.5, 2, 0.2),
        lambda i, r, d: ours.deform_roi_pool(i, r, d, (3, 4), 0.5, 2, 0.2),
        (INPUT, ROIS, OFFSET),
        (0, 2),
    ),
    "deform_roi_pool without offset": (
        lambda o, i, r: o.DeformRoIPool((3, 4), 0.5)(i, r),
        lambda i, r: ours.deform_roi_pool(i, r, None, (3, 4), 0.5),
        (INPUT, ROIS),
        (0,),
    ),
    "riroi_align_rotated": (
        lambda o, i, r: o.RiRoIAlignRotated((3, 4), 0.5, 2, 4, True)(i, r),
        lambda i, r: ours.riroi_align_rotated(i, r, (3, 4), 0.5, 2, 4, True),
        (INPUT, TURNED),
        (0,),
    ),
    "carafe": (
        lambda o, f, m: o.CARAFE(3, 2, 2)(f, m),
        lambda f, m: ours.carafe(f, m, 3, 2, 2),
        (INPUT, random(2, 18, 24, 28, seed=2)),
        (0, 1),
    ),
    "correlation": (
        lambda o, a, b: o.Correlation(3, 2, 2, 1, 1, 2)(a, b),
        lambda a, b: ours.correlation(a, b, 3, 2, 2, 1, 1, 2),
        (INPUT, random(2, 8, 12, 14, seed=3)),
        (0, 1),
    ),
    "border_align": (
        lambda o, i, b: o.BorderAlign(3)(i, b),
        lambda i, b: ours.border_align(i, b, 3),
        (INPUT, random(2, 5, 4, seed=4) * 4 + 6),
        (0,),
    ),
    "tin_shift": (
        lambda o, i: o.TINShift()(i, SHIFT),
        lambda i: ours.tin_shift(i, SHIFT),
        (INPUT,),
        (0,),
    ),
    "assign_score_withk": (
        lambda o, s, p, c: o.assign_score_withk(s, p, c, NEIGHBOURS, "sum"),
        lambda s, p, c: ours.assign_score_withk(s, p, c, NEIGHBOURS),
        (random(2, 4, 3, 2), random(2, 5, 2, 6, seed=1), random(2, 5, 2, 6, seed=2)),
        (0, 1, 2),
    ),
    "softmax_focal_loss": (
        lambda o, x, w: o.softmax_focal_loss(x, LABELS, 1.5, 0.3, w, "none"),
        lambda x, w: ours.softmax_focal_loss(x, LABELS, 1.5, 0.3, w),
        (random(6, 4), random(4, seed=1).exp()),
        (),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_mmcv_gives_what_our_operator_gives(ops, case):
    theirs, mine, tensors, wrt = CASES[case]
    results = []
    for f in (lambda *t: theirs(ops, *t), mine):
        leaves = [t.clone().requires_grad_(i in wrt) for i, t in enumerate(tensors)]
        output = f(*leaves)
        cotangent = torch.arange(1.0, output.numel() + 1).cos().view(output.shape)
        grads = torch.autograd.grad(output, [leaves[i] for i in wrt], cotangent) if wrt else ()
        results.append((output, *grads))
    for got, want in zip(*results):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("bias", [False, True])
def test_modulated_deform_conv_in_half_precision(ops, bias):
    layer = ops.ModulatedDeformConv2dPack(8, 6, 3, padding=1, deform_groups=2, bias=bias).half()
    output = layer(INPUT.half())
    output.sum().backward()
    assert output.dtype == torch.float16
    assert layer.weight.grad.abs().sum() > 0


def test_naive_carafe(ops):
    masks = random(2, 18, 24, 28, seed=2)
    torch.testing.assert_close(
        ops.CARAFENaive(3, 2, 2)(INPUT, masks), ours.carafe(INPUT, masks, 3, 2, 2)
    )


@pytest.mark.filterwarnings("ignore:This overload of addmm is deprecated")
def test_masked_convolution(ops):
    layer = ops.MaskedConv2d(8, 5, 3, padding=1)
    mask = random(1, 12, 14, seed=5) > 0
    with torch.no_grad():
        torch.testing.assert_close(layer(INPUT[:1], mask), layer(INPUT[:1]) * mask)
        assert layer(INPUT[:1], mask & False).eq(0).all()


def empty():
    return torch.empty(0)


@ignore_rolling_back
def test_upfirdn2d(ops):
    filter = random(4, 3, seed=6)
    mine = mmcv_ext.upfirdn2d(INPUT, filter, 2, 3, 1, 2, 2, 1, 3, 0, True, 1.5)
    theirs = ops.upfirdn2d(INPUT, filter, [2, 3], [1, 2], [2, 1, 3, 0], True, 1.5)
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("act", range(1, 10))
def test_bias_act(ops, act):
    from mmcv.ops.bias_act import _bias_act_ref, activation_funcs

    name = next(k for k, v in activation_funcs.items() if v["cuda_idx"] == act)
    x = INPUT.clone().requires_grad_()
    bias = random(8, seed=7)
    y = _bias_act_ref(x, bias, 1, name, 0.3, 1.5, 1.1)
    mine = mmcv_ext.bias_act(INPUT, bias, empty(), empty(), empty(), 0, 1, act, 0.3, 1.5, 1.1)
    torch.testing.assert_close(mine, y.detach())
    (grad,) = torch.autograd.grad((y * y).sum(), x, create_graph=True)
    references = (INPUT, y.detach()) if name == "swish" else (empty(), y.detach())
    mine = mmcv_ext.bias_act(2 * mine, bias, *references, empty(), 1, 1, act, 0.3, 1.5, 1.1)
    torch.testing.assert_close(mine, grad.detach())


def test_fused_bias_leakyrelu(ops):
    """Through mmcv's functions, which elsewhere use it on CUDA only."""
    from mmcv.ops.fused_bias_leakyrelu import FusedBiasLeakyReLUFunction

    tensors = [t.double().requires_grad_() for t in (INPUT[:1, :, :2, :3], random(8, seed=8))]
    f = lambda x, b: FusedBiasLeakyReLUFunction.apply(x, b, 0.2, 2**0.5)  # noqa: E731
    torch.testing.assert_close(f(*tensors), ops.fused_bias_leakyrelu(*tensors))
    torch.autograd.gradcheck(f, tensors)
    torch.autograd.gradgradcheck(f, tensors)


@ignore_rolling_back
@pytest.mark.parametrize("fused", [False, True])
def test_filtered_lrelu(ops, fused):
    filter, bias = random(4, seed=9), random(8, seed=10)
    theirs = ops.filtered_lrelu(INPUT, filter, filter, bias, 2, 2, 3, 1.4, 0.2, 0.9)
    if fused:
        options = 2, 2, 3, 3, 3, 3, 0, 0, 1.4, 0.2, 0.9, False, True
        mine, signs, code = mmcv_ext.filtered_lrelu(INPUT, filter, filter, bias, empty(), *options)
        assert code == 0
    else:
        mine = ops.upfirdn2d(INPUT + bias[:, None, None], filter, 2, 1, 3, False, 4)
        signs = mmcv_ext.filtered_lrelu_act_(mine, empty(), 0, 0, 1.4, 0.2, 0.9, True)
        mine = ops.upfirdn2d(mine, filter, 1, 2)
    torch.testing.assert_close(mine, theirs)
    assert signs.dtype == torch.uint8
    assert signs.shape == (2, 8, 26 if fused else 27, 8)


@pytest.mark.parametrize("affine", [True, False])
def test_synchronised_batch_norm(ops, affine):
    """On one process it is batch_norm, with mmcv's own running statistics."""
    from mmcv.ops.sync_bn import SyncBatchNormFunction

    mean, var = torch.zeros(8), torch.ones(8)
    weight, bias = (random(8, seed=11), random(8, seed=12)) if affine else (None, None)
    x = INPUT.clone().requires_grad_()
    leaves = [t.requires_grad_() for t in (weight, bias) if t is not None]
    options = 0.1, 1e-5, None, 1, "default"
    output = SyncBatchNormFunction.apply(x, mean, var, weight, bias, *options)
    running = torch.zeros(8), torch.ones(8)
    expected = torch.nn.functional.batch_norm(x, *running, weight, bias, True, 0.1, 1e-5)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close((mean, var), running)
    if affine:  # without, mmcv's own backward fails
        grad = random(*INPUT.shape, seed=13)
        for got, want in zip(
            *(torch.autograd.grad(t, [x, *leaves], grad) for t in (output, expected))
        ):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_softmax_focal_loss(ops, dtype):
    x = random(6, 4).to(dtype)
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    theirs = ops.softmax_focal_loss(leaves[0], LABELS, 1.5, 0.3, None, "sum")
    mine = ours.softmax_focal_loss(leaves[1], LABELS, 1.5, 0.3).sum()
    tolerance = {"rtol": 1e-2, "atol": 1e-2} if dtype == torch.float16 else {}
    torch.testing.assert_close(theirs, mine, **tolerance)
    grads = [torch.autograd.grad(t, leaf)[0] for t, leaf in zip((theirs, mine), leaves)]
    torch.testing.assert_close(*grads, **tolerance)


# What Dynamo makes torch say of every autograd.Function.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_head_of_mmcvs_layers_compiles_whole(ops):
    """Convolution, pooling and attention in one graph, with gradients."""
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    layer = ops.ModulatedDeformConv2dPack(8, 8, 3, padding=1)
    shapes, starts = torch.tensor([[12, 14]]), torch.tensor([0])
    at, weight = random(2, 5, 2, 1, 3, 2, seed=14).sigmoid(), random(2, 5, 2, 1, 3, seed=15)

    def head(x):
        features = layer(x)
        pooled = ops.roi_align(features, ROIS, (3, 3), 0.5)
        turned = ops.roi_align_rotated(features, TURNED, (3, 3), 0.5, 2)
        value = features.flatten(2).transpose(1, 2).unflatten(2, (2, 4))
        attended = MultiScaleDeformableAttnFunction.apply(value, shapes, starts, at, weight, 64)
        return (pooled * turned).sum() + attended.square().sum()

    torch._dynamo.reset()
    results = []
    for f in (head, torch.compile(head, fullgraph=True, backend="aot_eager")):
        x = INPUT.clone().requires_grad_()
        results.append((f(x), *torch.autograd.grad(f(x), (x, layer.weight))))
    for got, want in zip(*results):
        torch.testing.assert_close(got, want)


def test_offsets_of_a_finer_level_are_read_from_their_beginning(ops):
    # As mmdet's DyHead calls it, and the compiled operator reads them: element by element.
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    weight = torch.randn(3, 4, 3, 3, requires_grad=True)
    leaves = [t.requires_grad_() for t in (torch.randn(2, 18, 10, 10), torch.rand(2, 9, 10, 10))]
    offset, mask = (t.flatten(1)[:, : n * 25].view(2, n, 5, 5) for t, n in zip(leaves, (18, 9)))
    inputs = x, *leaves, weight

    wanted = ops.modulated_deform_conv2d(x, offset, mask, weight, None, 1, 1)
    got = ops.modulated_deform_conv2d(*inputs, None, 1, 1)
    torch.testing.assert_close(got, wanted)
    grad = torch.randn_like(got)
    for a, b in zip(*(torch.autograd.grad(out, inputs, grad) for out in (got, wanted))):
        torch.testing.assert_close(a, b)

    with pytest.raises(ValueError, match="modulated_deform_conv2d: offset: expected shape"):
        ops.modulated_deform_conv2d(x, leaves[0][..., :4, :4], mask, weight, None, 1, 1)
