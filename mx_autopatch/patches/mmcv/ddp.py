"""mmcv 1.x's MMDistributedDataParallel on NPUs: batches are copied, not scattered.

Why: its scatter copies by torch.cuda's streams and scatters tensors by a function of torch's
     CUDA build. mmcv 1.7 has a class for NPUs, which a script has to ask for by name.
How: what that class does, in place, so under every name that the class has, and in classes
     that derive from it: on an NPU the data of a batch goes there by ``Tensor.to``.
     Everywhere else nothing changes.
Upstream: mmcv.parallel.distributed, mmcv.device.npu.NPUDistributedDataParallel, mmcv 1.7.
Remove when: mmcv 1.x is out of use.
"""

from __future__ import annotations

from typing import Any

from mx_autopatch.model import Patch, Replace

CLASS = "mmcv.parallel.distributed:MMDistributedDataParallel"


def _is_on_npu(self: Any, *args: Any, **kwargs: Any) -> bool:
    return bool(self.device_type == "npu")


def scatter(self: Any, inputs: Any, kwargs: Any, device_ids: Any) -> Any:
    """Inputs and keyword arguments, each in a tuple of one, their data on that device."""
    import torch_npu
    from mmcv.device.scatter_gather import scatter_kwargs

    # mmcv copies to the current device, whichever number it is given.
    with torch_npu.npu.device(device_ids[0]):
        return scatter_kwargs(inputs, kwargs, device_ids, dim=self.dim)


def to_kwargs(self: Any, inputs: Any, kwargs: Any, device_id: Any) -> Any:
    """The same for one device."""
    return self.scatter(inputs, kwargs, [device_id])


PATCHES = (
    Patch(
        name="mmcv.ddp",
        edits=(
            Replace(f"{CLASS}.scatter", scatter, guard=_is_on_npu),
            Replace(f"{CLASS}.to_kwargs", to_kwargs, guard=_is_on_npu),
        ),
        requires=("device:npu", "mmcv>=1.7", "mmcv<2"),
    ),
)
