"""Overlaps, offsets and suppression of boxes, box by box in plain Python."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from npu_calls import call, close
from torch import Tensor

from mx_autopatch.errors import SoftNpuError


def corners(n: int) -> Tensor:
    low = torch.rand(n, 2) * 20
    return torch.cat((low, low + torch.rand(n, 2) * 20 + 1), 1)


def iou(a: Any, b: Any, eps: float = 0.0) -> float:
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(c[2] - c[0] + eps) * (c[3] - c[1] + eps) for c in (a, b)]
    return w * h / (sum(areas) - w * h)


@pytest.mark.parametrize("name", ["npu_iou", "npu_ptiou"])
def test_iou_has_ground_truths_as_rows(name: str) -> None:
    boxes, truths = corners(4), corners(3)
    expected = [[iou(b, t, 0.01) for b in boxes.tolist()] for t in truths.tolist()]
    close(call(name, boxes, truths), torch.tensor(expected))
    share = call(name, boxes, truths, 1)
    t, b = truths[1].tolist(), boxes[2].tolist()
    w = max(0.0, min(t[2], b[2]) - max(t[0], b[0]))
    h = max(0.0, min(t[3], b[3]) - max(t[1], b[1]))
    assert abs(float(share[1, 2]) - w * h / ((t[2] - t[0] + 0.01) * (t[3] - t[1] + 0.01))) < 1e-5


def test_iou_of_the_documentation() -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [10, 10, 20, 20], [32, 32, 38, 42]]).half()
    truths = torch.tensor([[0, 0, 10, 20], [0, 10, 10, 10], [10, 10, 20, 20]]).half()
    expected = torch.tensor([[0.4985, 0, 0], [0, 0, 0], [0, 0.9961, 0]])
    close(call("npu_iou", boxes, truths), expected, 1e-3)


def general(kind: str, a: list[Tensor], b: list[Tensor]) -> Tensor:
    """GIoU, DIoU or CIoU of one pair given as centre and size."""
    eps = 0.0 if kind == "giou" else 1e-9
    ax, bx = [(a[i] - a[i + 2] / 2, a[i] + a[i + 2] / 2) for i in (0, 1)], None
    bx = [(b[i] - b[i + 2] / 2, b[i] + b[i + 2] / 2) for i in (0, 1)]
    inner = torch.ones(())
    outer = []
    for i in (0, 1):
        inner = inner * (torch.min(ax[i][1], bx[i][1]) - torch.max(ax[i][0], bx[i][0])).clamp(0)
        outer.append(torch.max(ax[i][1], bx[i][1]) - torch.min(ax[i][0], bx[i][0]))
    areas = [c[2] * (c[3] + eps) for c in (a, b)]
    union = areas[0] + areas[1] - inner + (1e-16 if kind == "giou" else eps)
    overlap = inner / union
    if kind == "giou":
        whole = outer[0] * outer[1]
        return overlap - (whole - union) / whole
    apart = ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) / (outer[0] ** 2 + outer[1] ** 2 + eps)
    if kind == "diou":
        return overlap - apart
    angle = torch.atan(b[2] / (b[3] + eps)) - torch.atan(a[2] / (a[3] + eps))
    v = 4 / math.pi**2 * angle**2
    alpha = (v / (1 + eps - overlap + v)).detach()
    return overlap - apart - v * alpha


def centred(n: int) -> Tensor:
    return torch.cat((torch.rand(2, n) * 10, torch.rand(2, n) * 8 + 2))


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_generalised_overlaps_and_their_gradients(kind: str) -> None:
    boxes, truths = centred(6), centred(6)
    leaves = boxes.npu().requires_grad_(), truths.npu().requires_grad_()
    arguments = (True, False) if kind != "ciou" else (True, False, 0, True)
    found = getattr(torch.ops.npu, f"npu_{kind}")(*leaves, *arguments)
    wide = boxes.double().requires_grad_(), truths.double().requires_grad_()
    each = [general(kind, list(wide[0][:, i]), list(wide[1][:, i])) for i in range(6)]
    expected = torch.stack(each).reshape(6, 1) if kind == "giou" else torch.stack(each)[None]
    close(found.detach().cpu(), expected.detach())
    seed = torch.randn(expected.shape)
    (expected * seed).sum().backward()
    found.backward(seed.npu())
    close([leaf.grad.cpu() for leaf in leaves], [t.grad for t in wide])


@pytest.mark.parametrize("kind", ["diou", "ciou"])
def test_overlaps_of_each_with_each(kind: str) -> None:
    boxes, truths = centred(3), centred(2)
    found = call(f"npu_{kind}", boxes, truths, True, True)
    expected = [
        [general(kind, list(boxes[:, i]), list(truths[:, j])) for i in range(3)] for j in range(2)
    ]
    close(found, torch.tensor(expected))


def test_what_torch_npu_refuses_and_what_is_not_documented() -> None:
    with pytest.raises(RuntimeError, match="npu_giou only supports trans=True"):
        call("npu_giou", centred(2), centred(2))
    with pytest.raises(SoftNpuError, match="npu_ciou: mode=1"):
        call("npu_ciou", centred(2), centred(2), True, False, 1)


def test_offsets_of_the_documentation() -> None:
    anchors = torch.tensor([[1.0, 2, 3, 4], [3, 4, 5, 6]])
    truths = torch.tensor([[5.0, 6, 7, 8], [7, 8, 9, 6]])
    zeros, stds = (0.0,) * 4, (0.1, 0.1, 0.2, 0.2)
    found = call("npu_bounding_box_encode", anchors, truths, *zeros, *stds)
    close(found[0], torch.tensor([13.3333, 13.3333, 0, 0]), 1e-4)
    deltas = torch.tensor([[5.0, 6, 7, 8], [7, 8, 9, 6]])
    ones = (1.0,) * 4
    found = call("npu_bounding_box_decode", anchors, deltas, *zeros, *ones, [10, 10], 0.1)
    close(found, torch.tensor([[2.5, 6.5, 9, 9], [9, 9, 9, 9]]))


def test_decoding_undoes_encoding() -> None:
    anchors, truths = corners(5), corners(5)
    settings = (0.1, -0.1, 0.2, 0.0, 0.1, 0.2, 0.3, 0.4)
    deltas = call("npu_bounding_box_encode", anchors, truths, *settings)
    found = call("npu_bounding_box_decode", anchors, deltas, *settings, [99, 99], 1e-3)
    close(found, truths, 1e-4)


def test_anchor_response_flags() -> None:
    boxes = corners(5) * 2
    flags = torch.zeros(6, 8, 3, dtype=torch.uint8)
    for x1, y1, x2, y2 in boxes.tolist():
        column, row = math.floor((x1 + x2) / 2 / 8), math.floor((y1 + y2) / 2 / 16)
        flags[min(row, 5), min(column, 7)] = 1
    found = call("npu_anchor_response_flags", boxes, [6, 8], [8, 16], 3)
    assert torch.equal(found, flags.flatten())


def suppressed(boxes: Tensor, order: list[int], threshold: float) -> list[int]:
    kept: list[int] = []
    for i in order:
        if all(iou(boxes[i].tolist(), boxes[j].tolist()) <= threshold for j in kept):
            kept.append(i)
    return kept


def test_nms_v4() -> None:
    boxes, scores = corners(40), torch.rand(40)
    expected = suppressed(
        boxes, [i for i in scores.argsort(descending=True).tolist() if scores[i] > 0.3], 0.4
    )
    found, count = call("npu_nms_v4", boxes, scores, 25, torch.tensor(0.4), torch.tensor(0.3))
    kept = expected[:25]
    assert (found.dtype, found.shape, count.dtype) == (torch.int32, (25,), torch.int32)
    assert found.tolist() == kept + [0] * (25 - len(kept))
    assert int(count) == len(kept)
    flipped = boxes[:, [2, 3, 0, 1]]
    again, _ = call("npu_nms_v4", flipped, scores, 25, torch.tensor(0.4), torch.tensor(0.3))
    assert torch.equal(again, found)


def test_nms_with_mask() -> None:
    boxes = torch.cat((corners(20), torch.linspace(1, 0, 20)[:, None]), 1)
    found = call("npu_nms_with_mask", boxes, 0.4)
    assert torch.equal(found[0], boxes)
    assert found[1].tolist() == list(range(20))
    assert found[2].nonzero().flatten().tolist() == suppressed(boxes, list(range(20)), 0.4)


def test_batch_nms() -> None:
    boxes, scores = torch.stack([corners(12), corners(12)]).unsqueeze(2), torch.rand(2, 12, 3)
    found = call("npu_batch_nms", boxes, scores, 0.3, 0.4, 4, 9)
    for image in range(2):
        best = []
        for label in range(3):
            own = scores[image, :, label]
            order = [i for i in own.argsort(descending=True).tolist() if own[i] > 0.3]
            kept = suppressed(boxes[image, :, 0], order, 0.4)[:4]
            best += [(float(own[i]), float(label), i) for i in kept]
        best = sorted(best, reverse=True)[:9]
        count = len(best)
        assert int(found[3][image]) == count
        close(found[1][image, :count], torch.tensor([score for score, _, _ in best]))
        close(found[2][image, :count], torch.tensor([label for _, label, _ in best]))
        close(found[0][image, :count], boxes[image, [i for _, _, i in best], 0])
        assert not found[0][image, count:].any()


def test_rotated_areas_by_counting_points() -> None:
    boxes = torch.tensor([[[10.0, 10, 8, 4, 30], [12, 9, 5, 9, -75], [30, 30, 2, 2, 0]]])
    found = call("npu_rotated_overlaps", boxes, boxes[:, :2])
    fine = 0.02
    y, x = torch.meshgrid(*[torch.arange(0, 20, fine) + fine / 2] * 2, indexing="ij")

    def inside(box: Tensor) -> Tensor:
        cx, cy, w, h, angle = box.tolist()
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        along, across = c * (x - cx) + s * (y - cy), c * (y - cy) - s * (x - cx)
        return (along.abs() <= w / 2) & (across.abs() <= h / 2)

    for i in range(3):
        for j in range(2):
            both = (inside(boxes[0, i]) & inside(boxes[0, j])).sum() * fine**2
            assert abs(float(found[0, i, j]) - float(both)) < 0.05
    ious = call("npu_rotated_iou", boxes, boxes[:, :2])
    close(ious[0, 0, 1], found[0, 0, 1] / (32 + 45 - found[0, 0, 1]))
    corner = boxes.clone()
    corner[..., :2], corner[..., 2:4] = (
        boxes[..., :2] - boxes[..., 2:4] / 2,
        boxes[..., :2] + boxes[..., 2:4] / 2,
    )
    close(call("npu_rotated_overlaps", corner, corner[:, :2], True), found)


def test_rotated_boxes_as_torch_npu_tests_them() -> None:
    """The numbers that torch_npu's own test expects of the hardware, from the same seed."""
    state = np.random.get_state()
    np.random.seed(1234)
    sets = []
    for rows in (2, 3):
        centre = np.random.uniform(20, 60, (4, rows, 2)).astype(np.float32)
        size = np.random.randint(1, 20, (4, rows, 2))
        angle = np.random.randint(-180, 180, (4, rows, 1))
        sets.append(torch.from_numpy(np.concatenate([centre, size, angle], -1, dtype=np.float32)))
    np.random.set_state(state)
    found = call("npu_rotated_iou", *sets)
    expected = torch.zeros(4, 2, 3)
    expected[0, 0, 1], expected[2, 1, 0], expected[2, 1, 1] = 0.00045966, 0.00600622, 0.10504241
    close(found, expected, 1e-4)


