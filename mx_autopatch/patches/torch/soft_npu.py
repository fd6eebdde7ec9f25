"""The soft NPU: a device ``npu`` without the hardware, on the real torch_npu.

Why: nobody who writes or reviews a migration has an NPU on the laptop or in CI.
How: a stand-in for the CANN runtime, whose device memory is host memory, is loaded before
     torch; once torch_npu is there, its kernels are replaced by ones that let the CPU
     compute on the same memory. In every process that imports torch, torchrun included.
     ``device = "contract"`` loads the stand-in with no device and replaces nothing: for
     torch's FakeTensorMode, against torch_npu's own schemas and meta functions.
Upstream: torch_npu 2.13.
Remove when: never; it is on by ``device = "soft"`` or ``"contract"`` alone.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Callable

from mx_autopatch.model import Before, Call, Context, NotNeeded, Patch


def _load(context: Context) -> str:
    from mx_autopatch.softnpu import runtime

    if runtime.has_failed():  # and said so
        raise NotNeeded("the stand-in for CANN could not be loaded")
    try:
        return runtime.load(0 if context.config.device == "contract" else None)
    except Exception as error:
        # The import of torch goes on without a device: say at once why there is none.
        if sys.stderr is not None:
            sys.stderr.write(f"mx_autopatch: {error}\n")
        raise


def _load_if_first(context: Context) -> str:
    from mx_autopatch.softnpu import runtime

    if runtime.is_loaded() or runtime.has_failed():
        raise NotNeeded("tried before torch")
    return _load(context)


def _show_installed(context: Context) -> Callable[[], None]:
    from mx_autopatch.softnpu import runtime

    if not runtime.is_loaded():
        raise NotNeeded("the stand-in for CANN is not loaded")
    stack = contextlib.ExitStack()
    stack.enter_context(runtime.as_installed())
    return stack.close


def _install(context: Context) -> str:
    from mx_autopatch.softnpu import runtime

    if not runtime.is_loaded():
        raise NotNeeded("the stand-in for CANN is not loaded")
    if context.config.device == "contract":
        raise NotNeeded("on the device 'contract' nothing is computed")
    from mx_autopatch.softnpu.install import install

    return install()


PATCHES = (
    Patch(
        name="torch.soft_npu",
        edits=(
            Before("torch", _load),
            # It may be torch_npu that imports torch.
            Before("torch_npu", _load_if_first),
            Before("torch_npu", _show_installed),
            Call("torch_npu", _install),
        ),
        requires=("device:rehearsed",),
        priority=-100,
    ),
)
