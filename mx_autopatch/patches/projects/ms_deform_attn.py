"""The extension ``MultiScaleDeformableAttention`` of Deformable DETR and its kin.

Why: it is CUDA's alone, and has to be compiled by the project's make.sh: ``No module named
     'MultiScaleDeformableAttention'`` (DINO, Mask2Former, MaskDINO, OneFormer). Copies that
     call mmcv's extension, as BEVFormer's do, are the business of mmcv.ext.
How: a module of that name, which is installed beside the packages, if it is missing or does not
     load; in the calling convention of the compiled one, on mx_autopatch.ops.ms_deform_attn,
     so the project's own autograd.Function runs as it is. The outcome names the module.
     A compiled one that loads is left alone.
Upstream: models/ops/src/vision.cpp of Deformable DETR.
Remove when: never; such projects are finished work.
"""

from mx_autopatch.model import Patch, Provide

_SOURCE = "mx_autopatch.provided.projects.ms_deform_attn"

PATCHES = (
    Patch(
        name="projects.ms_deform_attn",
        edits=(Provide("MultiScaleDeformableAttention", source=_SOURCE),),
        requires=("module:torch",),
    ),
)
