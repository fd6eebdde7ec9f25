"""The tests of the soft NPU run in the lane "npu", where torch-npu is installed."""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("torch_npu") is None:
    collect_ignore_glob = ["test_*.py"]
