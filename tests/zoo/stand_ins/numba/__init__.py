"""numba where it is not installed: mmdet3d decorates some functions with it when imported.

They compute the same without being compiled. This folder is the last on ``sys.path``, so a
real numba is taken where there is one.
"""

from __future__ import annotations

from typing import Any


def jit(*args: Any, **_: Any) -> Any:
    """The function as it is, for ``@jit`` and for ``@jit(...)``."""
    if len(args) == 1 and callable(args[0]):
        return args[0]
    return lambda function: function


njit = jit
