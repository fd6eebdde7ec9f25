"""Fixtures of the operator tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "mmcv_ops"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """On tensors this small threads only wait for each other, and long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def golden() -> Callable[[str], tuple[dict[str, torch.Tensor], dict[str, Any]]]:
    """Recorded calls of mmcv 2.1.0's own compiled operators.

    ``golden(case)`` gives the recorded arrays as tensors, and the keyword arguments.
    """
    if not GOLDEN.is_dir():
        pytest.skip(f"golden data of mmcv's compiled operators not found at {GOLDEN}")
    manifest = json.loads((GOLDEN / "manifest.json").read_text(encoding="utf-8"))
    kwargs = {case["file"]: case["kwargs"] for case in manifest}

    def load(case: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        with np.load(GOLDEN / f"{case}.npz") as data:
            return {k: torch.from_numpy(data[k]) for k in data.files}, kwargs[f"{case}.npz"]

    return load
