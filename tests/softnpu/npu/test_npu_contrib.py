"""torch_npu.contrib on the soft NPU: what migrations use of it works, the rest says why not."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from npu_calls import close
from torch import Tensor, nn

from mx_autopatch.errors import SoftNpuError


@pytest.fixture(autouse=True)
def _deprecated_by_torch_npu() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        yield


@pytest.fixture
def modules() -> Any:
    from torch_npu.contrib import module

    return module


@pytest.fixture
def functions() -> Any:
    from torch_npu.contrib import function

    return function


def same_gradients(
    found: Any, expected: Any, inputs: list[Tensor], tolerance: float = 1e-5
) -> None:
    """Results and gradients of a function on npu, and of another on the CPU in float64."""
    on_npu = [t.npu().requires_grad_() for t in inputs]
    wide = [t.double().requires_grad_() for t in inputs]
    out, other = found(*on_npu), expected(*wide)
    close(out.detach().cpu(), other.detach(), tolerance)
    seed = torch.randn(other.shape)
    out.backward(seed.npu())
    (other * seed).sum().backward()
    close([t.grad.cpu() for t in on_npu], [t.grad for t in wide], tolerance)


# ---- modules -----------------------------------------------------------------------------------


def test_activations(modules: Any) -> None:
    x = torch.randn(3, 4)
    same_gradients(modules.Mish(), F.mish, [x])
    same_gradients(modules.SiLU(), F.silu, [x])
    same_gradients(modules.Swish(), F.silu, [x])


@pytest.mark.parametrize("aligned", [False, True])
def test_roi_align(modules: Any, aligned: bool) -> None:
    from mx_autopatch.ops import roi_align

    x, rois = torch.randn(2, 3, 8, 8), torch.tensor([[1, 0.7, 1.2, 9.1, 8.3], [0, 4, 2, 15, 11]])
    layer = modules.ROIAlign((3, 3), 0.5, 2, aligned=aligned)
    same_gradients(
        lambda a: layer(a, rois.npu()),
        lambda a: roi_align(a, rois.double(), (3, 3), 0.5, 2, "avg", aligned),
        [x],
    )


def test_position_sensitive_pooling(modules: Any) -> None:
    x = torch.randn(2, 12, 6, 7)
    rois = torch.tensor([[[0, 1.2, 2.0, 7.6, 9.4], [1, 0, 0, 3, 11]]]).transpose(1, 2)
    rois = torch.cat((rois, rois + torch.tensor([0.0, 1, 1, 1, 1]).view(1, 5, 1)))
    layer = modules.PSROIPool(2, 2, 0.5, 2, 3)

    def plain(a: Tensor) -> Tensor:
        out = torch.zeros(4, 3, 2, 2, dtype=a.dtype)
        for n, (b, x1, y1, x2, y2) in enumerate(rois.transpose(1, 2).reshape(4, 5).tolist()):
            left, top = round(x1) / 2, round(y1) / 2
            w, h = ((round(x2) + 1) / 2 - left) / 2, ((round(y2) + 1) / 2 - top) / 2
            for i in range(2):
                for j in range(2):
                    rows = slice(math.floor(top + h * i), math.ceil(top + h * (i + 1)))
                    columns = slice(math.floor(left + w * j), math.ceil(left + w * (j + 1)))
                    for c in range(3):
                        out[n, c, i, j] = a[int(b), c * 4 + i * 2 + j, rows, columns].mean()
        return out

    same_gradients(lambda a: layer(a, rois.npu()), plain, [x])


def test_modulated_deformable_convolution_trains(modules: Any) -> None:
    layer = modules.ModulatedDeformConv(4, 6, 3, 1, 1).npu()
    x = torch.randn(1, 4, 5, 6).npu().requires_grad_()
    out = layer(x)
    # Offsets start at zero and masks at a half: an ordinary convolution of half the weight.
    expected = F.conv2d(x.detach().cpu(), layer.weight.detach().cpu() / 2, None, 1, 1)
    close(out.detach().cpu(), expected + layer.bias.detach().cpu().view(1, -1, 1, 1))
    out.square().sum().backward()
    for parameter in (x, layer.weight, layer.conv_offset.weight):
        assert parameter.grad.cpu().isfinite().all()
        assert parameter.grad.cpu().any()


def test_cached_dropout_uses_masks_made_after_the_last_step(modules: Any) -> None:
    layer = modules.NpuCachedDropout(0.5)
    model = nn.Sequential(layer)
    layer.task_dict.clear()
    modules.NpuCachedDropout.enable_dropout_ensemble(model)
    x = torch.ones(4, 100).npu()
    assert torch.equal(model(x).cpu(), torch.ones(4, 100))  # the first asks for a mask
    values = model(x).cpu().unique().tolist()
    assert values == [0.0, 2.0]
    layer.task_dict.clear()


def test_dropout_with_byte_mask(modules: Any, functions: Any) -> None:
    x = torch.ones(4, 100).npu()
    layer = modules.DropoutWithByteMask(0.5)
    assert layer(x).cpu().unique().tolist() == [0.0, 2.0]
    assert layer.eval()(x).cpu().unique().tolist() == [1.0]
    assert functions.dropout_with_byte_mask(x, 0.5, True).cpu().unique().tolist() == [0.0, 2.0]


def test_drop_path(modules: Any) -> None:
    layer = modules.NpuDropPath(0.5)
    model = nn.Sequential(layer)
    layer.task_dict.clear()
    modules.NpuDropPath.enable_droppath_ensemble(model)
    x = torch.ones(64, 3).npu()
    model(x)
    out = model(x).cpu()
    assert out.unique().tolist() == [0.0, 2.0]
    assert torch.equal(out[:, :1].expand(64, 3), out)
    layer.task_dict.clear()


@pytest.mark.parametrize("split", [False, True])
def test_channel_shuffle(modules: Any, split: bool) -> None:
    layer = modules.ChannelShuffle(6, 2, split).npu()
    a, b = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    inputs = [t.unsqueeze(3).npu().requires_grad_() for t in (a, b)]
    out = layer(*inputs)
    whole = torch.cat(out, 1) if split else out
    expected = torch.stack((a, b), 2).flatten(1, 2).unsqueeze(3)
    close(whole.detach().cpu(), expected)
    whole.sum().backward()
    close([t.grad.cpu() for t in inputs], [torch.ones(2, 3, 4, 1)] * 2)


def test_prefetcher(modules: Any) -> None:
    batches = [(torch.full((2,), float(i)), torch.tensor([i])) for i in range(3)]
    fetcher = modules.Prefetcher(batches)
    seen = []
    while (batch := fetcher.next())[0] is not None:
        assert batch[0].device.type == "npu"
        seen.append(batch[1].item())
    assert seen == [0, 1, 2]


def test_label_smoothing(modules: Any) -> None:
    layer = modules.LabelSmoothingCrossEntropy(5, 0.2)
    target = torch.tensor([0, 3, 1])

    def plain(x: Tensor) -> Tensor:
        # Its smoothing spares the class of the target.
        labels = torch.full((3, 5), 0.2 / 4, dtype=torch.float64)
        labels[torch.arange(3), target] = 0.8
        return -(labels * F.log_softmax(x, 1)).sum(1).mean()

    same_gradients(lambda x: layer(x, target.npu()), plain, [torch.randn(3, 5)])


def test_bidirectional_lstm(modules: Any) -> None:
    layer = modules.BiLSTM(4, 3)
    x = torch.randn(5, 2, 4)
    whole = nn.LSTM(4, 3, bidirectional=True)
    names = [name for name, _ in layer.fw_rnn.named_parameters()]
    for name in names:
        getattr(whole, name).data.copy_(getattr(layer.fw_rnn, name).data)
        getattr(whole, f"{name}_reverse").data.copy_(getattr(layer.bw_rnn, name).data)
    close(layer.npu()(x.npu()).detach().cpu(), whole(x)[0].detach())


def test_focus(modules: Any) -> None:
    layer = modules.Focus(3, 8).npu().eval()
    x = torch.randn(1, 3, 8, 8)
    parts = [x[..., i::2, j::2] for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))]
    plain = layer.conv.cpu()
    expected = plain(torch.cat(parts, 1))
    close(layer.npu()(x.npu()).detach().cpu(), expected.detach())


def test_modules_without_a_reference_say_so(modules: Any) -> None:
    layer = modules.LinearQuant(16, 16).npu()
    layer.weight = nn.Parameter(torch.zeros(16, 16, dtype=torch.int8).npu(), requires_grad=False)
    with pytest.raises(SoftNpuError, match="npu::npu_trans_quant_param"):
        layer(torch.zeros(2, 16, dtype=torch.int8).npu())
    with pytest.raises(SoftNpuError, match="npu::npu_multi_head_attention"):
        torch.ops.npu.npu_multi_head_attention(
            *[torch.zeros(16, 16).half().npu()] * 8, *[None] * 5, 1, 16, 16, 16, 0.0, True
        )


# ---- functions ---------------------------------------------------------------------------------


def boxes(n: int) -> Tensor:
    low = torch.rand(n, 2) * 20
    return torch.cat((low, low + torch.rand(n, 2) * 20 + 1), 1)


def test_overlaps(functions: Any) -> None:
    a, b = boxes(4), boxes(3)
    found = functions.npu_iou(a.npu(), b.npu())
    expected = torch.ops.npu.npu_iou(b.npu(), a.npu())
    assert torch.equal(found.cpu(), expected.cpu())
    for kind in ("giou", "diou", "ciou"):
        c, d = torch.rand(5, 4) + 0.5, torch.rand(5, 4) + 0.5
        flags = {"is_permuted": True} if kind == "giou" else {}
        arguments = (c, d) if kind == "giou" else (c.T.contiguous(), d.T.contiguous())
        found = getattr(functions, f"npu_{kind}")(*(t.npu() for t in arguments), **flags)
        op = getattr(torch.ops.npu, f"npu_{kind}")
        expected = op(c.T.npu(), d.T.npu(), True, False)
        assert torch.equal(found.cpu(), expected.cpu())


def test_multiclass_nms(functions: Any) -> None:
    b, scores = boxes(12).half(), torch.rand(12, 4)
    dets, labels = functions.npu_multiclass_nms(b.npu(), scores.npu(), 0.3, 0.4, 20)
    kept = dets[:, 4].cpu() > 0
    assert kept.any()
    assert (dets.cpu()[kept][1:, 4] <= dets.cpu()[kept][:-1, 4]).all()
    batched = functions.npu_batched_multiclass_nms(
        b.reshape(1, 12, 4).npu(), scores.unsqueeze(0).npu(), 0.3, 0.4, 20
    )
    assert torch.equal(batched[0][0].cpu(), dets.cpu())
    assert torch.equal(batched[1][0].cpu(), labels.cpu())


def test_coding_of_boxes(functions: Any) -> None:
    anchors, truths = boxes(5), boxes(5)
    deltas = functions.npu_bbox_coder_encode_xyxy2xywh(anchors.npu(), truths.npu())
    found = functions.npu_bbox_coder_decode_xywh2xyxy(anchors.npu(), deltas)
    close(found.cpu(), truths, 1e-4)
    flags = functions.npu_single_level_responsible_flags([4, 4], truths.npu(), [10, 10], 3)
    assert flags.numel() == 48
    stride = torch.full((5,), 100, dtype=torch.int32)
    found = functions.npu_bbox_coder_encode_yolo(anchors.npu(), truths.npu(), stride.npu())
    centres = [(b[:, :2] + b[:, 2:]) / 2 for b in (anchors, truths)]
    sizes = [b[:, 2:] - b[:, :2] for b in (anchors, truths)]
    place = (centres[1] - centres[0]) / 100 + 0.5
    close(found.cpu(), torch.cat((place, (sizes[1] / sizes[0]).log()), 1))


def test_indexing_rolling_and_products(functions: Any) -> None:
    x = torch.randn(3, 4)
    found = functions.npu_fast_condition_index_put(x.npu(), (x > 0).npu(), 2)
    close(found.cpu(), torch.where(x > 0, 2.0, x))
    windows = torch.randn(2, 4, 6, 3)
    same_gradients(
        lambda a: functions.roll(a, (-1, -1), (1, 2)),
        lambda a: torch.roll(a, (-1, -1), (1, 2)),
        [windows],
    )
    same_gradients(
        functions.matmul_transpose,
        lambda a, b: a @ b.transpose(-2, -1),
        [torch.randn(2, 3, 4), torch.randn(2, 5, 4)],
    )


def test_fused_softmax_and_dropout(functions: Any, modules: Any) -> None:
    mask, scores = torch.randn(2, 1, 4, 4), torch.randn(2, 3, 4, 4)
    dropout = modules.DropoutWithByteMask(0.0)
    expected = torch.softmax(scores / math.sqrt(8) + mask, -1)
    for training in (False, True):
        found = functions.fuse_add_softmax_dropout(
            training, dropout, mask.npu(), scores.npu(), 8, p=0.0
        )
        close(found.cpu(), expected)


def test_fused_attention_asks_for_a_format_that_there_is_not(functions: Any) -> None:
    x = torch.zeros(32, 1024).npu()
    with pytest.raises(RuntimeError, match="format not matches"):
        functions.npu_fused_attention(x, torch.zeros(1, 1, 32, 32).npu(), *[x] * 6, (1, 32, 16, 64))
