"""Predefined patches for mmengine, and those for mmcv 1.x that early releases had here."""

from __future__ import annotations

from mx_autopatch.patcher._predefined import FUNCTIONS, OptimizerWrapper

__all__ = [
    "OptimizerWrapper",
    "ddp",
    "ddp_forward",
    "optimizer_hooks",
    "optimizer_wrapper",
    "stream",
]

stream = FUNCTIONS["stream"]
ddp = FUNCTIONS["ddp"]
ddp_forward = FUNCTIONS["ddp_forward"]
optimizer_hooks = FUNCTIONS["optimizer_hooks"]
optimizer_wrapper = FUNCTIONS["optimizer_wrapper"]
