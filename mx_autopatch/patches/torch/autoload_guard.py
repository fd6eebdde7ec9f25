"""torch imports where torch-npu is installed, but CANN's runtime is not.

Why: torch loads torch_npu at the end of its own import, and where that fails, so does
     ``import torch``: "Failed to load the backend extension: torch_npu". So not even the
     CPU is to be had on a machine without the runtime, or from a shell in which CANN's
     set_env.sh was not sourced.
How: without a CANN, real or soft, torch executes with its own switch
     TORCH_DEVICE_BACKEND_AUTOLOAD at 0; then the environment is as before, and the other
     backends that torch would have loaded are loaded. Where ``device`` is ``auto`` or
     ``npu``, one line on stderr says how to get one. ``import torch_npu`` raises its own
     error, so whoever probes for an NPU finds none.
     With a CANN there is a device to lose, so torch_npu is loaded, and if it cannot be, the
     error stands. Where it was made for another torch, one line adds what torch's error
     does not say.
Upstream: torch >= 2.5 (its autoload), torch_npu >= 2.5.
Remove when: torch_npu's entry point does not raise without CANN.
"""

from __future__ import annotations

import os
import sys
from typing import Callable

from mx_autopatch.model import Before, Context, NotNeeded, Patch

SWITCH = "TORCH_DEVICE_BACKEND_AUTOLOAD"

NO_CANN = (
    "torch_npu is installed, but CANN's runtime is not to be found, so torch goes without it. "
    "For an NPU, source CANN's set_env.sh before the start; to rehearse without one, set "
    "MX_AUTOPATCH_DEVICE=soft; to be rid of this line, set MX_AUTOPATCH_DEVICE=cpu"
)


def _guard(context: Context) -> tuple[str, Callable[[], None]]:
    from mx_autopatch.device import has_cann
    from mx_autopatch.softnpu import runtime

    former = os.environ.get(SWITCH)
    if former not in (None, "1"):
        raise NotNeeded(f"{SWITCH} is {former!r}: torch loads no backend")
    if runtime.is_loaded() or has_cann():
        pairing = _pairing()
        if not pairing:
            raise NotNeeded("CANN is there")
        return pairing, lambda: _say(pairing) if sys.exc_info()[0] is not None else None
    # Of a rehearsal torch.soft_npu has said why there is none.
    if context.config.device in ("auto", "npu") and not _is_child():
        _say(NO_CANN)
    os.environ[SWITCH] = "0"

    def end() -> None:
        if former is None:
            os.environ.pop(SWITCH, None)
        else:
            os.environ[SWITCH] = former
        if sys.exc_info()[0] is None:
            _load_others()

    return "without torch_npu, since there is no CANN", end


def _load_others() -> None:
    """Load the other backends that are installed, as torch does."""
    from importlib.metadata import entry_points

    # Python 3.9 takes no group; torch itself needs a later one by then.
    for backend in entry_points(group="torch.backends"):
        if backend.name != "torch_npu":
            backend.load()()


def _pairing() -> str:
    """What is wrong with the versions of torch and torch_npu; empty if nothing is."""
    from importlib import metadata

    npu, torch = metadata.version("torch-npu"), metadata.version("torch")
    if npu.split(".")[:2] == torch.split(".")[:2]:
        return ""
    wanted = ".".join(npu.split(".")[:2])
    return (
        f"torch_npu {npu} is made for torch {wanted}, this is torch {torch}: install the two "
        f"that belong together, pip install torch=={wanted}.* torch-npu=={wanted}.*"
    )


def _is_child() -> bool:
    """Whether another process of this job has said it: the launcher, or the parent."""
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None and processes.parent_process() is not None:
        return True
    return "TORCHELASTIC_RUN_ID" in os.environ


def _say(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"mx_autopatch: {text}\n")


PATCHES = (
    Patch(
        name="torch.autoload_guard",
        edits=(Before("torch", _guard),),
        requires=("module:torch_npu", "torch>=2.5"),
    ),
)
