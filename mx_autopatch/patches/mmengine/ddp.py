"""mmengine's distributed training where there is no accelerator: ranks on the CPU, over gloo.

Why: for a launcher, mmengine sets a CUDA device, asks for nccl, and gives
     DistributedDataParallel the number of a device, all of which fail where there is none. So
     what several ranks do cannot be tried on a laptop or in CI. (On NPUs mmengine's own way
     is right, and nothing is changed.)
How: without an accelerator no device is set, gloo answers for nccl, and a model that is on
     the CPU is wrapped without ``device_ids``. A backend that is asked for by another name
     is taken.
Upstream: mmengine.dist.utils, mmengine.model.wrappers.distributed, mmengine 0.1 - 0.10.
Remove when: mmengine does that itself.
"""

from __future__ import annotations

from typing import Any

from mx_autopatch.model import Patch, Rewrite, Wrap


def _set_device(number: int) -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(number)


def _over_gloo(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    def init(launcher: Any, backend: Any = "nccl", *rest: Any, **options: Any) -> Any:
        import torch

        if backend == "nccl" and not torch.cuda.is_available():
            backend = "gloo"
        return wrapped(launcher, backend, *rest, **options)

    return init(*args, **kwargs)


def _without_number(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    module = args[0] if args else kwargs["module"]
    if all(p.device.type == "cpu" for p in module.parameters()):
        kwargs = {k: v for k, v in kwargs.items() if k not in ("device_ids", "output_device")}
    return wrapped(*args, **kwargs)


PATCHES = (
    Patch(
        name="mmengine.ddp",
        edits=(
            Wrap("mmengine.dist.utils:init_dist", _over_gloo),
            Rewrite(
                "mmengine.dist.utils:_init_dist_pytorch",
                find="torch.cuda.set_device(local_rank)",
                replace="set_device(local_rank)",
                names={"set_device": _set_device},
            ),
            Wrap(
                "mmengine.model.wrappers.distributed:MMDistributedDataParallel.__init__",
                _without_number,
            ),
        ),
        requires=("device:cpu",),
    ),
)
