"""Copies of an original that other modules hold, and what can be done about them.

``from mmcv.ops import nms`` before activation leaves the unpatched function in the
importing module (vllm-ascend#15815 is one of many such reports). Module globals are
rebound; what lies deeper is named, so that nobody believes it patched.
"""

from __future__ import annotations

import enum
import gc
import sys
import types
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mx_autopatch.model import MISSING

# Values that are shared by identity all over the interpreter: that another module
# holds the same object says nothing about where it got it.
_SHARED = (
    *(str, bytes, int, float, complex, bool, tuple, frozenset),
    *(type(None), type(NotImplemented), type(...), enum.Enum, types.ModuleType),
)


class Move(NamedTuple):
    """What could be read at a site before a change, and what can be now."""

    old: Any
    new: Any
    #: Whether ``old`` belongs to the site, so that whoever else holds it has a copy.
    owned: bool


class Copy(NamedTuple):
    """A module global that held the old object of a move."""

    namespace: dict[str, Any]
    name: str

    def __str__(self) -> str:
        return f"{self.namespace.get('__name__', '?')}:{self.name}"


def belongs_to(value: Any, module: str) -> bool:
    """Whether finding ``value`` elsewhere means that it was copied from ``module``.

    Not so for numbers and strings, nor for a function or class that the module itself
    only borrowed from another package.
    """
    if isinstance(value, _SHARED):
        return False
    home = getattr(value, "__module__", None) if hasattr(value, "__qualname__") else None
    return not isinstance(home, str) or home.partition(".")[0] == module.partition(".")[0]


def namespace_of(module: Any) -> dict[str, Any]:
    """The globals of what stands in sys.modules, which need not be a module.

    Not by getattr, which would execute a module of importlib.util.LazyLoader.
    """
    try:
        namespace = object.__getattribute__(module, "__dict__")
    except AttributeError:
        return {}
    return namespace if isinstance(namespace, dict) else {}


def has_executed(module: Any) -> bool:
    """Whether the code of what stands in sys.modules has run to its end."""
    if type(module).__name__ == "_LazyModule" and type(module).__module__ == "importlib.util":
        return False
    spec = namespace_of(module).get("__spec__")
    return not getattr(spec, "_initializing", False)


def modules_since(name: str) -> list[types.ModuleType]:
    """The modules whose import began after that of ``name``; all if it is not there."""
    names = list(sys.modules)
    start = names.index(name) + 1 if name in sys.modules else 0
    return [module for module in map(sys.modules.get, names[start:]) if module is not None]


def rebind(
    moves: Iterable[Move],
    modules: Iterable[Any] | None = None,
    keep: Iterable[Mapping[str, Any]] = (),
) -> dict[int, list[Copy]]:
    """Carry moves out on the copies that modules hold in their globals.

    Args:
        moves: Those that are not owned are passed over.
        modules: Where to look; all loaded modules by default.
        keep: Namespaces that are left alone: the site's own module, and the one
            where the new object was written.

    Returns:
        For ``id(move.old)``, the copies that were rebound.
    """
    table = {id(move.old): move for move in moves if move.owned and move.new is not MISSING}
    found: dict[int, list[Copy]] = {}
    if not table:
        return found
    spared = {id(namespace) for namespace in keep}
    for module in list(sys.modules.values()) if modules is None else modules:
        namespace = namespace_of(module)
        if id(namespace) in spared:
            continue
        if str(namespace.get("__name__", "")).startswith("mx_autopatch."):
            continue  # our own operators may call the original
        for name, value in list(namespace.items()):
            move = table.get(id(value))
            if move is not None:
                namespace[name] = move.new
                found.setdefault(id(value), []).append(Copy(namespace, name))
    return found


def rebind_copies(copies: Iterable[Copy], move: Move) -> None:
    """Carry a move out on these copies alone, where they still hold the old object."""
    for copy in copies:
        if copy.namespace.get(copy.name) is move.old:
            copy.namespace[copy.name] = move.new


def unreachable(original: Any) -> list[str]:
    """Who else holds ``original``, in words: closures, default arguments, attributes."""
    words: set[str] = set()
    for holder in gc.get_referrers(original):
        if isinstance(holder, types.CellType):
            words.update(f"closure of {name}" for name in _functions_with(holder))
        elif isinstance(holder, (tuple, dict)):
            words.update(f"default argument of {name}" for name in _functions_with(holder, False))
            if isinstance(holder, dict):
                words.update(_owners(holder, original))
    return sorted(words)


def _functions_with(holder: Any, is_cell: bool = True) -> list[str]:
    names = []
    holders = [holder]
    if is_cell:  # function -> tuple of cells -> cell
        holders = [tuple_ for tuple_ in gc.get_referrers(holder) if isinstance(tuple_, tuple)]
    for function in (f for each in holders for f in gc.get_referrers(each)):
        if isinstance(function, types.FunctionType):
            # Where it was written: our wrappers bear the names of what they wrap.
            if str(function.__globals__.get("__name__", "")).startswith("mx_autopatch."):
                continue
            parts = (function.__closure__, function.__defaults__, function.__kwdefaults__)
            if any(part is each for part in parts for each in holders):
                names.append(f"{function.__module__}.{function.__qualname__}")
    return names


def _owners(namespace: dict[Any, Any], original: Any) -> list[str]:
    """Attributes of classes and of objects whose dictionary this is."""
    names = [str(name) for name, value in list(namespace.items()) if value is original]
    if "__module__" in namespace and "__qualname__" not in namespace:
        for owner in gc.get_referrers(namespace):
            if isinstance(owner, type):
                return [f"attribute {owner.__module__}.{owner.__qualname__}.{n}" for n in names]
    return []
