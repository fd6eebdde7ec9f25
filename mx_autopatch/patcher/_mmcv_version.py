"""mmcv's version as packages that cap it shall read it."""

from __future__ import annotations

import os

from mx_autopatch import bootstrap
from mx_autopatch.patcher._ledger import ledger
from mx_autopatch.patcher._predefined import CatalogPatch
from mx_autopatch.patches.mmcv import version_gate


def patch_mmcv_version(expected_version: str) -> None:
    """Let mmdet, mmdet3d and their like read ``expected_version`` as mmcv's.

    For those that are imported from now on, while they are imported; nothing is imported
    here, and everybody else goes on reading the true version.

    Raises:
        ValueError: it is no version.
    """
    version_gate.patch_mmcv_version(expected_version)
    ledger().apply(CatalogPatch("mmcv.version_gate").units())
    if bootstrap.is_wanted():
        os.environ["MX_AUTOPATCH_MMCV_VERSION"] = expected_version  # for the processes to come


ensure_mmcv_version = patch_mmcv_version
