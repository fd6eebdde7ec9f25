"""Calls mmcv.ops with tensors on npu; run by test_mmcv_on_npu.py in a process of its own.

    python -m mx_autopatch --device soft mmcv_on_npu.py [FOLDER]

FOLDER has golden data of mmcv's own compiled operators, and their replay.py beside it.
Prints, as one JSON object: of each case what is wrong with it, and how often the operators
of torch_npu were called by all of them.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import mmcv.ops
import numpy as np
import torch
from torch import Tensor, nn

from mx_autopatch.softnpu.recorder import Recorder

torch.set_num_threads(1)
torch.manual_seed(0)


def golden(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Each recorded case, replayed on npu."""
    spec = importlib.util.spec_from_file_location("replay", folder.parent / "replay.py")
    replay = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(replay)
    table = replay.calls(mmcv.ops)
    for case in json.loads((folder / "manifest.json").read_text(encoding="utf-8")):
        name = case["file"][:-4]
        with np.load(folder / case["file"]) as file:
            data = {key: file[key] for key in file.files}
        given = {k[3:]: torch.from_numpy(v) for k, v in data.items() if k.startswith("in_")}
        tensors = {k: v.to("npu").requires_grad_(k in case["grads"]) for k, v in given.items()}
        key = max((p for p in table if name == p or name.startswith(p + "_")), key=len)
        try:
            outputs = replay.flat(table[key](tensors, case["kwargs"]))
            pairs = [(out, data[f"out_{i}"]) for i, out in enumerate(outputs)]
            if case["grads"]:
                cotangent = torch.from_numpy(data["cotangent"]).to("npu")
                (outputs[0] * cotangent).sum().backward()
                pairs += [(tensors[g].grad, data[f"grad_{g}"]) for g in case["grads"]]
            wrong = [text for got, want in pairs if (text := replay.close(name, got, want))]
            wrong += [
                f"argument {k} was changed"
                for k, v in given.items()
                if not torch.equal(tensors[k].detach().cpu(), v)
            ]
        except Exception as error:
            wrong = [f"{type(error).__name__}: {error}"]
        yield name, wrong


