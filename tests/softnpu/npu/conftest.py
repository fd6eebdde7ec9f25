"""Tests of torch_npu's own operators, on small tensors; in the lane "npu" alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
import torch

if importlib.util.find_spec("torch_npu") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads would only wait for each other; and numbers are the same each time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.npu.manual_seed(0)
    yield
    torch.set_num_threads(threads)
