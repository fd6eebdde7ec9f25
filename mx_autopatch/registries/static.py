"""OpenMMLab registries and what is registered in them, found in sources; nothing is imported.

A registry is a value made by a class ``Registry`` (mmengine's, mmcv's, or a class derived
from one of them), whatever it is called and however many names it has. Two names mean the
same registry if following assignments and imports leads to the same call.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mx_autopatch.registries.resolve import Meaning, dotted, resolve
from mx_autopatch.registries.sources import Source, Sources

__all__ = ["Builder", "Entry", "Model", "StaticRegistry"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(eq=False)
class StaticRegistry:
    """One registry.

    Attributes:
        place: ``module:name`` of the assignment that makes it.
        name: Its own name (``"task util"``), by which error messages call it.
        scope: The package that it belongs to, as mmengine infers it.
        parent: The registry that it is a child of.
        locations: The modules that mmengine imports before it looks a name up.
        file, line: Where it is made.
    """

    place: str
    name: str
    scope: str
    parent: StaticRegistry | None
    locations: tuple[str, ...]
    file: str
    line: int

    @property
    def root(self) -> StaticRegistry:
        return self if self.parent is None else self.parent.root

    def __str__(self) -> str:
        return f"{self.scope}::{self.name}"


@dataclass(frozen=True)
class Entry:
    """Something that is registered.

    ``name`` is empty where only running the code would tell it (a loop over ``torch.optim``).
    """

    registry: StaticRegistry
    name: str
    module: str
    qualname: str
    file: str
    line: int
    #: The names under which the code that registers it reaches the registry.
    trail: tuple[str, ...] = ()


@dataclass(frozen=True)
class Builder:
    """A function that builds from a registry: ``build_backbone(cfg)``."""

    place: str
    registry: StaticRegistry


@dataclass
class Model:
    """What the sources of some packages say about registries."""

    sources: Sources = field(default_factory=Sources)
    _made: dict[str, StaticRegistry | None] = field(default_factory=dict)

    def registry(self, source: Source, name: str) -> tuple[StaticRegistry, Meaning] | None:
        """The registry that ``name`` means in ``source``, and how; None if it means none."""
        meaning = resolve(self.sources, source, name)
        if meaning is None or not isinstance(meaning.node, ast.Call):
            return None
        made = self._registry(meaning)
        return None if made is None else (made, meaning)

    def _registry(self, meaning: Meaning) -> StaticRegistry | None:
        if meaning.place not in self._made:
            self._made[meaning.place] = None  # for a registry that is its own parent
            self._made[meaning.place] = self._read(meaning)
        return self._made[meaning.place]

    def _read(self, meaning: Meaning) -> StaticRegistry | None:
        source, call = self.sources.get(meaning.module), meaning.node
        assert isinstance(call, ast.Call)
        if source is None or not self._is_registry_class(source, dotted(call.func)):
            return None
        given = dict(zip(("name", "build_func", "parent", "scope", "locations"), call.args))
        given.update((word.arg, word.value) for word in call.keywords if word.arg)
        parent = self.registry(source, dotted(given["parent"])) if "parent" in given else None
        return StaticRegistry(
            place=meaning.place,
            name=str(_constant(given.get("name"), meaning.name)),
            scope=str(_constant(given.get("scope"), None) or meaning.module.partition(".")[0]),
            parent=parent[0] if parent else None,
            locations=_strings(given.get("locations")),
            file=str(source.path),
            line=call.lineno,
        )

    def _is_registry_class(self, source: Source, name: str) -> bool:
        meaning = resolve(self.sources, source, name) if name else None
        if meaning is None:
            return False
        if meaning.name == "Registry":
            return True
        home = self.sources.get(meaning.module)
        bases = meaning.node.bases if isinstance(meaning.node, ast.ClassDef) else []
        return home is not None and any(
            self._is_registry_class(home, dotted(base)) for base in bases
        )

    # -- what a module says ------------------------------------------------------

    def names(self, modules: Iterable[Source]) -> Iterator[tuple[str, StaticRegistry, Meaning]]:
        """``module:name`` of each name that means a registry, the one that makes it included."""
        for source in modules:
            for name in source.names:
                found = self.registry(source, name)
                if found is not None:
                    yield f"{source.name}:{name}", *found

    def entries(self, modules: Iterable[Source]) -> Iterator[Entry]:
        """What the modules register, where it is not left to a loop or a variable."""
        for source in modules:
            if "register_module" in source.text:
                yield from self._entries(source)

    def _entries(self, source: Source) -> Iterator[Entry]:
        for node, path in _definitions(source.tree.body, ""):
            for decorator in node.decorator_list:
                call = decorator if isinstance(decorator, ast.Call) else None
                found = self._registering(source, call.func if call else decorator)
                if found is not None:
                    for name in _given_names(call) or [node.name]:
                        yield _entry(source, found, name, path, node)
        for call, loops in _calls(source.tree, {}):
            found = self._registering(source, call.func)
            module = next((word.value for word in call.keywords if word.arg == "module"), None)
            if found is None or module is None:
                continue
            for value in loops.get(dotted(module), [module]):
                obj = dotted(value)
                known = bool(obj) and resolve(self.sources, source, obj) is not None
                names = _given_names(call) or [obj.rpartition(".")[2] if known else ""]
                for name in names:
                    yield _entry(source, found, name, obj if known else "", call)

    def _registering(
        self, source: Source, function: ast.expr
    ) -> tuple[StaticRegistry, Meaning] | None:
        if not isinstance(function, ast.Attribute) or function.attr != "register_module":
            return None
        return self.registry(source, dotted(function.value))

    def builders(self, modules: Iterable[Source]) -> Iterator[Builder]:
        """Functions at the top of the modules that return what a registry builds."""
        for source in modules:
            for name, node in source.names.items():
                registry = self._built_by(source, node) if isinstance(node, _FUNCTIONS) else None
                if registry is not None:
                    yield Builder(f"{source.name}:{name}", registry)

    def _built_by(self, source: Source, function: ast.AST) -> StaticRegistry | None:
        for node in ast.walk(function):
            call = node.value if isinstance(node, ast.Return) else None
            if not isinstance(call, ast.Call):
                continue
            if isinstance(call.func, ast.Attribute) and call.func.attr == "build":
                named = [call.func.value]
            elif dotted(call.func).rpartition(".")[2] == "build_from_cfg":
                named = [*call.args[1:2], *(w.value for w in call.keywords if w.arg == "registry")]
            else:
                continue
            for value in named:
                found = self.registry(source, dotted(value)) if dotted(value) else None
                if found is not None:
                    return found[0]
        return None


def _entry(
    source: Source,
    found: tuple[StaticRegistry, Meaning],
    name: str,
    path: str,
    node: ast.stmt | ast.expr,
) -> Entry:
    registry, meaning = found
    return Entry(registry, name, source.name, path, str(source.path), node.lineno, meaning.trail)


def _definitions(
    body: list[ast.stmt], prefix: str
) -> Iterator[tuple[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    for node in body:
        if isinstance(node, (ast.ClassDef, *_FUNCTIONS)):
            yield node, prefix + node.name
        for part in ("body", "orelse", "finalbody"):
            inner = getattr(node, part, [])
            inside = prefix + node.name + "." if isinstance(node, ast.ClassDef) else prefix
            yield from _definitions(inner, inside)


def _calls(
    node: ast.AST, loops: dict[str, list[ast.expr]]
) -> Iterator[tuple[ast.Call, dict[str, list[ast.expr]]]]:
    """All calls below ``node``, with what variables of the loops around them run through.

    Only loops over a list or tuple that is written out tell that.
    """
    if isinstance(node, ast.Call):
        yield node, loops
    over = node.iter if isinstance(node, ast.For) else None
    if isinstance(node, ast.For) and isinstance(over, (ast.List, ast.Tuple)):
        loops = {**loops, dotted(node.target): over.elts}
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, loops)


def _given_names(call: ast.Call | None) -> list[str]:
    """The names in ``register_module(name=...)``: a string, or a sequence of strings."""
    if call is None:
        return []
    value = next((word.value for word in call.keywords if word.arg == "name"), None)
    return list(_strings(value or (call.args[0] if call.args else None)))


def _strings(node: ast.expr | None) -> tuple[str, ...]:
    """A string that is written out, or several in a sequence."""
    value = _constant(node, ())
    if isinstance(value, str):
        return (value,)
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, (list, tuple)) else ()


def _constant(node: ast.expr | None, default: object) -> object:
    if node is None:
        return default
    try:
        return ast.literal_eval(node)
    except ValueError:
        return default
