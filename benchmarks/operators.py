"""The operators' time and memory, in units that travel from machine to machine.

    python benchmarks/operators.py [--rounds N] [--threads N] [NAME…]

The units are one product of two 1024 x 1024 float32 matrices, and one conv2d of
2 x 256 x 32 x 32 with 256 filters of 3 x 3, forward or with backward. A round takes one time
of an operator and, right before it, of its unit; printed is the median of their quotients,
beside what mmcv's compiled CPU kernels take. Memory is the largest sum of what torch had
allocated at a time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from typing import Callable, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from mx_autopatch import ops

Call = Callable[[], object]


class Case(NamedTuple):
    name: str
    call: Call
    unit: str
    compiled: float | None = None  # what mmcv's C++ takes, in units


def training(call: Callable[[], Tensor]) -> Call:
    """Forward and backward, with a gradient as a next layer would give."""
    with torch.no_grad():
        cotangent = torch.randn_like(call())
    return lambda: call().backward(cotangent)


def inference(call: Callable[[], Tensor]) -> Call:
    def run() -> Tensor:
        with torch.no_grad():
            return call()

    return run


def random(*shape: int, grad: bool = True) -> Tensor:
    return torch.randn(shape).requires_grad_(grad)


def boxes(number: int, extent: float = 1024.0) -> Tensor:
    corner, size = torch.rand(number, 2) * extent, torch.rand(number, 2) * extent / 10 + 8
    return torch.cat((corner, corner + size), 1)


IMAGE, WEIGHT = random(2, 256, 32, 32), random(256, 256, 3, 3)
OFFSET, MASK = random(2, 18, 32, 32), torch.rand(2, 9, 32, 32).requires_grad_()
MATRIX = random(1024, 1024, grad=False)

UNITS: dict[str, Call] = {
    "matmul": lambda: MATRIX @ MATRIX,
    "conv2d": inference(lambda: torch.conv2d(IMAGE, WEIGHT, padding=1)),
    "conv2d f+b": training(lambda: torch.conv2d(IMAGE, WEIGHT, padding=1)),
}


def convolutions() -> Iterator[Case]:
    plain = lambda: ops.deform_conv2d(IMAGE, OFFSET, WEIGHT, 1, 1)  # noqa: E731
    modulated = lambda: ops.modulated_deform_conv2d(  # noqa: E731
        IMAGE, OFFSET, MASK, WEIGHT, None, 1, 1
    )
    yield Case("deform_conv2d", inference(plain), "conv2d", 5.5)
    yield Case("deform_conv2d f+b", training(plain), "conv2d f+b", 16)
    yield Case("modulated_deform_conv2d", inference(modulated), "conv2d", 4.7)
    yield Case("modulated_deform_conv2d f+b", training(modulated), "conv2d f+b", 18)


def attention() -> Iterator[Case]:
    shapes = torch.tensor([[100, 100], [50, 50], [25, 25], [13, 13]])
    sizes = shapes.prod(1)
    starts = sizes.cumsum(0) - sizes
    value = random(1, int(sizes.sum()), 8, 32)
    for name, queries, targets in (
        ("300 queries", 300, (0.73, 2.0)),
        ("full encoder", value.shape[1], (11.5, None)),
    ):
        at = torch.rand(1, queries, 8, 4, 4, 2).requires_grad_()
        weight = torch.rand(1, queries, 8, 4, 4).requires_grad_()
        call = lambda at=at, weight=weight: ops.ms_deform_attn(  # noqa: E731
            value, shapes, starts, at, weight
        )
        yield Case(f"ms_deform_attn, {name}", inference(call), "matmul", targets[0])
        yield Case(f"ms_deform_attn, {name} f+b", training(call), "matmul", targets[1])


def poolings() -> Iterator[Case]:
    features = random(2, 256, 100, 152)
    rois = torch.cat(
        (torch.randint(0, 2, (512, 1)), boxes(512) * torch.tensor([1, 0.7, 1, 0.7])), 1
    )
    x1, y1, x2, y2 = rois[:, 1:].unbind(1)
    turned = torch.stack((rois[:, 0], (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, x1), 1)
    calls = {
        "roi_align": (lambda: ops.roi_align(features, rois, 7, 0.125, 2), 21, 51),
        "roi_align_rotated": (
            lambda: ops.roi_align_rotated(features, turned, 7, 0.125, 2),
            None,
            None,
        ),
        "roi_pool": (lambda: ops.roi_pool(features, rois, 7, 0.125), None, None),
        "prroi_pool": (lambda: ops.prroi_pool(features, rois, 7, 0.125), None, None),
    }
    for name, (call, forward, both) in calls.items():
        yield Case(f"{name}, 512 boxes", inference(call), "matmul", forward)
        yield Case(f"{name}, 512 boxes f+b", training(call), "matmul", both)


def others() -> Iterator[Case]:
    for number, compiled in ((1000, 0.5), (5000, 5.7), (20000, 70)):
        some, scores = boxes(number), torch.rand(number)
        call = lambda some=some, scores=scores: ops.nms(some, scores, 0.5)  # noqa: E731
        yield Case(f"nms, {number} boxes", call, "matmul", compiled)
    turned = torch.cat((boxes(300)[:, :2], torch.rand(300, 2) * 100 + 8, torch.randn(300, 1)), 1)
    yield Case(
        "box_iou_rotated, 300 x 300", lambda: ops.box_iou_rotated(turned, turned), "matmul", 11.8
    )
    points = torch.rand(60_000, 4) * torch.tensor([70.0, 80.0, 4.0, 1.0])
    grid = [0.16, 0.16, 4.0], [0.0, 0.0, 0.0, 70.4, 80.0, 4.0]
    yield Case(
        "hard_voxelize, 60k points",
        lambda: ops.hard_voxelize(points, *grid, 32, 16_000),
        "matmul",
        1,
    )


def seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ratio(case: Case, rounds: int) -> tuple[float, float]:
    """Milliseconds, and the median quotient."""
    unit = UNITS[case.unit]
    for call in (case.call, unit):
        call()
    pairs = [(seconds(unit), seconds(case.call)) for _ in range(rounds)]
    return 1e3 * min(b for _, b in pairs), statistics.median(b / a for a, b in pairs)


def peak(call: Call) -> float:
    """MiB that torch allocates for the call, at the most."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    now = most = 0
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of the operators")
    parser.add_argument("names", nargs="*", metavar="NAME", help="how names of cases begin")
    parser.add_argument("--rounds", type=int, default=9, help="default: 9")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    print(f"{'':38}{'ms':>9}{'units':>9}{'mmcv C++':>10}{'MiB':>8}  unit")
    for group in (convolutions, attention, poolings, others):
        for case in group():
            if options.names and not case.name.startswith(tuple(options.names)):
                continue
            time_ms, units = ratio(case, options.rounds)
            compiled = "" if case.compiled is None else f"{case.compiled:g}"
            memory = peak(case.call)
            print(
                f"{case.name:38}{time_ms:9.1f}{units:9.2f}{compiled:>10}{memory:8.1f}  {case.unit}",
                flush=True,
            )
    columns = 2 * 32 * 32 * 9 * 256 * 4 / 2**20
    print(f"The columns of the deformable convolutions alone are {columns:.1f} MiB.")


if __name__ == "__main__":
    main()
