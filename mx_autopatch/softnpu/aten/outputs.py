"""The ``out=`` variant of an operator, given the one that returns its result."""

from __future__ import annotations

from typing import Any, Callable

from torch import Tensor

__all__ = ["into_out"]


def into_out(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``function`` with a keyword ``out``, which is resized to the result and filled."""

    def filled(*args: Any, out: Tensor, **kwargs: Any) -> Tensor:
        result = function(*args, **kwargs)
        if result.dtype != out.dtype:
            raise RuntimeError(
                f"Expected out tensor to have dtype {result.dtype}, but got {out.dtype} instead"
            )
        if out.size() != result.size():
            out.resize_(result.size())
        return out.copy_(result)

    return filled
