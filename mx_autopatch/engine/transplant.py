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
    copy = types.FunctionType(
        value.__code__, value.__globals__, value.__name__, value.__defaults__, cells or None
    )
    copy.__kwdefaults__ = value.__kwdefaults__
    copy.__dict__.update(value.__dict__)
    copy.__doc__, copy.__annotations__ = value.__doc__, value.__annotations__
    copy.__qualname__, copy.__module__ = qualname, target.__module__
    return copy


def _holds(cell: types.CellType, value: Any) -> bool:
    try:
        return cell.cell_contents is value
    except ValueError:  # an empty cell
        return False
