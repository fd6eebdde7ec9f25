"""What of some packages is needed for a few symbols: statement by statement, by source alone.

A symbol is a name at the top of a module. It needs the statements that bind it; a statement
needs what its names stand for, followed through imports to where they are defined; a name
that means a registry needs that registry, and a ``type='X'`` what is registered as X.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mx_autopatch.export.statements import Statement, imports_in, statements_of
from mx_autopatch.registries.resolve import Meaning, dotted, resolve
from mx_autopatch.registries.search import Registered
from mx_autopatch.registries.sources import Source
from mx_autopatch.registries.static import Entry, Model, StaticRegistry

__all__ = ["Closure", "Need", "Symbol", "closure"]

_BUILTINS = frozenset(dir(builtins)) | {"__file__", "__name__", "__doc__", "__class__"}


@dataclass(frozen=True, order=True)
class Symbol:
    """A name at the top of a module."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


@dataclass(frozen=True)
class Need:
    """What a name in a module stands for, where an import has to give it.

    One of: a ``symbol`` of an exported package; a ``registry`` of one; a module of one
    (``symbol`` without a name); or, with neither, an import from elsewhere: ``module``, and
    ``attribute`` of it if that is not empty.
    """

    module: str
    attribute: str = ""
    symbol: Symbol | None = None
    registry: StaticRegistry | None = None


@dataclass
class Closure:
    """What was found to be needed.

    Attributes:
        statements: Module -> its needed statements, by their index in the module.
        needs: Module -> local name -> what an import has to give it.
        nested: What imports inside of statements name, of other packages.
        registries: Every registry that the statements name.
        unresolved: ``module:line`` and what could not be followed there.
    """

    model: Model
    inside: frozenset[str]
    statements: dict[str, dict[int, Statement]] = field(default_factory=dict)
    needs: dict[str, dict[str, Need]] = field(default_factory=dict)
    nested: set[Symbol] = field(default_factory=set)
    registries: dict[str, StaticRegistry] = field(default_factory=dict)
    unresolved: list[str] = field(default_factory=list)


def closure(
    model: Model,
    inside: Iterable[str],
    roots: Iterable[Symbol | Entry],
    registered: Registered,
) -> Closure:
    """The statements that ``roots`` need.

    Args:
        inside: The top-level packages that are exported; imports of others stay imports.
        roots: Where to begin.
        registered: All that may be named by a ``type``.
    """
    return _Walk(Closure(model, frozenset(inside)), registered).run(roots)


