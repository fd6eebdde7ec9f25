"""The tests of mmcv 1.x run in the lane "mmcv1", where it is installed."""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from mx_autopatch import bootstrap

try:
    HAS_MMCV_1 = version("mmcv").startswith("1.")
except PackageNotFoundError:  # mmcv-lite
    HAS_MMCV_1 = False

if HAS_MMCV_1:
    # Once, and without those patches that are tested in this process.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bootstrap.activate(overrides={"patches.only": ["mmcv.torchvision_urls"]})
        for name in ("mmcv.device.npu", "mmcv.runner"):
            import_module(name)
        bootstrap.deactivate()
else:
    collect_ignore_glob = ["test_*.py"]
