"""Deformable attention of BEVFormer, Deformable DETR and their kin on NPUs, by class name.

Why: each of them has an autograd.Function of its own over a compiled extension, mmcv's or one
     that it builds, which has no kernel for NPUs. 10 of 61 published migrations edit it.
How: a class that derives from torch.autograd.Function, has one of these names, and whose
     ``forward`` has exactly the parameters that all of them have, wherever it is, computes by
     mx_autopatch.ops.ms_deform_attn for tensors of the device npu: mx_driving's kernel where
     it is installed and covers the call, else the portable one. Of ``..._fp16`` and
     ``..._fp32`` the names say to which dtype autocast takes them. The functions beside the
     class call it. The outcome names each class. For other tensors the project's own code
     runs; mmcv's own class is mmcv.msda's business.
Upstream: multi_scale_deformable_attn_function.py of BEVFormer, UniAD, VAD, SurroundOcc;
     ops/functions/ms_deform_attn_func.py of Deformable DETR, DINO, Mask2Former.
Remove when: never; such projects are finished work.
"""

from mx_autopatch.model import Patch
from mx_autopatch.patches.functions import projects_own
from mx_autopatch.patches.mmcv.msda import gradients, ms_deform_attn

_NAME = "MultiScaleDeformableAttnFunction"
_PARAMETERS = (
    *("value", "value_spatial_shapes", "value_level_start_index"),
    *("sampling_locations", "attention_weights", "im2col_step"),
)

# Names -> what autocast makes of their tensors.
_NAMES = {
    ("MSDeformAttnFunction", _NAME): "",
    (f"{_NAME}_fp32",): "float32",
    (f"{_NAME}_fp16",): "float16",
}

PATCHES = (
    Patch(
        name="projects.ms_deform_attn_function",
        edits=tuple(
            projects_own(names, _PARAMETERS, ms_deform_attn, gradients, dtype)
            for names, dtype in _NAMES.items()
        ),
        requires=("module:torch", "device:npu"),
    ),
)
