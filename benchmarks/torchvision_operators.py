"""torchvision's operators beside ours, on this machine's CPU or CUDA device.

For torchvision_kernels.py in mx_autopatch/ops, which says where torchvision's kernels are
used. One thread on the CPU; the median of a few calls each, in turns, of the portable
implementation and of torchvision. It needs a torchvision whose compiled operators work.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from mx_autopatch.ops.torchvision_kernels import BINDINGS, decisions, is_used


def cases(device: torch.device) -> dict[str, tuple[str, tuple[object, ...]]]:
    """Label: the operator's name, its arguments."""
    g = torch.Generator().manual_seed(0)
    found: dict[str, tuple[str, tuple[object, ...]]] = {}

    def moved(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(t.to(device) for t in tensors)

    for number in (1000, 5000, 20_000):
        low = torch.rand(number, 2, generator=g) * 1000
        boxes = torch.cat((low, low + torch.rand(number, 2, generator=g) * 100), 1)
        scores = torch.rand(number, generator=g)
        found[f"nms, {number:,} boxes"] = "nms", (*moved(boxes, scores), 0.5, 0)
    low = torch.rand(512, 2, generator=g) * 400
    rois = torch.cat((torch.zeros(512, 1), low, low + torch.rand(512, 2, generator=g) * 200), 1)
    image, rois = moved(torch.randn(1, 256, 50, 64, generator=g), rois)
    options = 0.125, 2, "avg", True
    found["roi_align, 512 boxes"] = "roi_align", (image, rois, [7, 7], *options)
    none = image.new_empty(0)
    grad = image.new_ones(512, 256, 7, 7)
    found["roi_align, its backward"] = (
        "roi_align_backward",
        (grad, rois, none, none, list(image.shape), *options),
    )
    shapes = (2, 256, 32, 32), (2, 18, 32, 32), (2, 9, 32, 32), (256, 256, 3, 3)
    input, offset, mask, weight = moved(*(torch.randn(s, generator=g) for s in shapes))
    sizes = [1, 1], [1, 1], [1, 1], 1, 1
    found["deform_conv2d"] = "deform_conv2d", (input, offset, mask, weight, None, *sizes)
    found["deform_conv2d, its backward"] = (
        "deform_conv2d_backward",
        (input, input, offset, mask, weight, *sizes, [True] * 4),
    )
    return found


def seconds(call: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    device = torch.device(args.device)
    torch.set_num_threads(1)
    bindings = {binding.op._name: binding for binding in BINDINGS}
    print(
        f"{'ms, median of ' + str(args.rounds):32}{'portable':>12}{'torchvision':>12}{'ratio':>8}"
    )
    for label, (name, values) in cases(device).items():
        binding = bindings[name]
        if not is_used(binding, device):
            print(f"{label:32}{decisions[name, device.type]}")
            continue
        times: list[list[float]] = [[], []]
        for _ in range(args.rounds + 1):  # the first of each is to warm up
            for row, function in zip(times, (binding.op._init_fn, binding.native)):
                row.append(seconds(lambda f=function, v=values: f(*v), device))
        ours, theirs = (statistics.median(row[1:]) * 1000 for row in times)
        print(f"{label:32}{ours:12.2f}{theirs:12.2f}{ours / theirs:8.2f}")


if __name__ == "__main__":
    main()