def test_nms_of_rotated_boxes() -> None:
    boxes = torch.cat(
        (torch.rand(20, 2) * 12, torch.rand(20, 2) * 6 + 2, torch.rand(20, 1) * 90), 1
    )
    scores = torch.rand(20)
    ious = call("npu_rotated_iou", boxes[None], boxes[None])[0]
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if scores[i] > 0.2 and all(ious[i, j] <= 0.3 for j in kept):
            kept.append(i)
    found, count = call("npu_nms_rotated", boxes, scores, 0.3, 0.2)
    assert found.tolist() == kept
    assert count.tolist() == [len(kept)]
    assert call("npu_nms_rotated", boxes, scores, 0.3, 0.2, 2)[0].tolist() == kept[:2]


# ---- regions -----------------------------------------------------------------------------------

FEATURES = torch.arange(1.0, 37).view(1, 1, 6, 6)
ROI = torch.tensor([[0, -2.0, -2.0, 22.0, 22.0]])


def test_roi_align_of_the_documentation() -> None:
    found = call("npu_roi_align", FEATURES, ROI, 0.25, 3, 3, 2, 0)
    expected = torch.tensor([[4.5, 6.5, 8.5], [16.5, 18.5, 20.5], [28.5, 30.5, 32.5]])
    close(found, expected[None, None])
    gradient = call("npu_roi_alignbk", found, ROI, [1, 1, 6, 6], 3, 3, 0.25, 2)
    first = torch.tensor([1.0786, 1.0557, 1.4942, 1.5248, 1.9226, 2.4709])
    last = torch.tensor([8.2847, 8.1084, 8.6403, 8.6774, 9.1598, 11.4575])
    close(gradient[0, 0, [0, 5]], torch.stack((first, last)), 1e-4)


