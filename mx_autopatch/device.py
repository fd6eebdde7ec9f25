"""Which device a run is for."""

from __future__ import annotations

import functools
import sys

#: Kind of device -> the configured devices that are of it.
_KINDS = {"npu": ("npu", "soft", "contract"), "rehearsed": ("soft", "contract")}


def is_device(name: str, configured: str) -> bool | str:
    """Whether the run is for device ``name``; else why not.

    Args:
        name: ``cpu``, ``cuda``, ``npu``, or ``rehearsed`` for an NPU that is not real.
        configured: The configuration's ``device``; ``auto`` looks at what is there.
    """
    device = configured if configured != "auto" else detect()
    if device in _KINDS.get(name, (name,)):
        return True
    return f"requires the device {name}, this run is for {device}"


def detect() -> str:
    """``npu``, ``cuda`` or ``cpu``: the first that is there, without initialising it.

    An initialised device cannot be used in a forked worker.
    """
    from importlib.util import find_spec  # most runs never ask

    if find_spec("torch_npu") is not None and has_cann():
        return "npu"
    torch = sys.modules.get("torch")
    if torch is None or not torch.version.cuda:
        return "cpu"
    # While torch itself executes, which some edits do not wait for, it has no cuda yet: what
    # it was built for has to do.
    cuda = getattr(torch, "cuda", None)
    return "cuda" if cuda is None or cuda.device_count() > 0 else "cpu"


@functools.cache
def has_cann() -> bool:
    """Whether CANN's runtime, which torch_npu links, can be loaded in this process.

    That is so where CANN's ``set_env.sh`` was sourced. It loads the library, as importing
    torch_npu would, and initialises nothing.
    """
    import ctypes

    try:
        ctypes.CDLL("libascendcl.so")
    except OSError:
        return False
    return True
