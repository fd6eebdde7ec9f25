"""Kernels of Ascend NPUs under the operators, chosen by torch's dispatcher.

Importing this registers, for tensors of the device ``npu``, kernels that call
mx_driving where it can be imported and covers the call, else torch_npu's fused
operator where its documentation covers the call, else the portable implementation.
torch_npu is never imported here: its tensors are there only when it is.

====================  ==========================================  ======================
operator              mx_driving                                  torch_npu
====================  ==========================================  ======================
deform_conv2d         deform_conv2d, modulated_deform_conv2d      npu_deformable_conv2d
ms_deform_attn        multi_scale_deformable_attn
roi_align                                                         npu_roi_align
box_iou_rotated       box_iou_rotated
nms3d, nms3d_normal   nms3d, nms3d_normal
bev_pool              bev_pool
bev_pool_v2           bev_pool_v3
deform. aggregation   deformable_aggregation
hard_voxelize         voxelization
dynamic_voxelize      voxelization
====================  ==========================================  ======================

Sparse convolution is mx_driving's by whole layers: see sparse_conv.

What is not bound, and why:

- ``npu_nms_v4``, ``npu_nms_with_mask``, ``npu_nms_rotated``, ``npu_rotated_iou``,
  ``npu_rotated_overlaps``: torch_npu's documentation announces their end, no longer
  vouches for their numbers, and names neither the order of equal scores nor what a
  box of no area does.
- ``mx_driving.sigmoid_focal_loss``: for Atlas A5 alone, and torch_npu has none; the
  portable one is a dozen elementwise operators.
- ``mx_driving.box_iou_quadri``: its documentation does not say for which quadrilaterals it
  holds, and mmcv's, where it comes from, holds for rectangles only.
- ``mx_driving.roi_align_rotated``: its documentation has ``clockwise`` the other way
  round than its code's origin.
"""

from __future__ import annotations

from . import (  # noqa: F401  each binds its own
    bev_pool,
    boxes,
    deform_conv,
    deformable_aggregation,
    ms_deform_attn,
    roi_align,
    voxelize,
)
