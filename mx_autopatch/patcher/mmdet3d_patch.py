"""Predefined patches for mmdet3d."""

from __future__ import annotations

from mx_autopatch.patcher._predefined import FUNCTIONS, NuScenesDataset, NuScenesMetric

__all__ = ["NuScenes", "NuScenesDataset", "NuScenesMetric", "nuscenes_dataset", "nuscenes_metric"]

#: Its name in early releases.
NuScenes = NuScenesDataset
nuscenes_dataset = FUNCTIONS["nuscenes_dataset"]
nuscenes_metric = FUNCTIONS["nuscenes_metric"]
