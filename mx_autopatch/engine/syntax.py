"""Patterns over syntax trees: what a Rewrite looks for, and what it puts there."""

from __future__ import annotations

import ast
import copy
import difflib
import re
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple, Union

from mx_autopatch.errors import PatchError

#: What a pattern variable is bound to: an expression, or a bare name.
Bound = dict[str, Union[ast.expr, str]]

# ``$name`` as Python can read it.
_PREFIX = "_mx_autopatch_variable_"
_VARIABLE = re.compile(r"\$(?=[^\W\d])")

# Fields that say how something is used or was spelt, not what it is.
_PASSED_OVER = ("ctx", "kind", "type_comment", "type_ignores")


class Match(NamedTuple):
    """Neighbouring nodes that a pattern was found to be, and what comes in their place."""

    nodes: list[Any]
    new: list[Any]
    #: What to write anew: the nodes, or the string with expressions in it they are part of.
    written: Any


class Pattern:
    """The two halves of a Rewrite, parsed.

    Raises:
        PatchError: one of them is not Python, or ``replace`` has a variable of its own.
    """

    def __init__(self, find: str, replace: str) -> None:
        old, new = _parse(find, "find"), _parse(replace, "replace")
        unknown = _variables(new) - _variables(old)
        if unknown:
            names = ", ".join(f"${name}" for name in sorted(unknown))
            raise PatchError(f"replace: {names} is not in find")
        #: Whether both are single expressions, so that they are looked for everywhere.
        self.is_expression = all(
            len(body) == 1 and isinstance(body[0], ast.Expr) for body in (old, new)
        )
        self._old: list[Any] = [old[0].value] if self.is_expression else old  # type: ignore[attr-defined]
        self._new: list[Any] = [new[0].value] if self.is_expression else new or [ast.Pass()]  # type: ignore[attr-defined]
        self.text = show(self._old)

    def substitute(self, function: Any) -> list[Match]:
        """Change the tree of a function at every match; returns the matches in order."""
        matches: list[Match] = []
        # Its own decorators, defaults and annotations are not its code.
        self._visit(ast.Module(function.body, []), None, matches)
        return matches

    def _visit(self, node: Any, text: Any, matches: list[Match]) -> None:
        # ``text`` is the outermost string with expressions in it that ``node`` is part of:
        # positions within one are not to be had before Python 3.12.
        if text is None and type(node).__name__ in ("JoinedStr", "TemplateStr"):
            text = node
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                self._visit_list(value, text, matches)
            elif isinstance(value, ast.AST):
                found = self._try([value]) if self.is_expression else None
                if found is None:
                    self._visit(value, text, matches)
                else:
                    setattr(node, name, found[0])
                    matches.append(Match([value], found, text or [value]))

    def _visit_list(self, items: list[Any], text: Any, matches: list[Match]) -> None:
        index, length = 0, len(self._old)
        while index < len(items):
            run = items[index : index + length]
            found = self._try(run) if len(run) == length else None
            if found is not None:
                items[index : index + length] = found
                matches.append(Match(run, found, text or run))
                index += len(found)
                continue
            if isinstance(items[index], ast.AST):
                self._visit(items[index], text, matches)
            index += 1

    def _try(self, nodes: list[Any]) -> list[Any] | None:
        """What comes in the place of these nodes, if they match."""
        bound: Bound = {}
        if not all(_same(old, node, bound) for old, node in zip(self._old, nodes)):
            return None
        new = [_filled(each, bound) for each in self._new]
        if self.is_expression and hasattr(nodes[0], "ctx"):
            _use_as(new[0], nodes[0].ctx)
        return new

    def nearest(self, function: Any) -> tuple[int, str] | None:
        """The line and text of what is most like the pattern; None of an empty function."""
        best: tuple[float, int, str] | None = None
        for nodes in self._candidates(function):
            text = show(nodes)
            likeness = difflib.SequenceMatcher(None, self.text, text).ratio()
            alike = [_kind(old) is _kind(node) for old, node in zip(self._old, nodes)]
            likeness += sum(alike) / len(self._old)  # first of all what is of the same kind
            if best is None or likeness > best[0]:
                best = (likeness, nodes[0].lineno, text)
        return best and best[1:]

    def _candidates(self, function: Any) -> Iterator[list[Any]]:
        length = len(self._old)
        nodes = list(ast.walk(ast.Module(function.body, [])))
        if self.is_expression:
            alike = [[node] for node in nodes if type(node) is type(self._old[0])]
            yield from alike or ([node] for node in nodes if isinstance(node, ast.expr))
            return
        for node in nodes:
            for _, value in ast.iter_fields(node):
                if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                    for index in range(max(1, len(value) - length + 1)):
                        yield value[index : index + length]


