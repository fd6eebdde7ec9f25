"""Operators: schema, portable reference, autograd.

Each operator is a ``torch.library`` custom operator ``mx_autopatch::<name>``
whose default kernel is vectorised torch and runs on every device that torch
runs on. ``mx_autopatch.ops.npu`` adds kernels for Ascend NPUs, which the dispatcher
chooses, and ``torchvision_kernels`` those of an installed torchvision on CUDA.

The functions exported here check their arguments and call the operator. They
raise TypeError for a wrong kind (not a tensor, dtype) and ValueError for a
wrong value (rank, size, device, option); the message names operator, argument,
what was expected and what was given.
"""

from __future__ import annotations

from torch._library.custom_ops import OPDEFS

from . import npu, sync_bn, torchvision_kernels  # noqa: F401  kernels of NPUs, and of CUDA
from ._autocast import compute_outside_autocast
from .active_rotated_filter import active_rotated_filter
from .assign_score_withk import assign_score_withk
from .ball_query import ball_query, stack_ball_query
from .bev_pool import bev_pool, bev_pool_v2
from .bezier_align import bezier_align
from .bias_act import bias_act
from .border_align import border_align
from .box_iou import bbox_overlaps, box_iou_quadri, box_iou_rotated, boxes_overlap_bev
from .carafe import carafe
from .chamfer_distance import chamfer_distance
from .corner_pool import corner_pool
from .correlation import correlation
from .criss_cross import criss_cross_affinity, criss_cross_map
from .deform_conv import deform_conv2d, modulated_deform_conv2d
from .deform_roi_pool import deform_roi_pool
from .deformable_aggregation import deformable_aggregation
from .dynamic_scatter import dynamic_scatter
from .filtered_lrelu import filtered_lrelu
from .focal_loss import sigmoid_focal_loss
from .fused_bias_leakyrelu import fused_bias_leakyrelu
from .group_points import gather_points, group_points, stack_group_points
from .masked_conv import masked_col2im, masked_im2col
from .ms_deform_attn import ms_deform_attn
from .nearest_points import (
    furthest_point_sampling,
    furthest_point_sampling_with_dist,
    knn,
    three_nn,
)
from .nms import nms
from .nms_match import nms_match
from .nms_rotated import nms3d, nms3d_normal, nms_quadri, nms_rotated
from .pixel_group import contour_expand, pixel_group
from .point_sets import convex_giou, convex_iou, min_area_polygons
from .points_in_boxes import points_in_boxes, points_in_boxes_part
from .polygon_points import points_in_polygons, sort_vertices
from .prroi_pool import prroi_pool
from .psa_mask import psa_mask
from .riroi_align_rotated import riroi_align_rotated
from .roi_align import roi_align
from .roi_align_rotated import roi_align_rotated
from .roi_pool import roi_pool
from .roiaware_pool3d import roiaware_pool3d
from .roipoint_pool3d import roipoint_pool3d
from .rotated_feature_align import rotated_feature_align
from .soft_nms import soft_nms
from .softmax_focal_loss import softmax_focal_loss
from .sparse_conv import indice_conv, indice_maxpool
from .sparse_pairs import get_indice_pairs
from .three_interpolate import three_interpolate
from .tin_shift import tin_shift
from .upfirdn2d import upfirdn2d
from .voxelize import dynamic_voxelize, hard_voxelize

__all__ = [
    "active_rotated_filter",
    "assign_score_withk",
    "ball_query",
    "bbox_overlaps",
    "bev_pool",
    "bev_pool_v2",
    "bezier_align",
    "bias_act",
    "border_align",
    "box_iou_quadri",
    "box_iou_rotated",
    "boxes_overlap_bev",
    "carafe",
    "chamfer_distance",
    "contour_expand",
    "convex_giou",
    "convex_iou",
    "corner_pool",
    "correlation",
    "criss_cross_affinity",
    "criss_cross_map",
    "deform_conv2d",
    "deform_roi_pool",
    "deformable_aggregation",
    "dynamic_scatter",
    "dynamic_voxelize",
    "filtered_lrelu",
    "furthest_point_sampling",
    "furthest_point_sampling_with_dist",
    "fused_bias_leakyrelu",
    "gather_points",
    "get_indice_pairs",
    "group_points",
    "hard_voxelize",
    "indice_conv",
    "indice_maxpool",
    "knn",
    "masked_col2im",
    "masked_im2col",
    "min_area_polygons",
    "modulated_deform_conv2d",
    "ms_deform_attn",
    "nms",
    "nms3d",
    "nms3d_normal",
    "nms_match",
    "nms_quadri",
    "nms_rotated",
    "pixel_group",
    "points_in_boxes",
    "points_in_boxes_part",
    "points_in_polygons",
    "prroi_pool",
    "psa_mask",
    "riroi_align_rotated",
    "roi_align",
    "roi_align_rotated",
    "roi_pool",
    "roiaware_pool3d",
    "roipoint_pool3d",
    "rotated_feature_align",
    "sigmoid_focal_loss",
    "soft_nms",
    "softmax_focal_loss",
    "sort_vertices",
    "stack_ball_query",
    "stack_group_points",
    "three_interpolate",
    "three_nn",
    "tin_shift",
    "upfirdn2d",
]

# torch has no public list of the operators that were defined in a namespace.
compute_outside_autocast(
    name.partition("::")[2] for name in list(OPDEFS) if name.startswith("mx_autopatch::")
)
