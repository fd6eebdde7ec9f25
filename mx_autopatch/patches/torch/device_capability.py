"""torch.cuda.get_device_capability() is a pair on an NPU, too.

Why: under transfer_to_npu it is torch.npu's, which answers None unless
     TORCH_NPU_DEVICE_CAPABILITY is set, and warns. Code written for CUDA takes the first of
     two numbers: so does torch itself, since 2.13 in ``torch.distributed.broadcast``, which
     therefore fails with "'NoneType' object is not subscriptable" for every npu tensor, and
     with it mmengine's random seed, ZeroRedundancyOptimizer and tensor parallelism.
How: where the variable is not set, the answer is (0, 0): no CUDA hardware's features. Code
     that asks for a least capability takes its way round. With the variable, torch_npu
     answers as before.
Upstream: torch_npu.npu.get_device_capability, torch_npu 2.13; torch 2.13's broadcast.
Remove when: torch_npu answers a pair by itself.
"""

from __future__ import annotations

import os
from typing import Any

from mx_autopatch.model import Patch, Wrap


def _a_pair(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    if not os.environ.get("TORCH_NPU_DEVICE_CAPABILITY"):
        return (0, 0)
    return wrapped(*args, **kwargs)


PATCHES = (
    Patch(
        name="torch.device_capability",
        edits=(Wrap("torch_npu.npu:get_device_capability", _a_pair),),
        requires=("device:npu",),
    ),
)
