"""A fake of torchvision, whose wheels for torch 2.13 work with CUDA's torch alone.

The schemas are those that torchvision 0.28.0 registers, as ``torch.ops.torchvision.nms.default.
_schema`` and its like print them. The numbers are those of plain loops in float64, rounded to
the dtype asked for.
"""

from __future__ import annotations

import importlib.machinery
import types
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import torch
from torch import Tensor

from mx_autopatch.verify.references import boxes, convolution, pooling

_SIZES = "SymInt pooled_height, SymInt pooled_width"
_CONV = (
    "Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, "
    "SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, "
    "SymInt groups, SymInt offset_groups, bool use_mask"
)

SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align": f"(Tensor input, Tensor rois, float spatial_scale, {_SIZES}, "
    "int sampling_ratio, bool aligned) -> Tensor",
    "_roi_align_backward": f"(Tensor grad, Tensor rois, float spatial_scale, {_SIZES}, "
    "SymInt batch_size, SymInt channels, SymInt height, SymInt width, int sampling_ratio, "
    "bool aligned) -> Tensor",
    "deform_conv2d": f"({_CONV}) -> Tensor",
    "_deform_conv2d_backward": f"(Tensor grad, {_CONV}) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
}


def _gradients(f: Callable[..., Tensor], tensors: list[Tensor], grad: Tensor) -> list[Tensor]:
    def calculate() -> tuple[Tensor | None, ...]:
        leaves = [t.double().requires_grad_() for t in tensors]
        return torch.autograd.grad(f(*leaves), leaves, grad.double(), allow_unused=True)

    # Below autograd there is none; in another thread there is.
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(calculate).result()
    return [torch.zeros_like(t) if g is None else g.to(t) for t, g in zip(tensors, found)]


def nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    if dets.dtype != scores.dtype or dets.dtype == torch.float16:  # as the real one on the CPU
        raise RuntimeError("dets should have the same type as scores")
    return boxes.nms(dets.double(), scores.double(), iou_threshold)


def roi_align(
    input: Tensor, rois: Tensor, scale: float, height: int, width: int, ratio: int, aligned: bool
) -> Tensor:
    size = height, width
    pooled = pooling.roi_align(input.double(), rois.double(), size, scale, ratio, "avg", aligned)
    return pooled.to(input.dtype)


def roi_align_backward(grad: Tensor, rois: Tensor, scale: float, *rest: Any) -> Tensor:
    height, width, *shape, ratio, aligned = rest
    options = (height, width), scale, ratio, "avg", aligned
    image = grad.new_zeros(shape)
    return _gradients(lambda i: pooling.roi_align(i, rois.double(), *options), [image], grad)[0]


def _convolution(input: Tensor, weight: Tensor, offset: Tensor, *rest: Any) -> Tensor:
    mask, bias, *sizes, groups, offset_groups, use_mask = rest
    pairs = sizes[0:2], sizes[2:4], sizes[4:6]
    taps = offset.shape[1] // 2
    mask = mask if use_mask else offset.new_ones(len(offset), taps, *offset.shape[2:])
    return convolution.modulated_deform_conv2d(
        input, offset, mask, weight, bias, *pairs, groups, offset_groups
    )


def deform_conv2d(*args: Any) -> Tensor:
    tensors, rest = args[:5], args[5:]
    return _convolution(*(t.double() for t in tensors), *rest).to(tensors[0].dtype)


def deform_conv2d_backward(grad: Tensor, *args: Any) -> tuple[Tensor, ...]:
    tensors, rest = list(args[:5]), args[5:]
    return tuple(_gradients(lambda *t: _convolution(*t, *rest), tensors, grad))


FUNCTIONS = {
    "nms": nms,
    "roi_align": roi_align,
    "_roi_align_backward": roi_align_backward,
    "deform_conv2d": deform_conv2d,
    "_deform_conv2d_backward": deform_conv2d_backward,
}


def fake_torchvision(**instead: Callable[..., Any]) -> tuple[types.ModuleType, Any]:
    """A module ``torchvision``, and the library whose life is that of its operators.

    Args:
        instead: other functions by the operator's name.
    """
    library = torch.library.Library("torchvision", "DEF")
    for name, schema in SCHEMAS.items():
        library.define(name + schema)
        library.impl(name, instead.get(name, FUNCTIONS[name]), "CPU")
    module = types.ModuleType("torchvision")
    module.__spec__ = importlib.machinery.ModuleSpec("torchvision", loader=None)
    return module, library
