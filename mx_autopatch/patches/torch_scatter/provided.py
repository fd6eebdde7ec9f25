"""``torch_scatter`` where it is not installed.

Why: it has wheels for a few versions of torch and for CUDA, else it has to be compiled, and
     it has no kernel for the NPU (mmdet3d's voxel encoders and BEV models import it).
How: all functions of torch_scatter 2.1 on scatter_add, scatter_reduce and gather of torch,
     which every device has. One that is installed and loads is left alone.
Upstream: torch_scatter/__init__.py and the modules beside it, 2.0 - 2.1.
Remove when: torch_scatter has wheels for current torch and kernels for the NPU.
"""

from __future__ import annotations

from importlib import import_module

from mx_autopatch.model import Call, Context, Patch, Provide

_SOURCE = "mx_autopatch.provided.torch_scatter"
_SUBMODULES = {
    "scatter": "_scatter",
    "segment_coo": "_segment_coo",
    "segment_csr": "_segment_csr",
    "composite": "_composite",
    "composite.logsumexp": "_composite",
    "composite.softmax": "_composite",
    "composite.std": "_composite",
    "utils": "_utils",
}


def import_submodules(context: Context) -> str:
    """Import the modules of the package at once, as the real one does.

    Three of them share their name with a function: importing one later would put the
    module into the function's place.
    """
    package = vars(context.module)
    if not package["scatter_sum"].__module__.startswith(_SOURCE):
        return "the installed torch_scatter imports its own"
    functions = {name: package[name] for name in _SUBMODULES if name in package}
    for name in _SUBMODULES:
        import_module(f"torch_scatter.{name}")
    package.update(functions)
    return "with its submodules"


PATCHES = (
    Patch(
        name="torch_scatter.provided",
        edits=(
            Provide("torch_scatter", source=_SOURCE),
            *(
                Provide(f"torch_scatter.{name}", source=f"{_SOURCE}.{file}")
                for name, file in _SUBMODULES.items()
            ),
            Call("torch_scatter", import_submodules),
        ),
        requires=("module:torch",),
    ),
)
