"""mx_driving, Ascend's library of operators for driving models, where it is installed.

Source of names, arguments and limits: its documentation, docs/zh/api/context.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings
from typing import Any, Callable

__all__ = ["mx_driving"]


def mx_driving(name: str) -> Callable[..., Any] | None:
    """Its function ``name``, or None: not installed, or a release without it.

    One that is installed but cannot be imported is warned of once.
    """
    return getattr(_module(), name, None)


@functools.cache
def _module() -> Any:
    if importlib.util.find_spec("mx_driving") is None:
        return None
    try:
        return importlib.import_module("mx_driving")
    except Exception as error:  # its import opens libraries and asks the device
        warnings.warn(
            f"mx_driving is installed but cannot be imported, so its kernels are not used: "
            f"{type(error).__name__}: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
