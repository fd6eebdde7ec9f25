"""Adam, AdamW and SGD with a step of a few kernels for all parameters, on NPUs.

Why: a step of torch's own calls several kernels for each parameter, each of which takes the
     host longer to call than the NPU to compute. 34 of 61 published migrations change to
     torch_npu.optim's NpuFused optimizers by hand, in code or in configs.
How: an optimizer that is made with all its parameters on one NPU gets a class derived from
     torch's and from torch_npu's: isinstance, registries, schedulers and scalers of
     gradients know it as before, and it has ``clip_grad_norm_fused_``. The names of
     torch.optim, and with them those of mmengine's and mmcv's registries, stay torch's own
     classes. Its states have torch's form, numbers agree within rounding, and
     ``zero_grad(set_to_none=True)``, gradients that come and go, loaded checkpoints and
     parameters that outlive the optimizer are as with torch (see fused_optimizers.py, which
     says what of that torch_npu's own lack).
     For 62 parameters a step of AdamW calls 10 operators on the device: 496 one by one, and 8
     of torch's foreach, which is the default on Ascend 910B with a torch_npu that says so.
     There the number of calls is no reason to want it; ``clip_grad_norm_fused_`` may be.
     The step is torch's own for parameters elsewhere, of other dtypes than float32 and
     float16, in memory that they share (FSDP, buckets of ZeRO), not contiguous, or in
     a private format; with sparse gradients, or such as lie in DDP's buckets; with maximize,
     foreach, fused, capturable or differentiable, or a tensor as learning rate; at
     the first step; and where other parameters have gradients than a step before for the
     fourth time. Subclasses of these optimizers are left alone.
Upstream: torch.optim.{Adam,AdamW,SGD}, torch >= 2.1; torch_npu.optim.
Remove when: torch's fused optimizers, fused=True, run on NPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mx_autopatch.model import Call, Context, Patch, Wrap


def _fused_if_on_npu(wrapped: Any, instance: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    optimizer = wrapped(*args, **kwargs)
    first = next((p for group in optimizer.param_groups for p in group["params"]), None)
    if first is not None and first.device.type == "npu":
        from mx_autopatch.patches.fused_optimizers import fuse

        fuse(optimizer)
    return optimizer


def _take_back(context: Context) -> tuple[str, Callable[[], None]]:
    def end() -> None:
        from mx_autopatch.patches.fused_optimizers import unfuse_all

        unfuse_all()

    return "optimizers that are alive become torch's own on revert", end


PATCHES = (
    Patch(
        name="torch.optimizers",
        edits=(
            Wrap("torch.optim.adam:Adam", _fused_if_on_npu),
            Wrap("torch.optim.adamw:AdamW", _fused_if_on_npu),
            Wrap("torch.optim.sgd:SGD", _fused_if_on_npu),
            Call("torch.optim", _take_back),
        ),
        requires=("device:npu", "torch>=2.1"),
    ),
)
