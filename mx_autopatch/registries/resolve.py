"""What a name in a source file stands for, followed through imports and assignments."""

from __future__ import annotations

import ast
from typing import NamedTuple

from mx_autopatch.registries.sources import Imported, Source, Sources

__all__ = ["Meaning", "dotted", "resolve"]


class Meaning(NamedTuple):
    """What a name stands for.

    ``node`` is the value or the statement that defines it, None where the trail ends at a
    module (``name`` is then empty) or at something that no source is at hand for.
    ``trail`` names each place that it was followed through, as ``module:name``.
    """

    module: str
    name: str
    node: ast.AST | None
    trail: tuple[str, ...]

    @property
    def place(self) -> str:
        return f"{self.module}:{self.name}" if self.name else self.module


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of an expression made of names and attributes alone, else empty."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


def resolve(sources: Sources, source: Source, name: str) -> Meaning | None:
    """What the dotted ``name`` means at the top of ``source``; None if it is not bound there."""
    return _walk(sources, source, name, ())


def _walk(sources: Sources, source: Source, name: str, trail: tuple[str, ...]) -> Meaning | None:
    first, *rest = name.split(".")
    meaning = _follow(sources, source, first, trail)
    for step in rest:
        if meaning is None or meaning.name:
            return None  # an attribute of an object: nothing that source alone tells
        meaning = _attribute(sources, meaning.module, step, meaning.trail)
    return meaning


def _follow(sources: Sources, source: Source, name: str, trail: tuple[str, ...]) -> Meaning | None:
    place = f"{source.name}:{name}"
    if place in trail:
        return None  # a circle: two modules that import the name from one another
    bound = source.names.get(name)
    if bound is None:
        return _starred(sources, source, name, trail)
    trail = (*trail, place)
    if isinstance(bound, Imported):
        if bound.attribute is None:
            return Meaning(bound.module, "", None, trail)
        return _attribute(sources, bound.module, bound.attribute, trail)
    other = dotted(bound)
    meaning = _walk(sources, source, other, trail) if other else None
    return meaning or Meaning(source.name, name, bound, trail)


def _starred(sources: Sources, source: Source, name: str, trail: tuple[str, ...]) -> Meaning | None:
    if name.startswith("_"):
        return None
    trail = (*trail, f"{source.name}:{name}")
    public = (sources.get(module) for module in source.stars)
    found = (_follow(sources, module, name, trail) for module in public if module is not None)
    return next((meaning for meaning in found if meaning is not None), None)


def _attribute(sources: Sources, module: str, name: str, trail: tuple[str, ...]) -> Meaning | None:
    """``module.name``: a name of the module, or its submodule."""
    source = sources.get(module)
    if source is None:
        return Meaning(module, name, None, trail)
    found = _follow(sources, source, name, trail)
    if found is None and sources.get(f"{module}.{name}") is not None:
        return Meaning(f"{module}.{name}", "", None, trail)
    return found
