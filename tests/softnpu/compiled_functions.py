"""mmcv's functions and Functions in one graph each; run by test_compiled_functions.py.

    python -m mx_autopatch --device soft compiled_functions.py

Prints, as one JSON object, what is wrong on each device with what torch.compile makes of
them, beside the CPU without it; and how the Functions behave when they are differentiated
in unusual ways.
"""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from typing import Any, Callable

import torch
from mmcv.ops import deform_conv2d, modulated_deform_conv2d, nms, roi_align, sigmoid_focal_loss
from mmcv.ops.deform_conv import DeformConv2dFunction
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from torch import Tensor

torch.set_num_threads(1)
torch.manual_seed(0)

IMAGE, WEIGHT = torch.randn(2, 4, 9, 7), torch.randn(6, 4, 3, 2)
OFFSET, MASK = torch.rand(2, 12, 9, 6) * 0.8 + 0.1, torch.rand(2, 6, 9, 6)
# More of them than the output has pixels: mmcv reads the beginning.
LARGE_OFFSET, LARGE_MASK = torch.rand(2, 12, 11, 7) * 0.8 + 0.1, torch.rand(2, 6, 11, 7)
ROIS = torch.tensor([[0, 1.0, 2, 9, 13], [1, -3, 0, 6, 4]])
LEVELS = torch.tensor([[4, 3], [2, 2]]), torch.tensor([0, 12])
POINTS = torch.rand(2, 5, 2, 2, 3, 2), torch.rand(2, 5, 2, 2, 3)
VALUE = torch.randn(2, 16, 2, 8)
BOXES = torch.rand(9, 2).repeat(1, 2) * 20 + torch.tensor([0, 0, 6.0, 5])

CALLS: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "deform_conv2d": (
        lambda x, o, w: deform_conv2d(x, o, w, 1, (1, 0)),
        (IMAGE, OFFSET, WEIGHT),
    ),
    "DeformConv2dFunction": (
        lambda x, o, w: DeformConv2dFunction.apply(x, o, w, 1, (1, 0)),
        (IMAGE, OFFSET, WEIGHT),
    ),
    "modulated_deform_conv2d": (
        lambda x, o, m, w, b: modulated_deform_conv2d(x, o, m, w, b, 1, (1, 0)),
        (IMAGE, OFFSET, MASK, WEIGHT, torch.randn(6)),
    ),
    "larger offsets": (
        lambda x, o, m, w: modulated_deform_conv2d(x, o, m, w, None, 1, (1, 0)),
        (IMAGE, LARGE_OFFSET, LARGE_MASK, WEIGHT),
    ),
    "roi_align": (lambda x, r: roi_align(x, r, (2, 3), 0.5, 0), (IMAGE, ROIS)),
    "roi_align_max": (lambda x, r: roi_align(x, r, 2, 0.5, 2, "max"), (IMAGE, ROIS)),
    "sigmoid_focal_loss": (
        lambda x, t, w: sigmoid_focal_loss(x, t, 1.5, 0.4, w, "mean"),
        (torch.randn(7, 3), torch.arange(7) % 4, torch.rand(3)),
    ),
    "sigmoid_focal_loss_none": (
        lambda x, t: sigmoid_focal_loss(x, t, 1.5, 0.4, None, "none"),
        (torch.randn(7, 3), torch.arange(7) % 4),
    ),
    "MultiScaleDeformableAttnFunction": (
        lambda v, s, i, p, w: MultiScaleDeformableAttnFunction.apply(v, s, i, p, w, 64),
        (VALUE, *LEVELS, *POINTS),
    ),
    "nms": (lambda b, s: nms(b, s, 0.4)[0], (BOXES, torch.rand(9))),
}

# What mmcv's Functions, and ours, have no gradient of.
WITHOUT = {"roi_align": {1}, "roi_align_max": {1}, "sigmoid_focal_loss": {2}, "nms": {0, 1}}


def results(name: str, device: str, compiled: bool) -> list[Tensor]:
    f, given = CALLS[name]
    if compiled:
        torch.compiler.reset()
        f = torch.compile(f, fullgraph=True, backend="aot_eager")
    tensors = [
        t.clone()
        .to(device)
        .requires_grad_(t.is_floating_point() and i not in WITHOUT.get(name, set()))
        for i, t in enumerate(given)
    ]
    output = f(*tensors)
    if output.requires_grad:
        cotangent = torch.arange(1.0, output.numel() + 1).cos().view(output.shape)
        (output * cotangent.to(device)).sum().backward()
    return [t.detach().cpu() for t in (output, *(t.grad for t in tensors if t.grad is not None))]


def compared() -> Iterator[tuple[str, str]]:
    for name in CALLS:
        want = results(name, "cpu", compiled=False)
        for device in ("cpu", "npu"):
            try:
                got = results(name, device, compiled=True)
                torch.testing.assert_close(got, want, rtol=2e-5, atol=2e-5)
            except Exception as error:
                yield f"{name} on {device}", f"{type(error).__name__}: {error}"


def attention(device: str) -> tuple[Tensor, list[Tensor]]:
    tensors = [t.clone().to(device) for t in (VALUE, *LEVELS, *POINTS)]
    leaves = [t.requires_grad_() for t in tensors if t.is_floating_point()]
    return MultiScaleDeformableAttnFunction.apply(*tensors, 64), leaves


def differentiated() -> Iterator[tuple[str, Any]]:
    """Twice through one graph, once retained; second derivatives; what is kept meanwhile."""
    output, leaves = attention("npu")
    first = torch.autograd.grad(output.sum(), leaves, retain_graph=True)
    second = torch.autograd.grad(output.sum(), leaves)
    yield "retained", all(torch.allclose(a, b, rtol=1e-5) for a, b in zip(first, second))
    try:
        torch.autograd.grad(output.sum(), leaves)
    except RuntimeError as error:
        yield "freed", "second time" in str(error)
    output, leaves = attention("npu")
    (grad,) = torch.autograd.grad(output.square().sum(), leaves[:1], create_graph=True)
    try:
        grad.sum().backward()
    except RuntimeError as error:
        yield "twice", "once_differentiable" in str(error)
    output, leaves = attention("npu")
    graph = weakref.ref(output.grad_fn.graph[0])
    output.sum().backward()
    gc.collect()
    yield "kept", graph() is not None
    with torch.no_grad():
        yield "without", attention("npu")[0].requires_grad


if __name__ == "__main__":
    print(json.dumps({"wrong": dict(compared()), "differentiated": dict(differentiated())}))
