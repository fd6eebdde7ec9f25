"""Predefined patches for mmcv."""

from __future__ import annotations

from mx_autopatch.patcher._mmcv_version import ensure_mmcv_version, patch_mmcv_version
from mx_autopatch.patcher._predefined import (
    DDP,
    FUNCTIONS,
    DeformConv,
    ModulatedDeformConv,
    MultiScaleDeformableAttention,
    OptimizerHooks,
    SigmoidFocalLoss,
    SparseConv3D,
    Stream,
    Voxelization,
)

__all__ = [
    "DDP",
    "DeformConv",
    "ModulatedDeformConv",
    "MultiScaleDeformableAttention",
    "OptimizerHooks",
    "SigmoidFocalLoss",
    "SparseConv3D",
    "Stream",
    "Voxelization",
    "dc",
    "ddp",
    "ddp_forward",
    "ensure_mmcv_version",
    "mdc",
    "msda",
    "optimizer_hooks",
    "patch_mmcv_version",
    "sigmoid_focal_loss",
    "spconv3d",
    "stream",
    "voxelization",
]

msda = FUNCTIONS["msda"]
dc = FUNCTIONS["dc"]
mdc = FUNCTIONS["mdc"]
spconv3d = FUNCTIONS["spconv3d"]
voxelization = FUNCTIONS["voxelization"]
sigmoid_focal_loss = FUNCTIONS["sigmoid_focal_loss"]
stream = FUNCTIONS["stream"]
ddp = FUNCTIONS["ddp"]
ddp_forward = FUNCTIONS["ddp_forward"]
optimizer_hooks = FUNCTIONS["optimizer_hooks"]
