"""A module as the statements at its top: what each binds, uses, and looks like."""

from __future__ import annotations

import ast
import functools
import symtable
from collections.abc import Iterator
from dataclasses import dataclass

from mx_autopatch.registries.resolve import dotted
from mx_autopatch.registries.sources import Source

__all__ = ["Statement", "imports_in", "statements_of"]

_IMPORTS = (ast.Import, ast.ImportFrom)


@dataclass(frozen=True, eq=False)
class Statement:
    """A statement at the top of a module.

    Attributes:
        source: The module.
        node: Its syntax tree.
        first, last: Its lines, decorators and the comments directly above included.
    """

    source: Source
    node: ast.stmt
    first: int
    last: int

    @property
    def is_import(self) -> bool:
        return isinstance(self.node, _IMPORTS)

    @property
    def text(self) -> str:
        """The lines of the source, as they are written there."""
        return "\n".join(self.source.text.splitlines()[self.first - 1 : self.last])

    @functools.cached_property
    def binds(self) -> frozenset[str]:
        """The names of the module that it binds."""
        return frozenset(_bound([self.node]))

    @functools.cached_property
    def uses(self) -> frozenset[str]:
        """The names of the module, or builtins, that it reads, at any time."""
        table = symtable.symtable(ast.unparse(self.node), self.source.name, "exec")
        return frozenset(_global_names(table))

    @functools.cached_property
    def reads(self) -> frozenset[str]:
        """Every name that it reads, local ones included."""
        nodes = (node for node in ast.walk(self.node) if isinstance(node, ast.Name))
        return frozenset(node.id for node in nodes if isinstance(node.ctx, ast.Load))

    @functools.cached_property
    def chains(self) -> frozenset[str]:
        """``a.b.c`` for each attribute that is read of a name."""
        return frozenset(
            chain
            for node in ast.walk(self.node)
            if isinstance(node, ast.Attribute)
            for chain in (dotted(node),)
            if chain
        )


def statements_of(source: Source) -> list[Statement]:
    """The statements at the top of a module, in order; its docstring is none."""
    lines = source.text.splitlines()
    found: list[Statement] = []
    end = 0
    for index, node in enumerate(source.tree.body):
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        while first - 1 > end and lines[first - 2].lstrip().startswith("#"):
            first -= 1
        end = node.end_lineno or node.lineno
        if not (index == 0 and _is_docstring(node)):
            found.append(Statement(source, node, first, end))
    return found


def imports_in(statement: Statement) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements inside of a statement: in functions, in ``try`` and ``if``."""
    if not statement.is_import:
        for node in ast.walk(statement.node):
            if isinstance(node, _IMPORTS):
                yield node


def _is_docstring(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name
            continue
        if isinstance(node, _IMPORTS):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0]
        for part in ("body", "orelse", "finalbody"):
            yield from _bound(getattr(node, part, []))
        for handler in getattr(node, "handlers", []):
            yield from _bound(handler.body)
        for target in ast.walk(node) if not hasattr(node, "body") else _targets(node):
            if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store):
                yield target.id


def _targets(node: ast.stmt) -> Iterator[ast.AST]:
    """What a compound statement itself assigns to: the variable of a loop, of a ``with``."""
    for part in (getattr(node, "target", None), *getattr(node, "items", ())):
        if part is not None:
            yield from ast.walk(part)


def _global_names(table: symtable.SymbolTable) -> Iterator[str]:
    for symbol in table.get_symbols():
        is_module = table.get_type() == "module"
        if symbol.is_referenced() if is_module else symbol.is_global():
            yield symbol.get_name()
    for child in table.get_children():
        yield from _global_names(child)
