"""Operators: schema, portable reference, autograd.

Each operator is a ``torch.library`` custom operator ``mx_autopatch::<name>``
whose default kernel is vectorised torch and runs on every device that torch
runs on. A device kernel is added with ``<operator>.register_kernel("npu")``;
schema, fake kernel and autograd formula stay as they are.

The functions exported here check their arguments and call the operator. They
raise TypeError for a wrong kind (not a tensor, dtype) and ValueError for a
wrong value (rank, size, device, option); the message names operator, argument,
what was expected and what was given.
"""

from __future__ import annotations

from .active_rotated_filter import active_rotated_filter
from .assign_score_withk import assign_score_withk
from .bezier_align import bezier_align
from .bias_act import bias_act
from .border_align import border_align
from .carafe import carafe
from .corner_pool import corner_pool
from .correlation import correlation
from .criss_cross import criss_cross_affinity, criss_cross_map
from .deform_conv import deform_conv2d, modulated_deform_conv2d
from .deform_roi_pool import deform_roi_pool
from .filtered_lrelu import filtered_lrelu
from .focal_loss import sigmoid_focal_loss
from .fused_bias_leakyrelu import fused_bias_leakyrelu
from .masked_conv import masked_col2im, masked_im2col
from .ms_deform_attn import ms_deform_attn
from .nms import nms
from .prroi_pool import prroi_pool
from .psa_mask import psa_mask
from .riroi_align_rotated import riroi_align_rotated
from .roi_align import roi_align
from .roi_align_rotated import roi_align_rotated
from .roi_pool import roi_pool
from .rotated_feature_align import rotated_feature_align
from .softmax_focal_loss import softmax_focal_loss
from .tin_shift import tin_shift
from .upfirdn2d import upfirdn2d

__all__ = [
    "active_rotated_filter",
    "assign_score_withk",
    "bezier_align",
    "bias_act",
    "border_align",
    "carafe",
    "corner_pool",
    "correlation",
    "criss_cross_affinity",
    "criss_cross_map",
    "deform_conv2d",
    "deform_roi_pool",
    "filtered_lrelu",
    "fused_bias_leakyrelu",
    "masked_col2im",
    "masked_im2col",
    "modulated_deform_conv2d",
    "ms_deform_attn",
    "nms",
    "prroi_pool",
    "psa_mask",
    "riroi_align_rotated",
    "roi_align",
    "roi_align_rotated",
    "roi_pool",
    "rotated_feature_align",
    "sigmoid_focal_loss",
    "softmax_focal_loss",
    "tin_shift",
    "upfirdn2d",
]
