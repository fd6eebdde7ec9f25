"""Coding and assignment, with the numbers that torch_npu's tests expect of the hardware."""

from __future__ import annotations

import pytest
import torch
from npu_calls import call, close

from mx_autopatch.errors import SoftNpuError


def test_yolo() -> None:
    torch.manual_seed(1234)
    anchors, truths = torch.rand(2, 4), torch.rand(2, 4)
    stride = torch.tensor([2, 2], dtype=torch.int32)
    expected = torch.tensor(
        [
            [0.7921727, 0.5314963, -0.74224466, -13.815511],
            [0.7360072, 0.58343244, 4.3334002, -0.51378196],
        ]
    )
    close(call("npu_yolo_boxes_encode", anchors, truths, stride), expected, 1e-6)


def test_assignment() -> None:
    torch.manual_seed(1234)
    given = torch.rand(4), torch.rand(2, 4), torch.tensor([1, 1, 1, 0], dtype=torch.uint8)
    best = torch.rand(4), torch.tensor([1, 0, 1, 0], dtype=torch.int32)
    of_truths = torch.rand(2), torch.tensor([1, 0], dtype=torch.int32)
    found = call("npu_grid_assign_positive", *given, *best, *of_truths, 128, 0.5, 0.0, True)
    close(found, torch.tensor([2.0, 1.0, 0.25984418, 0.36664134]))
    first = call("npu_grid_assign_positive", *given, *best, *of_truths, 2, 0.9, 0.5, False)
    close(first, torch.cat((torch.tensor([2.0]), given[0][1:])))


def test_rotated() -> None:
    ones = torch.ones(5)
    anchor = torch.tensor([44.2877, 9.1412, 88.7575, 25.8879, 64.8047]).view(1, 5, 1)
    truth = torch.tensor([39.1763, 0.9838, 78.1028, 29.5997, 51.5907]).view(1, 5, 1)
    found = call("npu_rotated_box_encode", anchor, truth, ones)
    close(found.flatten(), torch.tensor([-0.1773, -0.1327, -0.1331, 0.5358, -0.8643]), 1e-4)
    close(call("npu_rotated_box_decode", anchor, found, ones), truth)
    anchor = torch.tensor([32.1855, 41.9922, 64.1435, 62.5325, 34.607]).view(1, 5, 1)
    deltas = torch.tensor([1.8725, -1.8915, 0.2395, -0.4622, -34.6539]).view(1, 5, 1)
    expected = torch.tensor([87.70366, 6.9412346, 128.31055, 19.879467, -88.313515])
    close(call("npu_rotated_box_decode", anchor, deltas, ones).flatten(), expected, 2e-5)
    with pytest.raises(SoftNpuError, match="a weight other than one"):
        call("npu_rotated_box_encode", anchor, truth, ones * 2)


@pytest.mark.parametrize("kind", [0, 1])
def test_normalised_sequences(kind: int) -> None:
    x, lengths = torch.randn(3, 2, 6), torch.tensor([4, 6, 2], dtype=torch.int32)
    expected = torch.empty_like(x)
    for i, n in enumerate(lengths.tolist()):
        for c in range(2):
            part = x[i, c, :n] if kind == 0 else x[i, :, :n]
            expected[i, c] = (x[i, c] - part.mean()) / (part.std() + 1e-5)
    close(call("npu_normalize_batch", x, lengths, kind), expected)
