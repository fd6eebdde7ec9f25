"""Text detection's post-processing through the public API of mmcv, with numpy's arrays."""

from __future__ import annotations

import numpy as np
import pytest
from test_mmcv_ext import needs_mmcv


@needs_mmcv
def test_pixel_group(ops):
    label = np.zeros((3, 5), np.int32)
    label[1, 1], label[1, 4] = 1, 2
    embedding = np.zeros((3, 5, 2), np.float32)
    embedding[:, 3:] = 9
    mask = np.ones((3, 5), bool)
    mask[0, 0] = False
    contour = (label > 0).astype(np.uint8)
    score = np.full((3, 5), 0.5, np.float32)
    got = ops.pixel_group(score, mask, embedding, label, contour, 3, 1.0)
    assert [g[:2] for g in got] == [[0, 0], [0.5, 8], [0.5, 6]]
    assert got[2][2:] == [3, 0, 4, 0, 3, 1, 4, 1, 3, 2, 4, 2]


@needs_mmcv
def test_contour_expand(ops):
    label = np.zeros((4, 6), np.int32)
    label[1, 1], label[2, 4] = 1, 2
    kernels = np.zeros((3, 4, 6), np.uint8)
    kernels[0] = 1
    kernels[1, 1:3] = 1
    got = ops.contour_expand(kernels, label, 1, 2)
    assert isinstance(got, list)
    assert got[1][:3] == [1, 1, 1]
    assert got[2][3:] == [2, 2, 2]
    assert ops.contour_expand(kernels, label, 2, 2) == [[0] * 6] * 4
    with pytest.raises(ValueError, match="expected labels from 0 to kernel_num = 1"):
        ops.contour_expand(kernels, label, 1, 1)
