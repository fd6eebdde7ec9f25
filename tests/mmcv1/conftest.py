"""The tests of mmcv 1.x run in the lane "mmcv1", where it is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    HAS_MMCV_1 = version("mmcv").startswith("1.")
except PackageNotFoundError:  # mmcv-lite
    HAS_MMCV_1 = False

if not HAS_MMCV_1:
    collect_ignore_glob = ["test_*.py"]
