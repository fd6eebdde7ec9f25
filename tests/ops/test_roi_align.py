"""roi_align against a plain float64 reference, and against mmcv's compiled operator."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from torch.library import opcheck

from mx_autopatch.ops import roi_align
from mx_autopatch.verify.references import pooling as plain
from mx_autopatch.verify.references.sampling import border_sample

# The package exports the function under the module's name.
module = importlib.import_module("mx_autopatch.ops.roi_align")


def features(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# Within the image, across its border, far outside, of no area, of no width, turned
# inside out, beyond both borders at once. For maps of 6 x 9 at scale 1/2.
ROIS = torch.tensor(
    [
        [0, 2.0, 1.0, 11.0, 9.5],
        [1, 0.0, 0.0, 17.0, 11.0],
        [1, -7.0, -3.0, 4.0, 5.0],
        [0, 15.0, 9.0, 30.0, 20.0],
        [0, 100.0, 100.0, 130.0, 140.0],
        [1, -90.0, -80.0, -60.0, -50.0],
        [0, 5.0, 5.0, 5.0, 5.0],
        [1, 5.0, 2.0, 5.0, 9.0],
        [0, 9.0, 7.0, 3.0, 2.0],
        [1, -60.0, -40.0, 70.0, 80.0],
    ],
    dtype=torch.float64,
)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("ratio", [0, 2])
def test_agrees_with_the_compiled_operator(golden, mode, aligned, ratio):
    data, kwargs = golden(f"roi_align_{mode}_{aligned}_{ratio}")
    input = data["in_input"].requires_grad_()
    output = roi_align(input, data["in_rois"], **kwargs)
    (output * data["cotangent"]).sum().backward()
    torch.testing.assert_close(output.detach(), data["out_0"], rtol=0, atol=2e-6)
    torch.testing.assert_close(input.grad, data["grad_input"], rtol=0, atol=4e-6)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [0, 1, 3])
def test_agrees_with_the_reference(mode, aligned, ratio):
    args = ROIS, (3, 2), 0.5, ratio, mode, aligned
    input = features(2, 3, 6, 9)
    grads, outputs = [], []
    for f in (roi_align, plain.roi_align):
        leaf = input.clone().requires_grad_()
        outputs.append(f(leaf, *args))
        (grad,) = torch.autograd.grad((outputs[-1] * outputs[0].detach().cos()).sum(), leaf)
        grads.append(grad)
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_an_adaptive_grid_far_larger_than_the_image(mode):
    input = features(1, 2, 3, 2)
    rois = torch.tensor([[0, -90.0, -70.0, 40.0, 50.0], [0, 1.0, 1.0, 2.0, 3.0]])
    got = roi_align(input, rois, 2, pool_mode=mode)
    torch.testing.assert_close(got, plain.roi_align(input, rois.double(), (2, 2), pool_mode=mode))
    # So large that taking all samples would not fit in any memory.
    roi_align(input, torch.tensor([[0, -1e6, -1e6, 1e6, 1e6]]), 7, pool_mode=mode)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
def test_parts_add_up(mode, ratio, monkeypatch):
    input = features(2, 3, 6, 9)
    results = []
    for entries in (1 << 22, 64, 1):
        monkeypatch.setattr("mx_autopatch.ops._roi_grid._ENTRIES", entries)
        leaf = input.clone().requires_grad_()
        output = roi_align(leaf, ROIS, (3, 2), 0.5, ratio, mode)
        output.square().sum().backward()
        results.append((output.detach(), leaf.grad))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [0, 2])
def test_gradcheck(mode, aligned, ratio):
    input = features(2, 2, 4, 5).requires_grad_()
    rois = torch.tensor([[0, 0.3, 0.9, 3.1, 2.7], [1, -2.0, 1.1, 7.3, 9.1]], dtype=torch.float64)
    torch.autograd.gradcheck(lambda t: roi_align(t, rois, (2, 3), 0.7, ratio, mode, aligned), input)


def test_the_maximum_lies_where_argmax_says():
    input = features(2, 3, 6, 9)
    rois = ROIS[:4]
    output, argmax_y, argmax_x = module.roi_align_forward(input, rois, (3, 2), 0.5, 2, "max", True)
    for r, c, p, q in torch.ones(output.shape).nonzero().tolist():
        image = input[int(rois[r, 0]), c : c + 1]
        at = border_sample(image, argmax_y[r, c, p, q], argmax_x[r, c, p, q])
        torch.testing.assert_close(at[0], output[r, c, p, q])


def test_the_first_of_equal_samples_wins():
    _, argmax_y, argmax_x = module.roi_align_forward(
        torch.ones(1, 1, 8, 8), torch.tensor([[0, 0.0, 0.0, 8.0, 8.0]]), (1, 1), 1.0, 4, "max", True
    )
    assert argmax_y.item() == argmax_x.item() == 0.5


def test_a_bin_without_samples_is_zero():
    rois = torch.tensor([[0, 2.0, 2.0, 2.0, 2.0]])
    for mode in ("avg", "max"):
        input = torch.ones(1, 2, 5, 5, requires_grad=True)
        output = roi_align(input, rois, 2, pool_mode=mode)
        output.sum().backward()
        assert not output.any()
        assert not input.grad.any()
    _, argmax_y, argmax_x = module.roi_align_forward(input, rois, (2, 2), 1.0, 0, "max", True)
    assert (argmax_y == -1).all()
    assert (argmax_x == -1).all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
def test_corners_that_are_no_numbers(value, mode, ratio):
    input = torch.ones(1, 2, 5, 5, requires_grad=True)
    for column in range(1, 5):
        rois = torch.tensor([[0, 1.0, 1.0, 3.0, 3.0]])
        rois[0, column] = value
        output = roi_align(input, rois, 2, 1.0, ratio, mode)
        output.sum().backward()
        assert output.isfinite().all()
        assert input.grad.isfinite().all()


def test_a_pixel_that_is_infinite_stays_where_it_is():
    input = torch.zeros(1, 1, 6, 6)
    input[..., 0, 0] = math.inf
    rois = torch.tensor([[0, 2.5, 2.5, 5.5, 5.5], [0, 90.0, 90.0, 95.0, 95.0]])
    assert not roi_align(input, rois, 2, sampling_ratio=2).any()


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(mode, dtype):
    input = features(2, 3, 6, 9).to(dtype)
    results = []
    for leaf in (input.clone(), input.float()):
        leaf.requires_grad_()
        for rois in (ROIS.float(), ROIS.to(leaf.dtype)):  # exact in all of them
            output = roi_align(leaf, rois, (3, 2), 0.5, 2, mode)
            assert output.dtype == leaf.dtype
            # Whole gradients, so that both sides begin with the same.
            (grad,) = torch.autograd.grad(output, leaf, torch.ones_like(output))
            results.append((output.detach().to(dtype), grad.to(dtype)))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_strides_do_not_matter(mode):
    input = features(2, 3, 6, 9)
    expected = roi_align(input, ROIS, 2, pool_mode=mode)
    for view in (
        input.to(memory_format=torch.channels_last),
        torch.stack((input, input), 4)[..., 0],
        input.mT.contiguous().mT,
    ):
        assert not view.is_contiguous()
        rois = ROIS.T.contiguous().T
        leaf = view.detach().requires_grad_()
        output = roi_align(leaf, rois, 2, pool_mode=mode)
        assert torch.equal(output, expected)
        output.transpose(2, 3).contiguous().transpose(2, 3).sum().backward()
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("shape", [(2, 3, 6, 9), (0, 3, 6, 9), (2, 0, 6, 9), (2, 3, 0, 9)])
def test_empty(mode, shape):
    input = torch.zeros(shape, requires_grad=True)
    for rois in (torch.zeros(0, 5), torch.zeros(4, 5)):
        output = roi_align(input, rois, (2, 3), pool_mode=mode)
        output.sum().backward()
        assert output.shape == (len(rois), shape[1], 2, 3)
        assert not output.any()


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("rois", [ROIS.float(), torch.zeros(0, 5)])
def test_opcheck(mode, rois):
    input = features(2, 3, 6, 9, dtype=torch.float32)
    options = (0.5, 0, mode, True)
    opcheck(module.roi_align_op, (input.clone().requires_grad_(), rois, [3, 2], *options))
    opcheck(module.roi_align_op, (input.half(), rois.half(), [1, 1], *options))
    output, *argmax = module.roi_align_op(input, rois, [3, 2], *options)
    opcheck(
        module.roi_align_backward_op,
        (torch.ones_like(output), rois, *argmax, list(input.shape), *options),
    )


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_whole(mode, backend):
    def f(input, rois):
        return roi_align(input * 2, rois, (3, 2), 0.5, 0, mode).square().sum()

    torch._dynamo.reset()
    grads = []
    for g in (f, torch.compile(f, fullgraph=True, backend=backend)):
        leaf = features(2, 3, 6, 9).requires_grad_()
        g(leaf, ROIS).backward()
        grads.append(leaf.grad)
    assert torch.equal(*grads)


INPUT = features(2, 3, 6, 9)


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        (
            (INPUT.numpy(), ROIS, 2),
            TypeError,
            "roi_align: input: expected a torch.Tensor, got ndarray",
        ),
        ((INPUT.long(), ROIS, 2), TypeError, "roi_align: input: expected a floating dtype"),
        ((INPUT, ROIS.long(), 2), TypeError, "roi_align: rois: expected a floating dtype"),
        ((INPUT[0], ROIS, 2), ValueError, r"input: expected shape \(B, C, H, W\), got \(3, 6, 9\)"),
        ((INPUT, ROIS[:, :4], 2), ValueError, r"rois: expected shape \(R, 5\), got \(10, 4\)"),
        ((INPUT, ROIS.to("meta"), 2), ValueError, "rois: expected device cpu as input, got meta"),
        ((INPUT, ROIS, (2, 0)), ValueError, r"output_size: expected two sizes >= 1, got \(2, 0\)"),
        ((INPUT, ROIS, -1), ValueError, "output_size: expected two sizes >= 1"),
        (
            (INPUT, ROIS, 2, 1.0, 0, "sum"),
            ValueError,
            "pool_mode: expected 'avg' or 'max', got 'sum'",
        ),
        ((INPUT[:1], ROIS, 2), ValueError, r"rois: expected an image index in \[0, 1\)"),
        ((INPUT, -ROIS, 2), ValueError, r"rois: expected an image index in \[0, 2\)"),
    ],
)
def test_bad_arguments(args, error, words):
    with pytest.raises(error, match=words):
        roi_align(*args)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"grad_output": INPUT[0]}, ValueError, "roi_align_backward: grad_output: expected shape"),
        ({"rois": ROIS[:2]}, ValueError, r"rois: expected shape \(10, 5\), got \(2, 5\)"),
        ({"input_shape": (2, 4, 6, 9)}, ValueError, r"input_shape: expected \(B, 3, H, W\)"),
        ({"pool_mode": "max"}, ValueError, "argmax_y: expected shape"),
        ({"pool_mode": "min"}, ValueError, "pool_mode: expected 'avg' or 'max'"),
    ],
)
def test_bad_arguments_of_backward(changes, error, words):
    kwargs = {
        "grad_output": features(10, 3, 2, 2),
        "rois": ROIS,
        "argmax_y": torch.zeros(0),
        "argmax_x": torch.zeros(0),
        "input_shape": (2, 3, 6, 9),
        "spatial_scale": 1.0,
        "sampling_ratio": 0,
        "pool_mode": "avg",
        "aligned": True,
    }
    with pytest.raises(error, match=words):
        module.roi_align_backward(**{**kwargs, **changes})
