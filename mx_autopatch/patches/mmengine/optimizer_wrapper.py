"""mmengine's optimizer wrappers with the clipping of torch_npu's fused optimizers.

Why: OptimWrapper, and with it AmpOptimWrapper, clips parameter by parameter, several kernels
     each; an NPU computes them faster than the host can call them.
How: where gradients are clipped by norm, ``clip_grad_norm_fused_`` of the wrapped optimizer
     does it, if it has that. Accumulation, scaling and what is logged are mmengine's own.
Upstream: mmengine.optim.optimizer.optimizer_wrapper, mmengine 0.1 - 0.10; torch_npu.optim.
Remove when: mmengine clips by the optimizer.
"""

from __future__ import annotations

from typing import Any

from mx_autopatch.model import Patch, Rewrite


def _clip(wrapper: Any, params: Any) -> Any:
    """The norm before clipping; for the clipping by value, None."""
    from mx_autopatch.patches.fused_clip import clip_fused

    norm = None
    if getattr(wrapper.clip_func, "__name__", "") == "clip_grad_norm_":
        norm = clip_fused(wrapper.optimizer, params, wrapper.clip_grad_kwargs)
    return wrapper.clip_func(params, **wrapper.clip_grad_kwargs) if norm is None else norm


PATCHES = (
    Patch(
        name="mmengine.optimizer_wrapper",
        edits=(
            Rewrite(
                "mmengine.optim.optimizer.optimizer_wrapper:OptimWrapper._clip_grad",
                find="self.clip_func(params, **self.clip_grad_kwargs)",
                replace="clip(self, params)",
                names={"clip": _clip},
            ),
        ),
        requires=("device:npu",),
    ),
)
