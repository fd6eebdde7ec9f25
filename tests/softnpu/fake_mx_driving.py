"""A fake of mx_driving, which only installs where CANN is.

``Fake`` stands for the module in these tests. Parameter names, order and defaults are those
of its documentation and code (Ascend/DrivingSDK, docs/zh/api/context and mx_driving/ops, April
2026), and so are the limits that it raises for. The numbers are those of the portable
operators, on the CPU.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Callable

import torch
from torch import Tensor

from mx_autopatch import ops
from mx_autopatch.softnpu.npu.reference import vjp


def _on_cpu(function: Callable[..., Tensor], tensors: list[Tensor], *rest: Any) -> Tensor:
    """By autograd.Functions alone, as the real one: its kernels are no operators of torch."""

    class Native(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *given: Tensor) -> Tensor:
            assert all(t.device.type == "npu" for t in given)
            assert all(t.dtype in (torch.float32, torch.int64) for t in given)
            ctx.given = [t.cpu() for t in given]
            return function(*ctx.given, *rest).to("npu")

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
            grads = vjp(lambda *t: function(*t, *rest), ctx.given, [grad.cpu()])
            return tuple(None if g is None else g.to("npu") for g in grads)

    return Native.apply(*tensors)


class Fake:
    """The functions of mx_driving; ``calls`` counts them by name."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def deform_conv2d(
        self,
        x,
        offset,
        weight,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        deformable_groups=1,
        bias=False,
        im2col_step=32,
    ):
        self.calls["deform_conv2d"] += 1
        assert deformable_groups == 1
        assert x.shape[1] % 64 == 0
        options = stride, padding, dilation, groups, deformable_groups
        return _on_cpu(ops.deform_conv2d, [x, offset, weight], *options)

    def modulated_deform_conv2d(
        self,
        x,
        offset,
        mask,
        weight,
        bias=None,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        deformable_groups=1,
    ):
        self.calls["modulated_deform_conv2d"] += 1
        if weight.size(2) != 3 or weight.size(3) != 3:
            raise ValueError("Kernel size only support 3")
        if x.size(1) % 64 or weight.size(0) % 64:
            raise ValueError("Channel only support 64-aligned")
        assert bias is None
        assert deformable_groups == 1
        options = None, stride, padding, dilation, groups, deformable_groups
        return _on_cpu(ops.modulated_deform_conv2d, [x, offset, mask, weight], *options)

    def multi_scale_deformable_attn(
        self,
        value,
        value_spatial_shapes,
        value_level_start_index,
        sampling_locations,
        attention_weights,
    ):
        self.calls["multi_scale_deformable_attn"] += 1
        heads, channels = value.shape[2:]
        levels, points = attention_weights.shape[3:]
        assert channels % 8 == 0
        assert channels <= 256
        assert heads <= 8
        assert levels * points <= 64
        shapes = value_spatial_shapes, value_level_start_index
        return _on_cpu(ops.ms_deform_attn, [value, *shapes, sampling_locations, attention_weights])

    def box_iou_rotated(self, boxes_a, boxes_b, mode="iou", aligned=False, clockwise=True):
        self.calls["box_iou_rotated"] += 1
        return ops.box_iou_rotated(boxes_a.cpu(), boxes_b.cpu(), mode, aligned).to("npu")

    def nms3d(self, boxes, scores, iou_threshold):
        return self._suppress("nms3d", ops.nms3d, boxes, scores, iou_threshold)

    def nms3d_normal(self, boxes, scores, iou_threshold):
        return self._suppress("nms3d_normal", ops.nms3d_normal, boxes, scores, iou_threshold)

    def _suppress(self, name, function, boxes, scores, iou_threshold):
        self.calls[name] += 1
        # Equal scores fall in any order there: here in the worst one.
        kept = function(boxes.cpu().flip(0), scores.cpu().flip(0), iou_threshold)
        return (len(boxes) - 1 - kept).to("npu", torch.int32)

    def npu_add_relu(self, x, y):
        self.calls["npu_add_relu"] += 1
        return _AddRelu.apply(x, y)

    def npu_max_pool2d(self, x, kernel_size, stride, padding):
        self.calls["npu_max_pool2d"] += 1
        return _MaxPool2d.apply(x, kernel_size, stride, padding)


class _AddRelu(torch.autograd.Function):
    """Writes to ``x`` and does not tell autograd, as the real one from 2,000,000 elements on."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        assert x.device.type == y.device.type == "npu"
        assert x.dtype == y.dtype
        assert x.dtype in (torch.float32, torch.float16)
        assert x.shape == y.shape
        assert x.is_contiguous()
        assert y.is_contiguous()
        x.data.copy_((x + y).relu())
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        grad = grad * (ctx.saved_tensors[0] > 0)
        return grad, grad


class _MaxPool2d(torch.autograd.Function):
    """Has no backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel_size: int, stride: int, padding: int) -> Tensor:
        _, channels, height, width = x.shape
        assert x.device.type == "npu"
        assert (kernel_size, stride, padding) == (3, 2, 1)
        assert channels <= 1024
        assert channels % {torch.float32: 8, torch.float16: 16}[x.dtype] == 0
        assert min(height, width) > 100
        assert x.numel() <= 10**9
        return torch.nn.functional.max_pool2d(x, kernel_size, stride, padding)
