"""Attributes of one class given to another, for a class that is replaced in place."""

from __future__ import annotations

import types
from typing import Any


def is_python_class(cls: type) -> bool:
    """Whether ``cls`` was made by a class statement, so that it can be changed."""
    heap_type = 1 << 9
    return bool(cls.__flags__ & heap_type)


NOT_TAKEN = {
    *("__dict__", "__weakref__", "__module__", "__qualname__", "__name__", "__slots__"),
    *("__orig_bases__", "__firstlineno__", "__static_attributes__", "__classdict__"),
}


def transplanted(value: Any, source: type, target: type) -> Any:
    """``value`` with ``super()`` and ``__class__`` meaning ``target``, not ``source``."""
    if isinstance(value, (staticmethod, classmethod)):
        return type(value)(transplanted(value.__func__, source, target))
    if isinstance(value, property):
        parts = (value.fget, value.fset, value.fdel)
        moved = [None if f is None else transplanted(f, source, target) for f in parts]
        return property(moved[0], moved[1], moved[2], value.__doc__)
    if not isinstance(value, types.FunctionType):
        return value
    cells = tuple(
        types.CellType(target) if _holds(cell, source) else cell for cell in value.__closure__ or ()
    )
    qualname = value.__qualname__.replace(source.__qualname__, target.__qualname__, 1)
    copy = copy_function(value, closure=cells)
    copy.__qualname__, copy.__module__ = qualname, target.__module__
    return copy


def copy_function(
    function: Any, code: types.CodeType | None = None, closure: tuple[types.CellType, ...] = ()
) -> Any:
    """Another function with the same name, parameters and attributes."""
    copy = types.FunctionType(
        code or function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        closure or None,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__dict__.update(function.__dict__)
    for name in ("__doc__", "__qualname__", "__module__", "__type_params__"):
        if hasattr(function, name):
            setattr(copy, name, getattr(function, name))
    if hasattr(function, "__annotate__"):  # Python 3.14: asking for the values would compute them
        copy.__annotate__ = function.__annotate__  # type: ignore[attr-defined]
    else:
        copy.__annotations__ = function.__annotations__
    return copy


def _holds(cell: types.CellType, value: Any) -> bool:
    try:
        return cell.cell_contents is value
    except ValueError:  # an empty cell
        return False