class Attention(nn.Module):
    """mmcv's module, with the arguments that are no tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mmcv.ops.MultiScaleDeformableAttention(
            16, num_heads=2, num_levels=2, num_points=3, dropout=0.0, batch_first=True
        )
        nn.init.normal_(self.inner.sampling_offsets.weight)
        nn.init.normal_(self.inner.attention_weights.weight)

    def forward(self, query: Tensor, value: Tensor, reference_points: Tensor) -> Tensor:
        shapes = torch.tensor([[4, 3], [2, 2]], device=query.device)
        start = torch.tensor([0, 12], device=query.device)
        return self.inner(
            query,
            value=value,
            reference_points=reference_points,
            spatial_shapes=shapes,
            level_start_index=start,
        )


def packed(kind: str, **options: Any) -> nn.Module:
    layer = getattr(mmcv.ops, kind)(4, 6, (3, 2), stride=2, padding=(1, 0), **options)
    nn.init.normal_(layer.conv_offset.weight)
    nn.init.uniform_(layer.conv_offset.bias, 0.1, 0.4)
    return layer


ROIS = torch.tensor([[0, 1.0, 2, 9, 13], [1, -3, 0, 6, 4], [0, 5, 5, 30, 30], [1, 3, 3, 3, 3]])
BOXES = torch.rand(30, 2).repeat(1, 2) * 20 + torch.tensor([0, 0, 6.0, 5])
TURNED = torch.cat((BOXES[:, :2], torch.rand(30, 3) * 4 + 1), 1)
SCORES, LABELS = torch.randn(30), torch.arange(30) % 3
LOGITS, CLASSES, WEIGHT = torch.randn(7, 3), torch.arange(7) % 4, torch.rand(3)
IMAGE = torch.randn(2, 4, 9, 7)
QUERIES = torch.randn(2, 5, 16), torch.randn(2, 16, 16), torch.rand(2, 5, 2, 2)


def pool(mode: str) -> Callable[..., Tensor]:
    return mmcv.ops.RoIAlign((2, 3), 0.5, 0, pool_mode=mode)


def sampled_by_pytorch(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    shapes = torch.tensor([[4, 3], [2, 2]], device=value.device)
    return multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)


def head(x: Tensor, rois: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """Of a detector: in one graph on npu."""
    if x.device.type == "npu":
        return torch.compile(head_of_operators, fullgraph=True, backend="aot_eager")(
            x, rois, offset, mask, weight
        )
    return head_of_operators(x, rois, offset, mask, weight)


def head_of_operators(x: Tensor, rois: Tensor, *conv: Tensor) -> Tensor:
    x = mmcv.ops.modulated_deform_conv2d(x, *conv, None, 1, (1, 0))
    return mmcv.ops.roi_align(x, rois, (2, 3), 0.5, 0)


def calls() -> dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]]:
    """Name -> (function or module, its tensors): to be on npu what it is on the CPU."""
    o = mmcv.ops
    return {
        "nms_limits": (lambda b, s: o.nms(b, s, 0.4, 1, 0.2, 5), (BOXES, SCORES)),
        "nms_negative_scores": (lambda b, s: o.nms(b, s, 0.4), (BOXES, SCORES - 9)),
        "batched_nms": (
            lambda b, s, i: o.batched_nms(b, s, i, {"type": "nms", "iou_threshold": 0.4}),
            (BOXES, SCORES, LABELS),
        ),
        "batched_soft_nms": (
            lambda b, s, i: o.batched_nms(b, s, i, {"type": "soft_nms", "iou_threshold": 0.4}),
            (BOXES, SCORES.sigmoid(), LABELS),
        ),
        "nms_rotated_clockwise": (
            lambda b, s: o.nms_rotated(b, s, 0.2, clockwise=False),
            (TURNED, SCORES),
        ),
        "nms_rotated_labels": (
            lambda b, s, i: o.nms_rotated(b, s, 0.2, i),
            (TURNED, SCORES, LABELS),
        ),
        "nms_rotated_none": (lambda b, s: o.nms_rotated(b, s, 0.2)[0], (TURNED[:0], SCORES[:0])),
        "RoIAlign_avg": (pool("avg"), (IMAGE, ROIS)),
        "RoIAlign_max": (pool("max"), (IMAGE, ROIS)),
        "RoIAlign_half": (pool("avg"), (IMAGE.half(), ROIS)),
        "RoIPool": (o.RoIPool(2, 0.5), (IMAGE, ROIS)),
        "SigmoidFocalLoss": (o.SigmoidFocalLoss(2.0, 0.25), (LOGITS, CLASSES)),
        "sigmoid_focal_loss_sum": (
            lambda x, t, w: o.sigmoid_focal_loss(x, t, 1.5, 0.4, w, "sum"),
            (LOGITS, CLASSES, WEIGHT),
        ),
        "sigmoid_focal_loss_none": (
            lambda x, t: o.sigmoid_focal_loss(x, t, 1.5, 0.4, None, "none"),
            (LOGITS, CLASSES),
        ),
        "SoftmaxFocalLoss": (o.SoftmaxFocalLoss(2.0, 0.25), (LOGITS, CLASSES % 3)),
        "DeformConv2dPack": (packed("DeformConv2dPack", deform_groups=2), (IMAGE,)),
        "ModulatedDeformConv2dPack": (packed("ModulatedDeformConv2dPack", groups=2), (IMAGE,)),
        "DeformConv2dFunction": (
            lambda x, o, w: mmcv.ops.deform_conv.DeformConv2dFunction.apply(x, o, w, 1, (1, 0)),
            (IMAGE, torch.rand(2, 12, 9, 6) * 0.8 + 0.1, torch.randn(6, 4, 3, 2)),
        ),
        "compiled": (
            head,
            (
                *(IMAGE, ROIS, torch.rand(2, 12, 9, 6) * 0.8 + 0.1, torch.rand(2, 6, 9, 6)),
                torch.randn(6, 4, 3, 2),
            ),
        ),
        "MultiScaleDeformableAttention": (Attention(), QUERIES),
        "multi_scale_deformable_attn_pytorch": (
            sampled_by_pytorch,
            (torch.randn(2, 16, 2, 8), torch.rand(2, 5, 2, 2, 3, 2), torch.rand(2, 5, 2, 2, 3)),
        ),
        "masked_conv2d": (
            lambda x, m, w, b: o.masked_conv2d(x, m, w, b, padding=1),
            (IMAGE[:1], (IMAGE[:1, 0] > 0).float(), torch.randn(6, 4, 3, 3), torch.randn(6)),
        ),
        "box_iou_rotated": (lambda a, b: o.box_iou_rotated(a, b, "iof"), (TURNED, TURNED[:9])),
    }


def results(
    f: Callable[..., Any], given: tuple[Tensor, ...], device: str, with_gradients: bool
) -> list[Tensor]:
    """Outputs; gradients of tensors and parameters."""
    if isinstance(f, nn.Module):
        f = copy.deepcopy(f).to(device)
    tensors = [
        t.clone().to(device).requires_grad_(with_gradients and t.is_floating_point()) for t in given
    ]
    output = f(*tensors)
    found = list(output) if isinstance(output, tuple) else [output]
    if with_gradients and found[0].requires_grad:
        cotangent = torch.arange(1.0, found[0].numel() + 1).cos().view(found[0].shape)
        (found[0] * cotangent.to(found[0])).sum().backward()
        tensors += f.parameters() if isinstance(f, nn.Module) else ()
        found += [t.grad for t in tensors if t.grad is not None]
    return [t.detach().cpu() for t in found]


def compared() -> Iterator[tuple[str, list[str]]]:
    for name, (f, given) in calls().items():
        wrong = []
        try:
            gradients = "nms" not in name
            got_all, want_all = (results(f, given, device, gradients) for device in ("npu", "cpu"))
            if len(got_all) != len(want_all):
                wrong.append(f"{len(got_all)} results, expected {len(want_all)}")
            for i, (got, want) in enumerate(zip(got_all, want_all)):
                half = want.dtype == torch.float16
                tolerance = 2e-3 if half else 2e-5
                try:
                    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)
                except AssertionError as error:
                    wrong.append(f"result {i}: {error}")
        except Exception as error:
            wrong.append(f"{type(error).__name__}: {error}")
        yield name, wrong


if __name__ == "__main__":
    with Recorder([]).attached() as recorder:
        wrong = dict(compared())
        if len(sys.argv) > 1:
            wrong.update(golden(Path(sys.argv[1])))
    names = {k: v for k, v in recorder.operators().items() if k.startswith("npu::")}
    print(json.dumps({"wrong": wrong, "called": names}))
