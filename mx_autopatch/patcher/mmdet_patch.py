"""Predefined patches for mmdet."""

from __future__ import annotations

from mx_autopatch.patcher._predefined import (
    FUNCTIONS,
    PseudoSampler,
    ResNetAddRelu,
    ResNetFP16,
    ResNetMaxPool,
)

__all__ = [
    "PseudoSampler",
    "ResNetAddRelu",
    "ResNetFP16",
    "ResNetMaxPool",
    "pseudo_sampler",
    "resnet_add_relu",
    "resnet_fp16",
    "resnet_maxpool",
]

pseudo_sampler = FUNCTIONS["pseudo_sampler"]
resnet_add_relu = FUNCTIONS["resnet_add_relu"]
resnet_maxpool = FUNCTIONS["resnet_maxpool"]
resnet_fp16 = FUNCTIONS["resnet_fp16"]
