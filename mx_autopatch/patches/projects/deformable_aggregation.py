"""The extension ``deformable_aggregation_ext`` of Sparse4D, SparseDrive and their kin.

Why: it is CUDA's alone, and has to be compiled by the project's setup.py: ``cannot import name
     'deformable_aggregation_ext'``.
How: a module of that name, in whatever package a project keeps it, if it is missing or does not
     load; in the calling convention of the compiled one, on the operator of that name in
     mx_autopatch.ops, so the project's own autograd.Function runs as it is. The outcome names
     the module. A compiled one that loads is left alone.
Upstream: projects/mmdet3d_plugin/ops/src/deformable_aggregation.cpp of Sparse4D v2 and v3.
Remove when: never; such projects are finished work.
"""

from mx_autopatch.model import Patch, Provide

_SOURCE = "mx_autopatch.provided.projects.deformable_aggregation"

PATCHES = (
    Patch(
        name="projects.deformable_aggregation",
        edits=(
            Provide("*.deformable_aggregation_ext", source=_SOURCE),
            Provide("deformable_aggregation_ext", source=_SOURCE),  # where some setup.py puts it
        ),
        requires=("module:torch",),
    ),
)
