"""A compiled ``mmcv._ext`` without kernels for NPUs, completed function by function.

Why: mmcv's wheels, and what its setup.py builds with CUDA or for the CPU, have none
     (``ball_query_forward_impl: implementation for device npu:0 not found``); what it builds
     for NPUs has two dozen of 100.
How: a function of it that is called with tensors of the device npu and says that it has
     no kernel for them is answered by that of mx_autopatch.mmcv_ext, and not asked again.
     One that has a kernel keeps it, for other tensors it runs as it is, and what else it
     raises reaches the caller.
Upstream: mmcv/ops/csrc/common/pytorch_device_registry.hpp, mmcv 1.3 - 2.2.
Remove when: mmcv has kernels for NPUs throughout.
"""

import re
from typing import Any, Callable

from mx_autopatch.model import Call, Context, NotNeeded, Patch

# By the registry of kernels; by functions that do without it; sparse convolution's, which
# takes any device that is not CUDA's for the CPU.
_NO_KERNEL = re.compile(
    r"implementation for device npu\S* not found"
    r"|not compiled with GPU support"
    r"|is not implemented on CPU",
    re.IGNORECASE,
)


def _complete(context: Context) -> str:
    from mx_autopatch import mmcv_ext
    from mx_autopatch.mmcv_ext.names import NAMES

    module = context.module
    if getattr(module, "nms", None) is mmcv_ext.nms:
        raise NotNeeded("mmcv._ext is mx_autopatch.mmcv_ext")
    names = [name for name in NAMES if hasattr(module, name)]
    for name in names:
        setattr(module, name, _either(getattr(module, name), getattr(mmcv_ext, name)))
    return f"{len(names)} functions"


def _either(theirs: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    lacks = False

    def function(*args: Any, **kwargs: Any) -> Any:
        nonlocal lacks
        on_npu = any(_is_on_npu(value) for value in (*args, *kwargs.values()))
        if not (on_npu and lacks):
            try:
                return theirs(*args, **kwargs)
            except RuntimeError as error:
                if not on_npu or not _NO_KERNEL.search(str(error)):
                    raise
            lacks = True
        return ours(*args, **kwargs)

    function.__name__ = function.__qualname__ = getattr(theirs, "__name__", "function")
    function.__doc__ = theirs.__doc__
    return function


def _is_on_npu(value: Any) -> bool:
    return getattr(getattr(value, "device", None), "type", "") == "npu"


PATCHES = (
    Patch(
        name="mmcv.ext_on_npu",
        edits=(Call("mmcv._ext", _complete),),
        requires=("module:torch", "device:npu"),
    ),
)
