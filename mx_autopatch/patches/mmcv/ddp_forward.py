"""mmcv 1.x's MMDistributedDataParallel called as a model, as evaluation does.

Why: its ``_run_ddp_forward`` asks torch's class for ``_use_replicated_tensor_module``, which
     torch 2 does not have (Cream#179).
How: the inputs are scattered as mmcv does it, and the rest is torch's own
     ``_run_ddp_forward``, what it does for compiled modules included.
Upstream: mmcv.parallel.distributed.MMDistributedDataParallel, mmcv 1.6 - 1.7.
Remove when: mmcv 1.x is out of use.
"""

from __future__ import annotations

from typing import Any

from mx_autopatch.model import Patch, Replace


def _run_ddp_forward(self: Any, *inputs: Any, **kwargs: Any) -> Any:
    from torch.nn.parallel import DistributedDataParallel

    torchs: Any = DistributedDataParallel
    given, named = inputs, kwargs
    if self.device_ids:
        # One tuple and one mapping for each device, of which there is one.
        (given,), (named,) = self.to_kwargs(inputs, kwargs, self.device_ids[0])
    return torchs._run_ddp_forward(self, *given, **named)


PATCHES = (
    Patch(
        name="mmcv.ddp_forward",
        edits=(
            Replace(
                "mmcv.parallel.distributed:MMDistributedDataParallel._run_ddp_forward",
                _run_ddp_forward,
            ),
        ),
        requires=("mmcv>=1.6", "mmcv<2", "torch>=2.0"),
    ),
)
