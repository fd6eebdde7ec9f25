"""Module attributes that read differently from one module's own code.

A plain set-and-restore would show the value to every thread and every nested import,
and two overlapping ones would restore each other's. Here the module gets, for as
long as anybody needs it, a class whose property looks at who is asking; its
dictionary keeps the true value throughout.
"""

from __future__ import annotations

import os
import sys
import threading
from types import ModuleType
from typing import Any

_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()  # a thread that the child does not have may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)

# module -> attribute -> reading module's name -> value
_views: dict[ModuleType, dict[str, dict[str, Any]]] = {}


def show(module: ModuleType, attribute: str, reader: str, value: Any) -> None:
    """Let the code of ``reader`` and its submodules read ``value`` in ``module``."""
    with _lock:
        if module not in _views:
            _views[module] = {}
        readers = _views[module].setdefault(attribute, {})
        readers[reader] = value
        if len(readers) == 1:
            module.__class__ = _viewing(type(module), attribute)


def hide(module: ModuleType, attribute: str, reader: str) -> None:
    """Take back :func:`show`; the last one gives the module its own class back."""
    with _lock:
        readers = _views.get(module, {}).get(attribute, {})
        readers.pop(reader, None)
        if not readers and module in _views:
            _views[module].pop(attribute, None)
            module.__class__ = _without(type(module), attribute)
            if not _views[module]:
                del _views[module]


def true_value(module: ModuleType, attribute: str) -> Any:
    """What ``module`` itself holds, whoever asks; None if nothing."""
    return vars(module).get(attribute)


def _viewing(cls: type, attribute: str) -> type:
    def read(module: ModuleType) -> Any:
        asking = sys._getframe(1).f_globals.get("__name__", "")
        for reader, value in list(_views.get(module, {}).get(attribute, {}).items()):
            if asking == reader or asking.startswith(reader + "."):
                return value
        try:
            return vars(module)[attribute]
        except KeyError:
            raise AttributeError(
                f"module {module.__name__!r} has no attribute {attribute!r}"
            ) from None

    def write(module: ModuleType, value: Any) -> None:
        vars(module)[attribute] = value

    def delete(module: ModuleType) -> None:
        del vars(module)[attribute]

    namespace = {
        attribute: property(read, write, delete),
        "__module__": cls.__module__,
        "_mx_autopatch_view": (cls, attribute),
    }
    return type(cls.__name__, (cls,), namespace)


def _without(cls: type, attribute: str) -> type:
    """``cls`` less the view of ``attribute``, which may lie below other views."""
    original, viewed = vars(cls)["_mx_autopatch_view"]
    if viewed == attribute:
        return original  # type: ignore[no-any-return]
    return _viewing(_without(original, attribute), viewed)
