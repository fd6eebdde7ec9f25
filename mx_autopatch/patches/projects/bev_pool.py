"""The extension ``bev_pool_ext`` that BEVFusion and its kin compile in their own tree.

Why: it is CUDA's alone, and has to be compiled by the project's setup.py: ``cannot import name
     'bev_pool_ext'``; mmdet3d's projects/BEVFusion has it too.
How: a module of that name, in whatever package a project keeps it, if it is missing or does not
     load; in the calling convention of the compiled one, on mx_autopatch.ops.bev_pool,
     so the project's own autograd.Function runs as it is. The outcome names the module.
     A compiled one that loads is left alone.
Upstream: mmdet3d/ops/bev_pool/src/bev_pool.cpp of BEVFusion.
Remove when: never; such projects are finished work.
"""

from mx_autopatch.model import Patch, Provide

_SOURCE = "mx_autopatch.provided.projects.bev_pool"

PATCHES = (
    Patch(
        name="projects.bev_pool",
        edits=(
            Provide("*.bev_pool_ext", source=_SOURCE),
            Provide("bev_pool_ext", source=_SOURCE),  # where some setup.py puts it
        ),
        requires=("module:torch",),
    ),
)