class _Walk:
    def __init__(self, result: Closure, registered: Registered) -> None:
        self.result = result
        self.sources = result.model.sources
        self.registered = registered
        self._statements: dict[str, list[Statement]] = {}
        self._waiting: list[Symbol] = []
        self._seen: set[Symbol] = set()

    def run(self, roots: Iterable[Symbol | Entry]) -> Closure:
        for root in sorted(roots, key=lambda root: (root.module, root.name)):
            if isinstance(root, Entry):
                self._registration(root)
            else:
                self._want(root)
        while True:
            while self._waiting:
                self._define(self._waiting.pop())
            if not self._attach():
                break
        self.result.unresolved.sort()
        return self.result

    def statements(self, module: str) -> list[Statement]:
        if module not in self._statements:
            source = self.sources.get(module)
            self._statements[module] = [] if source is None else statements_of(source)
        return self._statements[module]

    def _want(self, symbol: Symbol) -> None:
        if symbol not in self._seen:
            self._seen.add(symbol)
            self._waiting.append(symbol)

    def _define(self, symbol: Symbol) -> None:
        """Take in the statements that bind the symbol, all of them where there are several."""
        bound = False
        for index, statement in enumerate(self.statements(symbol.module)):
            if symbol.name in statement.binds and not statement.is_import:
                bound = True
                self._take(symbol.module, index, statement)
        if not bound:
            self.result.unresolved.append(f"{symbol}: nothing binds it")

    def _take(self, module: str, index: int, statement: Statement) -> None:
        taken = self.result.statements.setdefault(module, {})
        if index in taken:
            return
        taken[index] = statement
        for name in sorted(statement.uses - statement.binds):
            self._name(statement, name)
        for name in sorted(statement.uses & statement.binds):
            # Bound here, but perhaps elsewhere too: a fallback, an override.
            self._want(Symbol(module, name))
        for node in imports_in(statement):
            self._nested_import(statement, node)
        for value in _types(statement.node):
            self._type(statement, value)

    # -- names ---------------------------------------------------------------------

    def _name(self, statement: Statement, name: str) -> None:
        source = statement.source
        binding = [s for s in self.statements(source.name) if name in s.binds]
        if not binding and not source.stars:
            if name not in _BUILTINS:
                self._unresolved(statement, name)
            return
        if any(not other.is_import for other in binding):
            registry = self.result.model.registry(source, name)
            if registry is not None:
                self._need(source, name, self._registry(registry[0]))
            else:
                self._want(Symbol(source.name, name))
            return
        need = self._meant(source, name)
        if need is None:
            if name not in _BUILTINS:
                self._unresolved(statement, name)
            return
        self._need(source, name, need)
        if need.symbol is not None and not need.symbol.name:
            self._module_used(statement, name)

    def _meant(self, source: Source, name: str) -> Need | None:
        """What an imported name stands for."""
        registry = self.result.model.registry(source, name)
        if registry is not None and self._is_inside(registry[0].place):
            return self._registry(registry[0])
        meaning = resolve(self.sources, source, name)
        if meaning is None:
            return self._as_written(source, name)
        if not self._is_inside(meaning.module):
            return self._as_written(source, name) or Need(meaning.module, meaning.name)
        return self._inner(meaning)

    def _inner(self, meaning: Meaning) -> Need:
        symbol = Symbol(meaning.module, meaning.name)
        if meaning.name:
            self._want(symbol)
        return Need(meaning.module, meaning.name, symbol=symbol)

    def _registry(self, registry: StaticRegistry) -> Need:
        module, _, name = registry.place.partition(":")
        if not self._is_inside(module):
            return Need(module, name)
        self.result.registries[registry.place] = registry
        return Need(module, name, registry=registry)

    def _as_written(self, source: Source, name: str) -> Need | None:
        """The import from elsewhere as the module, or one that it imports from, has it."""
        for statement in reversed(self.statements(source.name)):
            node = statement.node
            if not statement.is_import or name not in statement.binds:
                continue
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if (alias.asname or alias.name.partition(".")[0]) == name:
                        return Need(alias.name if alias.asname else name)
            if isinstance(node, ast.ImportFrom):
                module = source.absolute(node)
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        if not self._is_inside(module):
                            return Need(module, alias.name)
                        other = self.sources.get(module)
                        return self._as_written(other, alias.name) if other else None
        return None

    def _need(self, source: Source, name: str, need: Need) -> None:
        self.result.needs.setdefault(source.name, {})[name] = need

    def _module_used(self, statement: Statement, name: str) -> None:
        """``bbox.transforms.f``, where ``bbox`` is a module of an exported package."""
        for chain in sorted(statement.chains):
            first, _, rest = chain.partition(".")
            if first == name and rest:
                self._dotted(statement, chain)

    def _dotted(self, statement: Statement, chain: str) -> None:
        steps = chain.split(".")
        for end in range(2, len(steps) + 1):
            meaning = resolve(self.sources, statement.source, ".".join(steps[:end]))
            if meaning is None:
                self._unresolved(statement, chain)
                return
            if meaning.name:
                if self._is_inside(meaning.module):
                    self._want(Symbol(meaning.module, meaning.name))
                return

    def _nested_import(self, statement: Statement, node: ast.Import | ast.ImportFrom) -> None:
        if not isinstance(node, ast.ImportFrom):
            return
        module = statement.source.absolute(node)
        if not self._is_inside(module):
            self.result.nested |= {Symbol(module, alias.name) for alias in node.names}
            return
        for alias in node.names:
            target = self.sources.get(module)
            meaning = resolve(self.sources, target, alias.name) if target else None
            if meaning is not None and meaning.name and self._is_inside(meaning.module):
                self._want(Symbol(meaning.module, meaning.name))
            elif meaning is None and self.sources.get(f"{module}.{alias.name}") is None:
                self._unresolved(statement, f"{module}.{alias.name}")

    def _is_inside(self, name: str) -> bool:
        return name.partition(".")[0].partition(":")[0] in self.result.inside

    def _unresolved(self, statement: Statement, what: str) -> None:
        place = f"{statement.source.name}:{statement.node.lineno}: {what}"
        if place not in self.result.unresolved:
            self.result.unresolved.append(place)

    # -- types and what is attached --------------------------------------------------------------

    def _type(self, statement: Statement, value: str) -> None:
        """``type='X'`` in code: everything of that name that the module could mean."""
        scope, _, name = value.rpartition(".")
        home = scope or statement.source.name.partition(".")[0]
        found = self.registered.named(name)
        own = [entry for entry in found if entry.registry.scope == home] or found
        for entry in own:
            if self._is_inside(entry.module):
                self._registration(entry)

    def _registration(self, entry: Entry) -> None:
        """Take in the statement that registers the entry: a class, a function, or a call."""
        for index, statement in enumerate(self.statements(entry.module)):
            if statement.first <= entry.line <= statement.last:
                self._take(entry.module, index, statement)

    def _attach(self) -> bool:
        """Take in what is attached to what has been taken in; whether there was any."""
        more = False
        for module in list(self.result.statements):
            taken = self.result.statements[module]
            bound = {name for statement in taken.values() for name in statement.binds}
            for index, statement in enumerate(self.statements(module)):
                if index not in taken and set(_attached(statement)) & bound:
                    self._take(module, index, statement)
                    more = True
        return more or bool(self._waiting)


def _types(node: ast.AST) -> Iterator[str]:
    """The strings that the code gives as a ``type``: in a call, a dict, by setdefault."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.keyword) and inner.arg == "type":
            values = [inner.value]
        elif isinstance(inner, ast.Dict):
            keys = zip(inner.keys, inner.values)
            values = [v for k, v in keys if isinstance(k, ast.Constant) and k.value == "type"]
        elif isinstance(inner, ast.Call) and len(inner.args) == 2:
            first = inner.args[0]
            is_type = isinstance(first, ast.Constant) and first.value == "type"
            values = [inner.args[1]] if is_type else []
        else:
            continue
        for value in values:
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.value


def _attached(statement: Statement) -> Iterator[str]:
    """The names that a statement adds something to, or registers.

    ``X.register_module(module=Y)`` registers Y; ``op.register_autograd(f)`` and a function
    decorated by ``@op.register_fake`` add to op.
    """
    node = statement.node
    calls = [n for n in ast.walk(node) if isinstance(n, ast.Call)]
    if isinstance(node, (ast.Expr, ast.For)):
        functions = [call.func for call in calls]
    elif isinstance(node, ast.FunctionDef):
        functions = [getattr(each, "func", each) for each in node.decorator_list]
    else:
        return
    for function in functions:
        if isinstance(function, ast.Attribute):
            first = dotted(function.value).partition(".")[0]
            if function.attr == "register_module":
                yield from statement.uses - {first}
            else:
                yield first
