"""mmcv.points_anywhere on the installed mmcv-lite: no CUDA, and yet."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import HAS_TORCH_NPU
from test_mmcv import START, pytestmark, run  # noqa: F401

CODE = """
import torch
from mmcv.ops import furthest_point_sample, knn, points_in_boxes_all, points_in_boxes_part

points = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [9, 0, 0], [4, 0, 0]]])
print(knn(2, points).tolist())
print(knn(2, points.transpose(1, 2).contiguous(), None, True).tolist())
print(furthest_point_sample(points, 3).tolist())
boxes = torch.tensor([[[0.0, 0, -1, 1, 1, 2, 0], [1, 0, -1, 3, 3, 2, 0]]])
print(points_in_boxes_all(points, boxes).tolist(), points_in_boxes_part(points, boxes).tolist())
"""

RESULTS = """\
[[[0, 1, 2, 3], [1, 0, 3, 1]]]
[[[0, 1, 2, 3], [1, 0, 3, 1]]]
[[0, 2, 3]]
[[[1, 1], [0, 1], [0, 0], [0, 0]]] [[0, 1, -1, -1]]
"""


def test_on_the_cpu(tmp_path: Path) -> None:
    done = run(START + CODE, tmp_path, MX_AUTOPATCH="1")
    assert (done.returncode, done.stdout) == (0, RESULTS), done.stderr
    assert "guard" not in done.stderr


@pytest.mark.skipif(HAS_TORCH_NPU, reason="there torch.cuda answers, by torch.transfer_to_npu")
def test_without_the_patch(tmp_path: Path) -> None:
    environment = {"MX_AUTOPATCH": "1", "MX_AUTOPATCH_DISABLE": "mmcv.points_anywhere"}
    done = run(START + CODE, tmp_path, **environment)
    assert done.returncode == 1
    assert "CUDA" in done.stderr
