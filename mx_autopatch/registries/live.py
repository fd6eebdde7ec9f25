"""The OpenMMLab registries of this process, known by identity, whatever they are called."""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["LiveEntry", "LiveRegistry", "is_registry", "place_of", "registries"]


def is_registry(value: Any) -> bool:
    """Whether ``value`` is a Registry of mmengine or mmcv 1.x, or of a class derived from one."""
    return any(
        cls.__name__ == "Registry" and cls.__module__.partition(".")[0] in ("mmengine", "mmcv")
        for cls in type(value).__mro__
    )


def place_of(obj: Any) -> str:
    """Where a class or function is defined: ``module:qualname (file:line)``, as far as known."""
    obj = inspect.unwrap(obj) if callable(obj) else obj
    module, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    where = f"{module}:{name}" if module and name else repr(obj)
    try:
        file, line = inspect.getsourcefile(obj), _line(obj)
    except (TypeError, OSError):  # built in, or its source is not there
        return where
    return f"{where} ({file}:{line})"


def _line(obj: Any) -> int:
    """The first line of a class or function.

    Before Python 3.13 a class does not know; of several of one name in a file, inspect
    would give any. Its methods tell which one it is.
    """
    first = getattr(obj, "__firstlineno__", None)
    if isinstance(first, int):
        return first
    found: int = inspect.getsourcelines(obj)[1]
    methods = [member.__code__ for member in vars(obj).values() if inspect.isfunction(member)]
    if not isinstance(obj, type) or not methods:
        return found
    inside = min(code.co_firstlineno for code in methods)
    classes = [
        node.lineno
        for node in ast.walk(ast.parse("".join(linecache.getlines(methods[0].co_filename))))
        if isinstance(node, ast.ClassDef) and node.name == obj.__name__ and node.lineno <= inside
    ]
    return max(classes, default=found)


@dataclass(frozen=True)
class LiveEntry:
    """Something that is registered: its key, and the class or function itself."""

    name: str
    obj: Any

    @property
    def place(self) -> str:
        return place_of(self.obj)


@dataclass(frozen=True, eq=False)
class LiveRegistry:
    """One registry object.

    Attributes:
        registry: The object.
        names: ``module:variable`` of every variable that holds it, the shortest first.
    """

    registry: Any
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        return str(self.registry._name)

    @property
    def scope(self) -> str:
        return str(self.registry._scope)

    @property
    def parent(self) -> Any:
        return self.registry.parent

    @property
    def root(self) -> Any:
        root = self.registry
        while root.parent is not None:
            root = root.parent
        return root

    @property
    def children(self) -> dict[str, Any]:
        return dict(self.registry._children)

    @property
    def locations(self) -> tuple[str, ...]:
        """What mmengine imports before it looks a name up; mmcv 1.x has no such thing."""
        return tuple(getattr(self.registry, "_locations", ()))

    @property
    def entries(self) -> list[LiveEntry]:
        return [LiveEntry(name, obj) for name, obj in self.registry._module_dict.items()]

    def __str__(self) -> str:
        return f"{self.scope}::{self.name}"


def registries() -> list[LiveRegistry]:
    """All registries that a loaded module holds, and their ancestors and descendants."""
    names: dict[int, list[str]] = {}
    objects: dict[int, Any] = {}
    for place, value in _variables():
        names.setdefault(id(value), []).append(place)
        objects[id(value)] = value
    waiting = list(objects.values())
    while waiting:
        one = waiting.pop()
        for relative in (one.parent, *one._children.values()):
            if relative is not None and id(relative) not in objects:
                objects[id(relative)] = relative
                waiting.append(relative)
    found = [
        LiveRegistry(obj, tuple(sorted(names.get(key, ()), key=lambda place: (len(place), place))))
        for key, obj in objects.items()
    ]
    return sorted(found, key=lambda registry: (registry.name, registry.scope))


def _variables() -> Iterator[tuple[str, Any]]:
    for module_name, module in list(sys.modules.items()):
        if isinstance(module, types.ModuleType):
            for name, value in list(vars(module).items()):
                if is_registry(value):
                    yield f"{module_name}:{name}", value
