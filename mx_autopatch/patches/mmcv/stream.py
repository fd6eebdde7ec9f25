"""mmcv 1.x's scatter, which asks torch for a stream by the number of a device.

Why: torch.nn.parallel's ``_get_stream`` takes a torch.device since torch 2.1; given a number
     it raises ``'int' object has no attribute 'type'`` for every batch that MMDataParallel
     and MMDistributedDataParallel scatter (mmdetection#10720).
How: a number is read as the accelerator of that number, npu or cuda, and -1 as the CPU, as
     it was before.
Upstream: mmcv.parallel._functions.Scatter, mmcv 1.x; torch.nn.parallel._functions.
Remove when: mmcv 1.x is out of use.
"""

from __future__ import annotations

from typing import Any

from mx_autopatch.model import Patch, Wrap


def _by_number(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    def on(device: Any) -> Any:
        import torch

        if isinstance(device, int):
            # A number alone is one of the accelerator, or an error that says there is none.
            device = torch.device(device) if device >= 0 else torch.device("cpu")
        return wrapped(device)

    return on(*args, **kwargs)


PATCHES = (
    Patch(
        name="mmcv.stream",
        edits=(Wrap("mmcv.parallel._functions:_get_stream", _by_number),),
        requires=("mmcv<2", "torch>=2.1"),
    ),
)
