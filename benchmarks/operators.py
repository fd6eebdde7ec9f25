"""How long the operators take, in units of a matrix product and of a convolution.

The units are one ``A @ A`` of 1024 x 1024 float32 and one 3 x 3 ``conv2d`` of 2 x 256 x 32 x 32
to 256 channels, forward or forward and backward, each measured in the rounds in which the
operators are. The targets are what mmcv's own compiled CPU operators take in these units. CPU
time of one thread.

Then the memory of deformable convolution at its peak, beyond its arguments and in units of
the buffer that im2col fills for the whole batch, by the records of torch's allocator.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any, Callable

from _common import Options, Row, Target, progress, run_workers, save, scratch, table

PRODUCT, CONV, CONV_FB = "A @ A", "conv2d", "conv2d with backward"

#: Label: the unit, how many of it mmcv takes.
TARGETS = {
    "deform_conv2d": (CONV, 5.5),
    "deform_conv2d with backward": (CONV_FB, 16.0),
    "modulated_deform_conv2d": (CONV, 4.7),
    "modulated_deform_conv2d with backward": (CONV_FB, 18.0),
    "nms, 1,000 boxes": (PRODUCT, 0.5),
    "nms, 5,000 boxes": (PRODUCT, 5.7),
    "nms, 20,000 boxes": (PRODUCT, 70.0),
    "roi_align": (PRODUCT, 21.0),
    "roi_align with backward": (PRODUCT, 51.0),
    "ms_deform_attn, 300 queries": (PRODUCT, 0.73),
    "ms_deform_attn, 300, with backward": (PRODUCT, 2.0),
    "ms_deform_attn, an encoder's layer": (PRODUCT, 11.5),
    "box_iou_rotated, 300 x 300": (PRODUCT, 11.8),
    "hard_voxelize, 60,000 points": (PRODUCT, 1.0),
}
#: Of what is over soon one value is the mean of several calls.
CALLS = {PRODUCT: 5, CONV: 3, "nms, 1,000 boxes": 5, "hard_voxelize, 60,000 points": 3}

MEMORY_TARGET = 3.0


def calls() -> dict[str, Callable[[], Any]]:
    """What is called, on the same data in every process."""
    import torch

    torch.manual_seed(0)
    a = torch.randn(1024, 1024)
    found: dict[str, Callable[[], Any]] = {PRODUCT: lambda: a @ a}
    found.update(_convolutions(images=2))
    found.update(_boxes())
    found.update(_attention())
    return found


def _with_backward(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """The call and its gradients to all tensors among the arguments that are floating."""
    import torch

    leaves = [
        v.clone().requires_grad_() if torch.is_tensor(v) and v.is_floating_point() else v
        for v in args
    ]
    wanted = [v for v in leaves if torch.is_tensor(v) and v.requires_grad]
    return lambda: torch.autograd.grad(function(*leaves).sum(), wanted)


def _convolutions(images: int) -> dict[str, Callable[[], Any]]:
    import torch

    from mx_autopatch.ops import deform_conv2d, modulated_deform_conv2d

    x, weight = torch.randn(images, 256, 32, 32), torch.randn(256, 256, 3, 3) / 48
    offset, mask = torch.randn(images, 18, 32, 32), torch.rand(images, 9, 32, 32)

    def conv(x: Any, weight: Any) -> Any:
        return torch.conv2d(x, weight, padding=1)

    def deform(x: Any, offset: Any, weight: Any) -> Any:
        return deform_conv2d(x, offset, weight, padding=1)

    def modulated(x: Any, offset: Any, mask: Any, weight: Any) -> Any:
        return modulated_deform_conv2d(x, offset, mask, weight, padding=1)

    return {
        CONV: partial(conv, x, weight),
        CONV_FB: _with_backward(conv, x, weight),
        "deform_conv2d": partial(deform, x, offset, weight),
        "deform_conv2d with backward": _with_backward(deform, x, offset, weight),
        "modulated_deform_conv2d": partial(modulated, x, offset, mask, weight),
        "modulated_deform_conv2d with backward": _with_backward(modulated, x, offset, mask, weight),
    }


def _boxes() -> dict[str, Callable[[], Any]]:
    import torch

    from mx_autopatch.ops import box_iou_rotated, hard_voxelize, nms, roi_align

    found: dict[str, Callable[[], Any]] = {}
    for count in (1000, 5000, 20000):
        corner, size = torch.rand(count, 2) * 1000, torch.rand(count, 2) * 100 + 5
        boxes, scores = torch.cat([corner, corner + size], dim=1), torch.rand(count)
        found[f"nms, {count:,} boxes"] = partial(nms, boxes, scores, 0.5)

    features = torch.randn(2, 256, 64, 64)  # an image of 1024 x 1024 at stride 16
    corner, size = torch.rand(512, 2) * 700, torch.rand(512, 2) * 300 + 16
    rois = torch.cat([torch.randint(0, 2, (512, 1)), corner, corner + size], dim=1)

    def align(features: Any) -> Any:
        return roi_align(features, rois, 7, 1 / 16, 2)

    found["roi_align"] = partial(align, features)
    found["roi_align with backward"] = _with_backward(align, features)

    centre, size = torch.rand(300, 2) * 100, torch.rand(300, 2) * 40 + 10
    rotated = torch.cat([centre, size, torch.rand(300, 1) * 6], dim=1)
    found["box_iou_rotated, 300 x 300"] = partial(box_iou_rotated, rotated, rotated)

    # The range and the pillars of PointPillars on KITTI.
    points = torch.rand(60000, 4) * torch.tensor([69.12, 79.36, 4.0, 1.0])
    points -= torch.tensor([0.0, 39.68, 3.0, 0.0])
    found["hard_voxelize, 60,000 points"] = partial(
        hard_voxelize, points, [0.16, 0.16, 4], [0, -39.68, -3, 69.12, 39.68, 1], 32, 16000
    )
    return found


def _attention() -> dict[str, Callable[[], Any]]:
    """Four levels of an image of 800 x 800, eight heads of 32 channels, four points."""
    import torch

    from mx_autopatch.ops import ms_deform_attn

    shapes = torch.tensor([(side, side) for side in (100, 50, 25, 13)])
    pixels = shapes.prod(1)
    starts = pixels.cumsum(0) - pixels
    value = torch.randn(1, int(pixels.sum()), 8, 32)

    def call(value: Any, locations: Any, weights: Any) -> Any:
        return ms_deform_attn(value, shapes, starts, locations, weights)

    def arguments(queries: int) -> tuple[Any, ...]:
        weights = torch.randn(1, queries, 8, 16).softmax(-1).view(1, queries, 8, 4, 4)
        return value, torch.rand(1, queries, 8, 4, 4, 2), weights

    few, all_ = arguments(300), arguments(value.shape[1])
    return {
        "ms_deform_attn, 300 queries": partial(call, *few),
        "ms_deform_attn, 300, with backward": _with_backward(call, *few),
        "ms_deform_attn, an encoder's layer": partial(call, *all_),
    }


def tasks() -> Mapping[str, Callable[[], float]]:
    """A function for each label that returns the CPU time of a call."""
    import torch

    torch.set_num_threads(1)

    def timed(label: str, call: Callable[[], Any]) -> Callable[[], float]:
        count = CALLS.get(label, 1)

        def value() -> float:
            start = time.process_time()
            for _ in range(count):
                call()
            return (time.process_time() - start) / count

        return value

    return {label: timed(label, call) for label, call in calls().items()}


def peak(call: Callable[[], Any]) -> int:
    """How many bytes more than before are allocated at a time during a call."""
    import torch

    call()  # what is made once and kept is not the call's
    activities = [torch.profiler.ProfilerActivity.CPU]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.profiler.profile(activities=activities, profile_memory=True) as record:
            call()
    now = highest = 0
    events = record.profiler.kineto_results.events()
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            highest = max(highest, now)
    return highest


def memory() -> str:
    """The table of peaks."""
    import torch

    torch.set_num_threads(1)
    lines = ["Memory at the peak, in buffers of im2col for the whole batch", ""]
    for images in (2, 8):
        columns = images * 256 * 9 * 32 * 32 * 4
        for label, call in _convolutions(images).items():
            if "deform" in label:
                ratio = peak(call) / columns
                said = "met" if ratio <= MEMORY_TARGET else "MISSED"
                name = f"{label}, {images} images"
                lines.append(f"{name:48} {ratio:5.2f}x  <= {MEMORY_TARGET:.2f}x  {said}")
    return "\n".join(lines)


def main() -> None:
    args = Options(__doc__ or "", rounds=5, processes=3).parse()
    with scratch(args, lambda _: None):
        values = run_workers(args, tasks)
    if values is None:
        return
    rows = [Row(unit) for unit in (PRODUCT, CONV, CONV_FB)]
    for label, (unit, limit) in TARGETS.items():
        rows.append(Row(label, unit, Target(limit, unit, is_ratio=True)))
    print(table("CPU time of the operators, one thread", values, rows))
    print()
    progress("memory")
    print(memory())
    save(args.output, values)


if __name__ == "__main__":
    sys.exit(main())
