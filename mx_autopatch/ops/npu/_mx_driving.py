"""mx_driving, Ascend's library of operators for driving models, where it is installed.

Source of names, arguments and limits: its documentation, docs/zh/api/context.
"""

from __future__ import annotations

import functools
import importlib
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
    # Not before a kernel is called: its import asks the device for its name, after which
    # no process can be forked that uses the device.
    try:
        return importlib.import_module("mx_driving")
    except Exception as error:  # it opens libraries as well
        if not (isinstance(error, ModuleNotFoundError) and error.name == "mx_driving"):
            warnings.warn(
                f"mx_driving is installed but cannot be imported, so its kernels are not used: "
                f"{type(error).__name__}: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
        return None