def show(nodes: list[Any]) -> str:
    """Nodes as source on one line, for messages."""
    lines = "\n".join(map(ast.unparse, nodes)).replace(_PREFIX, "$").split("\n")
    text = "; ".join(line.strip() for line in lines).replace(":; ", ": ")
    return text if len(text) <= 200 else text[:197] + "..."


def _kind(node: Any) -> type:
    return type(node.value if isinstance(node, ast.Expr) else node)


def _parse(source: str, what: str) -> list[ast.stmt]:
    text = _VARIABLE.sub(_PREFIX, textwrap.dedent(source).strip())
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise PatchError(f"{what} is not Python: {error.msg}: {source.strip()!r}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = node.value.replace(_PREFIX, "$")
    return tree.body


def _variables(body: list[ast.stmt]) -> set[str]:
    names = set()
    for node in ast.walk(ast.Module(body, [])):
        for _, value in ast.iter_fields(node):
            if isinstance(value, str) and value.startswith(_PREFIX):
                names.add(value[len(_PREFIX) :])
    return names


def _variable(node: Any) -> str | None:
    """The name of the variable that a node, or the text of a bare name, is."""
    text = node.id if isinstance(node, ast.Name) else node
    return text[len(_PREFIX) :] if isinstance(text, str) and text.startswith(_PREFIX) else None


def _same(pattern: Any, node: Any, bound: Bound) -> bool:
    name = _variable(pattern)
    if name is not None:
        kind = ast.expr if isinstance(pattern, ast.AST) else str
        if not isinstance(node, kind) or isinstance(node, ast.Starred):
            return False
        known = bound.setdefault(name, node)
        return known is node or _same(known, node, {})
    if type(pattern) is not type(node):
        return False
    if isinstance(pattern, ast.AST):
        return all(
            _same(getattr(pattern, field, None), getattr(node, field, None), bound)
            for field in pattern._fields
            if field not in _PASSED_OVER
        )
    if isinstance(pattern, list):
        return len(pattern) == len(node) and all(map(_same, pattern, node, [bound] * len(node)))
    return bool(pattern == node) and repr(pattern) == repr(node)  # 0.0 is not -0.0


def _filled(template: Any, bound: Bound) -> Any:
    """A copy of ``template`` with what the variables are bound to."""
    if isinstance(template, list):
        return [_filled(each, bound) for each in template]
    name = _variable(template)
    if name is None:
        if not isinstance(template, ast.AST):
            return template
        fields = ast.iter_fields(template)
        return type(template)(**{field: _filled(value, bound) for field, value in fields})
    value = bound[name]
    if isinstance(template, ast.Name):
        if isinstance(value, str):
            value = ast.Name(value, template.ctx)
        value = copy.deepcopy(value)
        _use_as(value, template.ctx)
        return value
    if isinstance(value, ast.Name):  # an expression that is a bare name
        return value.id
    if not isinstance(value, str):
        raise PatchError(f"replace: ${name} is {show([value])!r} where Python wants a name")
    return value


def _use_as(node: Any, context: ast.expr_context) -> None:
    """Make an expression one that is read, assigned to or deleted, as ``context`` says."""
    if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript, ast.Starred, ast.List, ast.Tuple)):
        node.ctx = context
    if isinstance(node, (ast.List, ast.Tuple)):
        for each in node.elts:
            _use_as(each, context)
    elif isinstance(node, ast.Starred):
        _use_as(node.value, context)