@pytest.mark.parametrize("mode", [0, 2, 3])
def test_roi_align_agrees_with_its_gradient(mode: int) -> None:
    x = torch.randn(2, 3, 6, 7).double()
    rois = torch.tensor([[1, 0.7, 1.2, 9.1, 8.3], [0, 4.0, 2.0, 5.0, 11.0]]).double()
    grad = torch.randn(2, 3, 2, 3).double()
    # The operator is linear in the features: <grad, f(x)> = <f'(grad), x>.
    out = call("npu_roi_align", x, rois, 0.5, 2, 3, 0, mode)
    back = call("npu_roi_alignbk", grad, rois, [2, 3, 6, 7], 3, 2, 0.5, 0, mode)
    assert abs(float((grad * out).sum() - (back * x).sum())) < 1e-9


def test_roi_align_in_the_mode_that_is_described_in_two_ways() -> None:
    with pytest.raises(SoftNpuError, match="roi_end_mode 1"):
        call("npu_roi_align", FEATURES, ROI, 0.25, 3, 3, 2, 1)


def test_roi_align_takes_what_mmcv_calls_aligned() -> None:
    from mx_autopatch.ops import roi_align

    x, rois = torch.randn(2, 3, 8, 8), torch.tensor([[1, 0.7, 1.2, 9.1, 8.3], [0, 4, 2, 15, 11]])
    for aligned, mode in ((False, 0), (True, 2)):
        found = call("npu_roi_align", x, rois, 0.5, 3, 2, 2, mode)
        close(found, roi_align(x, rois, (3, 2), 0.5, 2, "avg", aligned))


def test_position_sensitive_pooling_of_the_documentation() -> None:
    rois = torch.arange(1.0, 11).view(2, 5, 1).half()
    x = torch.arange(1.0, 17).view(2, 8, 1, 1).half()
    found = call("npu_ps_roi_pooling", x, rois, 0.5, 2, 2)
    assert torch.equal(found, torch.zeros(2, 2, 2, 2).half())
    gradient = call("npu_ps_roi_pooling_backward", torch.ones_like(found), rois, 0.5, 2, 2, [1, 1])
    assert torch.equal(gradient, torch.zeros(2, 8, 1, 1).half())
