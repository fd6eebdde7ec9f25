"""Finds modules and the source of what a target names, without importing anything.

Importing would run the package's code (and fire our own patches), may take many seconds,
and fails for just those packages that a patch is to help.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec
from pkgutil import get_importer
from typing import Any, NamedTuple

from mx_autopatch.model import parse_target

__all__ = ["Definition", "definition", "find_spec", "is_importable", "source_of"]

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_HOPS = 8  # re-exports of re-exports


class Definition(NamedTuple):
    """A piece of source."""

    path: str
    line: int
    text: str


def find_spec(name: str) -> ModuleSpec | None:
    """As importlib.util.find_spec, which would import the parents of ``name``."""
    parts = name.split(".")
    spec = _top_level(parts[0])
    for length in range(2, len(parts) + 1):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = _below(".".join(parts[:length]), spec.submodule_search_locations)
    return spec


def is_importable(name: str) -> bool:
    """Whether there is something to import under that name."""
    return find_spec(name) is not None


def _top_level(name: str) -> ModuleSpec | None:
    for finder in sys.meta_path:  # the finder of an editable install is one of them
        spec = finder.find_spec(name, None)
        if spec is not None:
            return spec
    return None


def _below(name: str, path: Iterable[str]) -> ModuleSpec | None:
    """What PathFinder says, which cannot be asked: it looks for the parent in sys.modules."""
    portions: list[str] = []
    for folder in path:
        importer: Any = get_importer(folder)
        spec: ModuleSpec | None = importer.find_spec(name) if importer is not None else None
        if spec is not None and spec.loader is not None:
            return spec
        if spec is not None:
            portions += spec.submodule_search_locations or ()
    if not portions:
        return None
    namespace = ModuleSpec(name, None, is_package=True)
    namespace.submodule_search_locations = portions
    return namespace


def definition(target: str) -> Definition:
    """The source of what ``target`` names, followed through ``from x import y``.

    Raises:
        LookupError: it cannot be found; the message says why.
    """
    module, steps = parse_target(target)
    for is_attribute, key in steps:
        if not is_attribute:
            raise LookupError(f"the entry [{key}] is made at run time")
    return _find(module, [str(key) for _, key in steps], _HOPS)


def source_of(module: str) -> tuple[str, str, ModuleSpec]:
    """Path and text of a module, and its spec.

    Raises:
        LookupError: it is not installed, or has no Python source.
    """
    spec = find_spec(module)
    if spec is None:
        raise LookupError(f"{module} is not installed here")
    try:
        text = spec.loader.get_source(spec.name)  # type: ignore[union-attr]
    except Exception:
        text = None
    if text is None:
        raise LookupError(f"{module} has no Python source ({spec.origin or 'a namespace package'})")
    return spec.origin or module, text, spec


def _find(module: str, steps: list[str], hops: int) -> Definition:
    path, text, spec = source_of(module)
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise LookupError(f"{path} cannot be parsed: {error}") from None
    body: Iterable[ast.stmt] = tree.body
    node: ast.stmt | None = None
    for index, step in enumerate(steps):
        node = _binding(body, step)
        if isinstance(node, ast.ImportFrom):
            return _follow(node, step, steps[index + 1 :], spec, hops)
        if node is None:
            if index == 0:
                return _from_stars(tree, steps, spec, hops)
            raise LookupError(
                f"the source of {module}:{'.'.join(steps[:index])} has no {step!r} "
                "(inherited, or made at run time)"
            )
        body = node.body if isinstance(node, ast.ClassDef) else ()
    assert node is not None
    decorators = getattr(node, "decorator_list", [])
    first = decorators[0].lineno if decorators else node.lineno
    lines = text.splitlines(keepends=True)[first - 1 : node.end_lineno]
    return Definition(path, first, textwrap.dedent("".join(lines)))


def _binding(body: Iterable[ast.stmt], name: str) -> ast.stmt | None:
    """The statement that gives ``name`` its value; the last one, as at run time."""
    found = None
    for node in _statements(body):
        if name in _bound(node):
            found = node
    return found


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of one scope, those in branches included."""
    for node in body:
        yield node
        if not isinstance(node, _DEFINITIONS):
            for field in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, field, ()))
            for handler in getattr(node, "handlers", ()):
                yield from _statements(handler.body)


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, _DEFINITIONS):
        return {node.name}
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {each.id for each in targets if isinstance(each, ast.Name)}
    if isinstance(node, ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    return set()


def _follow(
    node: ast.ImportFrom, name: str, rest: list[str], spec: ModuleSpec, hops: int
) -> Definition:
    """Go on where ``from x import name`` has it from: in x, or in the module x.name."""
    if not hops:
        raise LookupError(f"{spec.name} leads on and on to other modules")
    origin = next((a.name for a in node.names if (a.asname or a.name) == name), name)
    source = _absolute(node, spec)
    if rest and is_importable(f"{source}.{origin}"):
        return _find(f"{source}.{origin}", rest, hops - 1)
    return _find(source, [origin, *rest], hops - 1)


def _from_stars(tree: ast.Module, steps: list[str], spec: ModuleSpec, hops: int) -> Definition:
    stars = [
        node
        for node in _statements(tree.body)
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
    ]
    for node in reversed(stars if hops else []):
        try:
            return _find(_absolute(node, spec), steps, hops - 1)
        except LookupError:
            continue
    raise LookupError(f"the source of {spec.name} has no {steps[0]!r} (made at run time)")


def _absolute(node: ast.ImportFrom, spec: ModuleSpec) -> str:
    if not node.level:
        return node.module or ""
    package = spec.name if spec.submodule_search_locations is not None else spec.parent or ""
    for _ in range(node.level - 1):
        package = package.rpartition(".")[0]
    return f"{package}.{node.module}" if node.module else package


def written(obj: Any) -> Definition:
    """The source of an object of ours: a replacement, a wrapper, a factory.

    Raises:
        LookupError: it has none, such as a plain value.
    """
    obj = getattr(obj, "__func__", obj)
    obj = obj.fget if isinstance(obj, property) else obj
    try:
        lines, line = inspect.getsourcelines(obj)
        path: str | None = inspect.getsourcefile(obj)
    except (OSError, TypeError):
        raise LookupError(f"the value {obj!r}") from None
    return Definition(path or "?", max(line, 1), textwrap.dedent("".join(lines)))
