"""Which device a run is for."""

from __future__ import annotations

import sys


def is_device(name: str, configured: str) -> bool | str:
    """Whether the run is for device ``name``; else why not.

    Args:
        name: ``cpu``, ``cuda`` or ``npu``.
        configured: The configuration's ``device``; ``auto`` looks at what is there.
    """
    device = configured if configured != "auto" else detect()
    return device == name or f"requires the device {name}, this run is for {device}"


def detect() -> str:
    """``npu``, ``cuda`` or ``cpu``: the first that is there, without initialising it.

    An initialised device cannot be used in a forked worker.
    """
    from importlib.util import find_spec  # most runs never ask

    if find_spec("torch_npu") is not None:
        return "npu"
    torch = sys.modules.get("torch")
    if torch is not None and torch.version.cuda and torch.cuda.device_count() > 0:
        return "cuda"
    return "cpu"
