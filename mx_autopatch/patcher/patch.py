"""The patches of the Patcher API: functions, groups, single attributes, registry entries."""

from __future__ import annotations

from mx_autopatch.patcher._attributes import AtomicPatch, RegistryPatch
from mx_autopatch.patcher._base import BasePatch, LegacyPatch, Patch
from mx_autopatch.patcher._imports import with_imports
from mx_autopatch.patcher.reporting import PatchResult, PatchStatus
from mx_autopatch.patcher.version import (
    check_version,
    get_version,
    is_mmcv_v1x,
    is_mmcv_v2x,
    mmcv_version,
)

__all__ = [
    "AtomicPatch",
    "BasePatch",
    "LegacyPatch",
    "Patch",
    "PatchResult",
    "PatchStatus",
    "RegistryPatch",
    "check_version",
    "get_version",
    "is_mmcv_v1x",
    "is_mmcv_v2x",
    "mmcv_version",
    "with_imports",
]
