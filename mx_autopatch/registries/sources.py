"""The source files of packages, found and read without importing anything."""

from __future__ import annotations

import ast
import functools
import os
import tokenize
import warnings
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Union

__all__ = ["Bound", "Imported", "Source", "Sources"]


class Imported:
    """A name bound by an import: the module ``module``, or ``attribute`` of it."""

    def __init__(self, module: str, attribute: str | None = None) -> None:
        self.module, self.attribute = module, attribute


#: What a name at the top of a module is bound to: an import, the value that was assigned,
#: or the statement that defines it.
Bound = Union[Imported, ast.expr, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef]

_DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Source:
    """One module's source.

    Args:
        name: The module's dotted name.
        path: Its file.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.is_package = path.name == "__init__.py"

    @functools.cached_property
    def text(self) -> str:
        """The source, decoded as Python would; empty if it cannot be read."""
        try:
            with tokenize.open(self.path) as file:
                return file.read()
        except (OSError, SyntaxError, UnicodeDecodeError):
            return ""

    @functools.cached_property
    def tree(self) -> ast.Module:
        """The syntax tree; an empty one if Python could not compile the file either."""
        try:
            with warnings.catch_warnings():
                # Invalid escapes are for Python to warn of, and no errors here under -W error.
                warnings.simplefilter("ignore")
                return ast.parse(self.text)
        except (SyntaxError, ValueError):
            return ast.Module([], [])

    def absolute(self, node: ast.ImportFrom) -> str:
        """The module that a ``from`` import of this file names."""
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        kept = len(parts) - node.level + self.is_package
        return ".".join([*parts[: max(kept, 0)], *([node.module] if node.module else [])])

    @functools.cached_property
    def names(self) -> dict[str, Bound]:
        """What each name at the top of the module is bound to when it has executed.

        Of a ``try`` the body counts, not the handlers: what runs where all is installed.
        """
        names: dict[str, Bound] = {}
        for node in _top_level(self.tree.body):
            if isinstance(node, _DEFINITIONS):
                names[node.name] = node
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        names[target.id] = node.value
            elif isinstance(node, ast.AnnAssign):
                if isinstance(node.target, ast.Name) and node.value is not None:
                    names[node.target.id] = node.value
            elif isinstance(node, ast.ImportFrom):
                module = self.absolute(node)
                for alias in node.names:
                    if alias.name != "*":
                        names[alias.asname or alias.name] = Imported(module, alias.name)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.partition(".")[0]
                    names[alias.asname or first] = Imported(alias.name if alias.asname else first)
        return names

    @functools.cached_property
    def stars(self) -> list[str]:
        """The modules of which everything public is imported."""
        return [
            self.absolute(node)
            for node in _top_level(self.tree.body)
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
        ]

    @functools.cached_property
    def required(self) -> list[str]:
        """The modules without which this one cannot be imported, in order, each once.

        What stands in a ``try`` with handlers is not required. ``from a import b`` gives
        ``a.b`` as well, which may be a module or not.
        """
        found: dict[str, None] = {}
        for node in _top_level(self.tree.body, guarded=False):
            if isinstance(node, ast.Import):
                found.update(dict.fromkeys(alias.name for alias in node.names))
            elif isinstance(node, ast.ImportFrom):
                module = self.absolute(node)
                found[module] = None
                found.update(dict.fromkeys(f"{module}.{alias.name}" for alias in node.names))
        return list(found)


def _top_level(body: list[ast.stmt], guarded: bool = True) -> Iterator[ast.stmt]:
    """The statements that execute when the module does, outside of functions and classes.

    Of an ``if`` both branches, of a ``try`` the body but not the handlers; with ``guarded``
    false nothing of a ``try`` that has handlers, and nothing that only type checkers see.
    """
    for node in body:
        yield node
        if isinstance(node, ast.If):
            yield from _top_level(node.orelse, guarded)
            if guarded or "TYPE_CHECKING" not in ast.dump(node.test):
                yield from _top_level(node.body, guarded)
        elif isinstance(node, (ast.For, ast.While, ast.With)):
            yield from _top_level(node.body, guarded)
        elif isinstance(node, ast.Try) and (guarded or not node.handlers):
            for part in (node.body, node.orelse, node.finalbody):
                yield from _top_level(part, guarded)


class Sources:
    """The modules that can be imported, each read once."""

    def __init__(self) -> None:
        self._known: dict[str, Source | None] = {}

    def get(self, name: str) -> Source | None:
        """The module ``name``; None if there is none, or none that is written in Python."""
        if name not in self._known:
            self._known[name] = self._find(name)
        return self._known[name]

    def of(self, package: str) -> list[Source]:
        """A package and all that lies below it, or the module of that name."""
        top = self.get(package)
        found = {} if top is None else {package: top}
        for root in self._folders(package):
            found.update((source.name, source) for source in self._below(root, [package]))
        return list(found.values())

    def project(self, root: Path) -> list[Source]:
        """What a script in the folder ``root`` can import from there."""
        return list(self._below(root, []))

    def _below(self, root: Path, prefix: list[str]) -> Iterator[Source]:
        for path in _python_files(root):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join([*prefix, *(parts[:-1] if parts[-1] == "__init__" else parts)])
            if self._known.get(name) is None:
                self._known[name] = Source(name, path)
            source = self._known[name]
            if source is not None and name:
                yield source

    def _find(self, name: str) -> Source | None:
        package, _, last = name.rpartition(".")
        for folder in self._folders(package) if package else _top(name):
            for file in (folder / last / "__init__.py", folder / f"{last}.py"):
                if file.is_file():
                    return Source(name, file)
        return None

    def _folders(self, package: str) -> list[Path]:
        """Where the submodules of a package lie."""
        top, *rest = package.split(".")
        spec = _spec(top)
        locations = (spec.submodule_search_locations if spec is not None else None) or ()
        folders = (Path(location, *rest) for location in locations)
        return [folder for folder in folders if folder.is_dir()]


#: A project keeps packages below folders that hold no code themselves (projects/plugin),
#: but what lies deeper than this below one is data.
_FOLDERS_WITHOUT_CODE = 2


def _python_files(folder: Path, patience: int = _FOLDERS_WITHOUT_CODE) -> Iterator[Path]:
    """The modules in a folder and below it, in order.

    Names that could not be imported (.mim, my-env) are passed over, and so are environments.
    """
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    files = [e for e in entries if e.name.endswith(".py") and e.name[:-3].isidentifier()]
    yield from (Path(entry.path) for entry in files if entry.is_file())
    patience = _FOLDERS_WITHOUT_CODE if files else patience - 1
    for entry in entries:
        is_code = entry.name.isidentifier() and entry.name != "__pycache__" and entry.is_dir()
        if is_code and patience >= 0 and not os.path.exists(f"{entry.path}/pyvenv.cfg"):
            yield from _python_files(Path(entry.path), patience)


def _top(name: str) -> list[Path]:
    spec = _spec(name)
    if spec is None or not spec.origin:
        return []
    file = Path(spec.origin)
    return [file.parent.parent if file.name == "__init__.py" else file.parent]


def _spec(top: str) -> ModuleSpec | None:
    try:
        return find_spec(top)
    except (ImportError, ValueError):  # __main__ and other modules without one
        return None
