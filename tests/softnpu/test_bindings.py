"""The operators' kernels for NPUs: whose they are, and that their numbers are the portable ones'.

What torch_npu and mx_driving compute is the soft NPU's and a fake's affair; shown is that they
are called as they document it, and only where they do.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Callable

import pytest
import torch
from fake_mx_driving import Fake
from torch import Tensor

from mx_autopatch import ops
from mx_autopatch.ops._deform_geometry import output_size
from mx_autopatch.ops.deform_conv import deform_conv2d_backward
from mx_autopatch.ops.ms_deform_attn import ms_deform_attn_backward
from mx_autopatch.ops.npu import _mx_driving
from mx_autopatch.ops.npu import deform_conv as conv_binding
from mx_autopatch.ops.npu import roi_align as align_binding
from mx_autopatch.softnpu.contract import check
from mx_autopatch.softnpu.recorder import Recorder

CONV, CONV_BACKWARD = "npu_deformable_conv2d", "npu_deformable_conv2dbk"
ROI, ROI_BACKWARD = "npu_roi_align", "npu_roi_alignbk"
Called = Callable[[str], int]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder([]).attached() as recorder:
        yield recorder


@pytest.fixture
def called(recorder: Recorder) -> Callable[[str], int]:
    """How often an operator of torch_npu has been called in this test, by ``npu_roi_align``."""
    before = recorder.operators()

    def count(name: str) -> int:
        name = f"npu::{name}"
        return recorder.operators().get(name, 0) - before.get(name, 0)

    return count


def with_gradients(f: Callable[..., Tensor], tensors: list[Tensor], device: str) -> list[Tensor]:
    """Output and the gradients of all floating tensors, on the CPU."""
    leaves = [t.to(device).requires_grad_(t.is_floating_point()) for t in tensors]
    output = f(*leaves)
    cotangent = torch.arange(1.0, output.numel() + 1).cos().view(output.shape)
    floating = [leaf for leaf in leaves if leaf.requires_grad]
    grads = torch.autograd.grad(output, floating, cotangent.to(output), allow_unused=True)
    return [output.detach().cpu(), *(g.cpu() for g in grads if g is not None)]


def assert_as_portable(f: Callable[..., Tensor], tensors: list[Tensor], tolerance=2e-5) -> None:
    """Numbers and gradients on the device are those of the CPU."""
    want = with_gradients(f, tensors, "cpu")
    got = with_gradients(f, tensors, "npu")
    assert len(got) == len(want)
    for a, b in zip(got, want):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def conv_tensors(
    modulated: bool, channels=4, filters=6, kernel=(3, 2), size=(7, 8), groups=1, dg=1, **options
) -> list[Tensor]:
    """input, offset, (mask,) weight, for these options."""
    taps = kernel[0] * kernel[1]
    out = output_size(
        torch.empty(1, channels, *size),
        torch.empty(1, 1, *kernel),
        *(list(options.get(k, d)) for k, d in (("stride", (1, 1)), ("padding", (0, 0)))),
        list(options.get("dilation", (1, 1))),
    )
    # Never at a pixel, where the surface has a kink and a derivative to choose.
    offset = torch.randint(-3, 3, (2, dg * taps * 2, *out)) + torch.randint(1, 8, (1,)) / 8
    tensors = [torch.randn(2, channels, *size), offset]
    if modulated:
        tensors.append(torch.rand(2, dg * taps, *out))
    return [*tensors, torch.randn(filters, channels // groups, *kernel)]


# Different along the axes throughout: an exchange of the two would show.
OPTIONS = [
    {"padding": (1, 0)},
    {"padding": (0, 2), "stride": (2, 1)},
    {"padding": (2, 1), "stride": (1, 2), "dilation": (2, 1)},
    {"padding": (1, 1), "dilation": (1, 3), "groups": 2, "dg": 4},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_deform_conv(options: dict[str, Any], called: Called) -> None:
    named = {"deform_groups" if k == "dg" else k: v for k, v in options.items()}
    assert_as_portable(
        lambda x, o, w: ops.deform_conv2d(x, o, w, **named), conv_tensors(False, **options)
    )
    # The forward pass is not calculated again for the backward pass.
    assert (called(CONV), called(CONV_BACKWARD)) == (1, 1)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_modulated_deform_conv(options: dict[str, Any], called: Called) -> None:
    named = {"deform_groups" if k == "dg" else k: v for k, v in options.items()}
    assert_as_portable(
        lambda x, o, m, w, b: ops.modulated_deform_conv2d(x, o, m, w, b, **named),
        [*conv_tensors(True, **options), torch.randn(6)],
    )
    # The forward pass is not calculated again for the backward pass.
    assert (called(CONV), called(CONV_BACKWARD)) == (1, 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_deform_conv_rounds_half_precision_once(dtype: torch.dtype, called: Called) -> None:
    tensors = [t.to(dtype) for t in conv_tensors(True)]
    assert_as_portable(ops.modulated_deform_conv2d, tensors, torch.finfo(dtype).eps)
    assert called(CONV) == 1


def test_deform_conv_without_gradients(called: Called) -> None:
    tensors = conv_tensors(True)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            got = ops.modulated_deform_conv2d(*(t.to("npu") for t in tensors))
        torch.testing.assert_close(got.cpu(), ops.modulated_deform_conv2d(*tensors))
    assert (called(CONV), called(CONV_BACKWARD)) == (2, 0)


def test_deform_conv_gradient_of_bias_alone() -> None:
    bias = torch.zeros(6, device="npu", requires_grad=True)
    ops.modulated_deform_conv2d(*(t.to("npu") for t in conv_tensors(True)), bias).sum().backward()
    assert bias.grad is not None
    assert (bias.grad > 0).all()


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("needed", [(True, True, True, True), (False, True, False, True)])
def test_deform_conv_backward_alone(
    modulated: bool, needed: tuple[bool, ...], called: Called
) -> None:
    """As the extension calls it: nothing is kept of the forward pass."""
    x, offset, *mask, weight = conv_tensors(modulated, padding=(1, 0), groups=2, dg=2)
    grad = torch.randn(2, 6, *offset.shape[2:])
    tensors = [grad, x, offset, mask[0] if mask else None, weight]
    options = 1, (1, 0), 1, 2, 2, needed
    want = deform_conv2d_backward(*tensors, *options)
    got = deform_conv2d_backward(*(None if t is None else t.to("npu") for t in tensors), *options)
    assert called(CONV_BACKWARD) == 1
    for a, b in zip(got, want):
        torch.testing.assert_close(a.cpu(), b, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("why", ["float64", "empty", "weights"])
def test_deform_conv_outside_the_contract(why: str, called: Called) -> None:
    if why == "weights":  # kh * kw * C <= 65535
        channels = 65536 // 6 + 1
        tensors = [*conv_tensors(False, channels=channels, filters=1, size=(3, 2))]
    else:
        tensors = conv_tensors(False)
        tensors = [t.double() if why == "float64" else t[:0] for t in tensors[:2]] + [
            tensors[2].double() if why == "float64" else tensors[2]
        ]
    assert_as_portable(ops.deform_conv2d, tensors, 1e-4)
    assert called(CONV) == called(CONV_BACKWARD) == 0


def test_deform_conv_is_accepted_by_torch_npu() -> None:
    x, offset, mask, weight = conv_tensors(True, dg=2, groups=2)
    options = [1, 1], [0, 0], [1, 1], 2, 2
    result = check(
        lambda *t: conv_binding._forward(*t, *options), x, offset, mask, weight, torch.randn(6)
    )
    assert result.ok, result
    assert result[f"npu::{CONV}"].has_meta
    assert result.output.shape == (2, 6, 5, 7)
    # torch_npu has no meta function for the gradient: its schema is all that can be asked.
    result = check(
        lambda *t: conv_binding._backward(*t, *options, [True] * 4),
        *(torch.randn(2, 6, 5, 7), x, offset, mask, weight),
    )
    assert [call.refused_by for call in result.refused] == ["no meta"], result
    assert result[f"npu::{CONV_BACKWARD}"].refused_by == "no meta"


def test_compilers_see_the_operators() -> None:
    """They have fake kernels, other than some of what they call on the device."""
    conv = [t.requires_grad_() for t in conv_tensors(True)]
    x = torch.randn(2, 3, 9, 7, requires_grad=True)
    for function, tensors, shape in (
        (ops.modulated_deform_conv2d, conv, (2, 6, 5, 7)),
        (lambda x, r: ops.roi_align(x, r, (2, 3)), [x, ROIS], (4, 3, 2, 3)),
    ):
        result = check(function, *tensors, backward=True)
        assert result.error is None, result
        assert result.output.shape == shape
        assert not any(call.name.startswith("npu::") for call in result.calls)


ROIS = torch.tensor([[0, 1.0, 2, 9, 13], [1, -3, 0, 6, 4], [0, 5, 5, 30, 30], [1, 3, 3, 3, 3]])


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_roi_align(aligned: bool, sampling_ratio: int, called: Called) -> None:
    def pool(x: Tensor) -> Tensor:
        return ops.roi_align(x, ROIS.to(x), (2, 3), 0.5, sampling_ratio, "avg", aligned)

    assert_as_portable(pool, [torch.randn(2, 3, 9, 7)])
    assert (called(ROI), called(ROI_BACKWARD)) == (1, 1)


@pytest.mark.parametrize("why", ["max", "float64", "empty"])
def test_roi_align_outside_the_contract(why: str, called: Called) -> None:
    rois = ROIS[:0] if why == "empty" else ROIS
    x = torch.randn(2, 3, 9, 7, dtype=torch.float64 if why == "float64" else torch.float32)
    mode = "max" if why == "max" else "avg"
    assert_as_portable(lambda x: ops.roi_align(x, rois.to(x), 2, pool_mode=mode), [x])
    assert called(ROI) == called(ROI_BACKWARD) == 0


def test_roi_align_fits_the_schema_of_torch_npu() -> None:
    """It has no meta function for them, so nothing more can be asked."""
    x, options = torch.randn(2, 3, 9, 7), (0.5, 2, "avg", True)
    result = check(lambda x, r: align_binding._forward(x, r, [2, 3], *options), x, ROIS)
    assert result[f"npu::{ROI}"].refused_by == "no meta", result
    none = torch.empty(0)
    result = check(
        lambda g, r: align_binding._backward(g, r, none, none, [2, 3, 9, 7], *options),
        *(torch.randn(4, 3, 2, 3), ROIS),
    )
    assert result[f"npu::{ROI_BACKWARD}"].refused_by == "no meta", result


@pytest.fixture
def fake_mx_driving(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setattr(_mx_driving, "_module", lambda: fake)
    return fake


def test_mx_driving_comes_first(fake_mx_driving: Fake, called: Called) -> None:
    options = {"channels": 64, "filters": 64, "kernel": (3, 3), "size": (4, 5)}
    assert_as_portable(
        lambda x, o, w: ops.deform_conv2d(x, o, w, padding=(1, 0)),
        conv_tensors(False, padding=(1, 0), **options),
        1e-4,
    )
    tensors = [*conv_tensors(True, **options), torch.randn(64)]
    assert_as_portable(ops.modulated_deform_conv2d, tensors, 1e-4)
    # Each once: what is kept of the forward pass is mx_driving's own affair.
    assert fake_mx_driving.calls == {"deform_conv2d": 1, "modulated_deform_conv2d": 1}
    assert called(CONV) == 0


@pytest.mark.parametrize("change", [{"filters": 32}, {"kernel": (3, 2)}, {"dg": 2}], ids=str)
def test_torch_npu_has_what_mx_driving_does_not_cover(
    fake_mx_driving: Fake, change: dict[str, Any], called: Called
) -> None:
    options = {"channels": 64, "filters": 64, "kernel": (3, 3), "size": (4, 5), **change}
    groups = change.get("dg", 1)
    assert_as_portable(
        lambda x, o, w: ops.deform_conv2d(x, o, w, deform_groups=groups),
        conv_tensors(False, **options),
        1e-4,
    )
    assert called(CONV) == 1
    assert not fake_mx_driving.calls


@pytest.mark.parametrize("modulated", [False, True])
def test_backward_alone_by_mx_driving(fake_mx_driving: Fake, modulated: bool) -> None:
    options = {"channels": 64, "filters": 64, "kernel": (3, 3), "size": (4, 4)}
    x, offset, *mask, weight = conv_tensors(modulated, **options)
    tensors = [torch.randn(2, 64, 2, 2), x, offset, mask[0] if mask else None, weight]
    want = deform_conv2d_backward(*tensors, 1, 0, 1, 1, 1)
    on_npu = (None if t is None else t.to("npu") for t in tensors)
    got = deform_conv2d_backward(*on_npu, 1, 0, 1, 1, 1)
    assert fake_mx_driving.calls.total() == 1
    for a, b in zip(got, want):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-4, atol=1e-4)


def attention(channels: int = 8, heads: int = 2) -> list[Tensor]:
    shapes = torch.tensor([[4, 3], [2, 2]])
    weights = torch.rand(2, 5, heads, 2, 3)
    return [
        *(torch.randn(2, 16, heads, channels), shapes, torch.tensor([0, 12])),
        *(torch.rand(2, 5, heads, 2, 3, 2) * 1.2 - 0.1, weights / weights.sum((3, 4), True)),
    ]


def test_attention(fake_mx_driving: Fake) -> None:
    assert_as_portable(ops.ms_deform_attn, attention())
    assert fake_mx_driving.calls == {"multi_scale_deformable_attn": 1}
    half = [t.half() if t.is_floating_point() else t for t in attention()]
    assert_as_portable(ops.ms_deform_attn, half, 2e-3)
    assert fake_mx_driving.calls.total() == 2


def test_attention_backward_alone(fake_mx_driving: Fake) -> None:
    tensors = [torch.randn(2, 5, 16), *attention()]
    want = ms_deform_attn_backward(*tensors)
    got = ms_deform_attn_backward(*(t.to("npu") for t in tensors))
    assert fake_mx_driving.calls.total() == 1
    for a, b in zip(got, want):
        torch.testing.assert_close(a.cpu(), b, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("limits", [{"channels": 4}, {"heads": 9}], ids=str)
def test_attention_outside_the_contract(fake_mx_driving: Fake, limits: dict[str, int]) -> None:
    assert_as_portable(ops.ms_deform_attn, attention(**limits))
    assert not fake_mx_driving.calls


def test_attention_without_mx_driving() -> None:
    assert_as_portable(ops.ms_deform_attn, attention())


def boxes3d(number: int = 40) -> Tensor:
    return torch.rand(number, 7) * torch.tensor([9, 9, 1, 5, 3, 1, 6.0]) + 0.1


@pytest.mark.parametrize("name", ["nms3d", "nms3d_normal"])
def test_suppression_of_equal_scores_keeps_their_order(fake_mx_driving: Fake, name: str) -> None:
    boxes, scores = boxes3d(), torch.randint(4, (40,)) / 4
    function = getattr(ops, name)
    got = function(boxes.to("npu"), scores.to("npu"), 0.3)
    assert fake_mx_driving.calls == {name: 1}
    assert got.dtype == torch.int64
    assert got.tolist() == function(boxes, scores, 0.3).tolist()
    assert function(boxes[:0].to("npu"), scores[:0].to("npu"), 0.3).tolist() == []
    assert fake_mx_driving.calls == {name: 1}


@pytest.mark.parametrize("mode", ["iou", "iof"])
@pytest.mark.parametrize("aligned", [False, True])
def test_overlaps_of_turned_boxes(fake_mx_driving: Fake, mode: str, aligned: bool) -> None:
    a, b = (boxes3d(6)[:, [0, 1, 3, 4, 6]] for _ in range(2))
    got = ops.box_iou_rotated(a.to("npu"), b.to("npu"), mode, aligned)
    assert fake_mx_driving.calls == {"box_iou_rotated": 1}
    torch.testing.assert_close(got.cpu(), ops.box_iou_rotated(a, b, mode, aligned))


def test_the_fake_has_the_documented_parameters() -> None:
    documented = {
        "deform_conv2d": "x offset weight stride padding dilation groups deformable_groups",
        "modulated_deform_conv2d": "x offset mask weight bias stride padding dilation groups "
        "deformable_groups",
        "multi_scale_deformable_attn": "value value_spatial_shapes value_level_start_index "
        "sampling_locations attention_weights",
        "box_iou_rotated": "boxes_a boxes_b mode aligned clockwise",
        "nms3d": "boxes scores iou_threshold",
        "nms3d_normal": "boxes scores iou_threshold",
    }
    for name, parameters in documented.items():
        names = list(inspect.signature(getattr(Fake(), name)).parameters)
        assert names[: len(parameters.split())] == parameters.split()


def test_mx_driving_that_is_not_installed() -> None:
    _mx_driving._module.cache_clear()
    assert _mx_driving.mx_driving("nms3d") is None  # and warns of nothing


def test_mx_driving_that_cannot_be_imported(
    write: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    write({"mx_driving/__init__.py": "raise OSError('libcust_opapi.so: no such file')"})
    _mx_driving._module.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="mx_driving.*OSError: libcust_opapi.so"):
            assert _mx_driving.mx_driving("nms3d") is None
        assert _mx_driving.mx_driving("nms3d") is None  # and warns no more
    finally:
        _mx_driving._module.cache_clear()
