"""Tests of several processes with one soft NPU each; in the lane "npu" alone."""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("torch_npu") is None:
    collect_ignore_glob = ["test_*.py"]
