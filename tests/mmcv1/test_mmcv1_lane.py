"""What the other tests of the lane "mmcv1" rest on: which packages answer in it."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

# Pinned in tests/requirements-mmcv1.txt, over what pyproject.toml asks for.
EXPECTED = {"mmcv": "1.7.2", "mmdet": "2.28.2", "mmsegmentation": "0.30.0"}


@pytest.mark.parametrize("package", EXPECTED)
def test_the_pinned_packages_are_found_first(package: str) -> None:
    assert version(package) == EXPECTED[package]


def test_torch_and_numpy_are_todays() -> None:
    import numpy
    import torch

    for module in (numpy, torch):  # from the lane below
        assert Path(sys.prefix) not in Path(module.__file__ or "").parents
    assert torch.npu.device_count() == 2
    assert torch.ones(2, device="npu:0").sum().item() == 2
    assert int(torch.__version__.split(".")[0]) >= 2
    assert int(numpy.__version__.split(".")[0]) >= 2
