"""mmcv 1.x's IterBasedRunner resumes where there is no GPU.

Why: its ``resume`` asks for the current CUDA device before anything else, so on a CPU it is
     ``Torch not compiled with CUDA enabled``; EpochBasedRunner asks first whether there is one.
How: without a GPU the checkpoint is read to the CPU, from where the model and the optimizer
     take it to wherever they are. A caller's own ``map_location`` is not touched.
Upstream: mmcv.runner.iter_based_runner.IterBasedRunner.resume, mmcv 1.x.
Remove when: mmcv 1.x is out of use.
"""

from __future__ import annotations

from typing import Any

from mx_autopatch.model import Patch, Wrap


def _to_the_cpu(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    import torch

    is_given = len(args) > 2 or kwargs.get("map_location", "default") != "default"
    if not is_given and not torch.cuda.is_available():
        kwargs = {**kwargs, "map_location": "cpu"}
    return wrapped(*args, **kwargs)


PATCHES = (
    Patch(
        name="mmcv.iter_resume",
        edits=(Wrap("mmcv.runner.iter_based_runner:IterBasedRunner.resume", _to_the_cpu),),
        requires=("mmcv<2",),
    ),
)
