"""A stand-in for an operator that is not there."""

from __future__ import annotations

from typing import Any, NoReturn

__all__ = ["MissingOperator"]


class MissingOperator:
    """Can be found and passed on like the operator; says what to do when called."""

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name
        self.__module__ = "mmcv._ext"

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            f"mmcv._ext.{self.__name__}: this mmcv has no compiled operators, and mx_autopatch "
            "does not offer this one yet. Install a compiled mmcv for this platform (mmcv-full "
            "for mmcv 1.x, or mmcv built from source with MMCV_WITH_OPS=1), or see "
            "mx_autopatch.mmcv_ext.__all__ for the operators that are offered."
        )

    def __repr__(self) -> str:
        return f"<operator mmcv._ext.{self.__name__}, not available>"
