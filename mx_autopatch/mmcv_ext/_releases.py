"""Calling conventions that single releases of mmcv had."""

from __future__ import annotations

import functools
from typing import Any, Callable, TypeVar

__all__ = ["renamed", "tensors_first"]

F = TypeVar("F", bound=Callable[..., Any])


def tensors_first(function: F) -> F:
    """Let ``function`` be called as mmcv 1.3.14 - 1.3.17 called some: numbers before tensors.

    Among themselves both stood in today's order.
    """

    @functools.wraps(function)
    def called_either_way(*args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], int):
            args = tuple(sorted(args, key=lambda a: isinstance(a, (int, float))))
        return function(*args, **kwargs)

    return called_either_way  # type: ignore[return-value]


def renamed(**names: str) -> Callable[[F], F]:
    """Let a function be called with keywords that it had before: former name -> today's."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def called_either_way(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **{names.get(key, key): kwargs[key] for key in kwargs})

        return called_either_way  # type: ignore[return-value]

    return decorate
