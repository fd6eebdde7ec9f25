"""Additions to the list of what torch.load, which reads weights only, may make.

Imported when a library that writes more than weights has been.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Callable

__all__ = ["allow", "numpy_data"]


def allow(wanted: Iterable[Any]) -> Callable[[], None]:
    """Add to torch's allowlist; the result takes the additions back."""
    from torch import serialization

    added = [item for item in wanted if item not in serialization.get_safe_globals()]
    serialization.add_safe_globals(added)

    def take_back() -> None:
        kept = [item for item in serialization.get_safe_globals() if item not in added]
        serialization.clear_safe_globals()
        serialization.add_safe_globals(kept)

    return take_back


def numpy_data() -> list[Any]:
    """What pickles of numpy's arrays and scalars ask for: data, and no code."""
    import numpy

    multiarray = getattr(numpy, "_core", None) or numpy.core
    functions = [
        (getattr(multiarray.multiarray, name), f"{package}.multiarray.{name}")
        for name in ("_reconstruct", "scalar")
        for package in ("numpy.core", "numpy._core")  # as numpy 1 and numpy 2 pickle them
    ]
    dtypes = [type(numpy.dtype(code)) for code in "?bhilqBHILQefdgFDGSUOMm"]
    return [*functions, numpy.ndarray, numpy.dtype, *dict.fromkeys(dtypes)]
