"""The files of the exported package: pruned modules with imports of their own."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mx_autopatch.export.closure import Closure, Need, Symbol
from mx_autopatch.export.statements import Statement, imports_in
from mx_autopatch.registries.packages import version_of
from mx_autopatch.registries.resolve import resolve
from mx_autopatch.registries.sources import Source

__all__ = ["PACK", "Emitter", "Layout"]

#: The name of the exported package.
PACK = "pack"


class Layout:
    """Where each module of the exported packages goes.

    ``mmdet.models.backbones.resnet`` becomes ``pack.models.backbones.resnet``. Where two
    packages have a module of one path, those of all but the first get the package's name in
    front of the last part.
    """

    def __init__(self, modules: Mapping[str, Source], first: str) -> None:
        self._places: dict[str, str] = {}
        taken: dict[str, str] = {}
        order = sorted(modules, key=lambda name: (name.partition(".")[0] != first, name))
        for name in order:
            package, _, path = name.partition(".")
            if modules[name].is_package or not path:
                # Its own names cannot stay in an __init__ that imports its submodules.
                path = f"{path}.{_LAST}".lstrip(".")
            if path in taken:
                head, _, last = path.rpartition(".")
                path = f"{head}.{package}_{last}".lstrip(".")
            taken[path] = name
            self._places[name] = f"{PACK}.{path}"

    def __getitem__(self, module: str) -> str:
        return self._places[module]

    def __contains__(self, module: str) -> bool:
        return module in self._places


#: The module that has what a package's __init__ itself defines.
_LAST = "package"


@dataclass
class Emitter:
    """Writes the modules of a closure."""

    closure: Closure
    layout: Layout

    def module(self, name: str) -> str:
        """The pruned source of one module."""
        statements = [s for _, s in sorted(self.closure.statements[name].items())]
        source = statements[0].source
        future = [line for line in source.text.splitlines() if line.startswith("from __future__")]
        parts = [_header(source), *([f"{line}\n" for line in future[:1]])]
        imports = self._imports(name, statements)
        if imports:
            parts.append(imports)
        body = "\n\n\n".join(self._text(statement).rstrip() for statement in statements)
        return "\n".join(parts) + "\n\n" + body + "\n"

    # -- imports ---------------------------------------------------------------------

    def _imports(self, name: str, statements: list[Statement]) -> str:
        needs = dict(self.closure.needs.get(name, {}))
        used = {used for statement in statements for used in statement.uses}
        lines = {self._import(local, need) for local, need in needs.items() if local in used}
        return (
            "\n".join(sorted(lines, key=lambda line: (_group(line), line))) + "\n" if lines else ""
        )

    def _import(self, local: str, need: Need) -> str:
        if need.registry is not None:
            target = need.attribute
            return f"from {PACK}.registry import {_renamed(target, local)}"
        if need.symbol is not None and need.symbol.name:
            return (
                f"from {self.layout[need.symbol.module]} import {_renamed(need.attribute, local)}"
            )
        if need.symbol is not None:
            return self._module(need.module, local)
        if not need.attribute:
            return f"import {need.module}" + (f" as {local}" if local != need.module else "")
        return f"from {need.module} import {_renamed(need.attribute, local)}"

    def _module(self, module: str, local: str) -> str:
        """An import of a module itself: of a package, its __init__ in the pack."""
        place = self.layout[module] if module in self.layout else _package_place(module)
        head, _, last = place.rpartition(".")
        return f"from {head} import {_renamed(last, local)}"

    # -- statements --------------------------------------------------------------------

    def _text(self, statement: Statement) -> str:
        """The statement as it is written, with the imports inside of it led to the pack."""
        lines = statement.text.splitlines()
        offset = statement.first - 1
        for node in sorted(imports_in(statement), key=lambda node: -node.lineno):
            rewritten = self._nested(statement, node)
            if rewritten is not None:
                first, last = node.lineno - 1 - offset, (node.end_lineno or node.lineno) - offset
                indent = " " * node.col_offset
                lines[first:last] = [indent + line for line in rewritten]
        return "\n".join(lines)

    def _nested(self, statement: Statement, node: ast.Import | ast.ImportFrom) -> list[str] | None:
        """The lines in place of an import inside of a statement; None if it stays as it is."""
        needed = statement.reads | statement.binds
        used = [
            alias
            for alias in node.names
            if (alias.asname or alias.name.partition(".")[0]) in needed
        ]
        module = statement.source.absolute(node) if isinstance(node, ast.ImportFrom) else ""
        is_inside = module.partition(".")[0] in self.closure.inside
        if not is_inside and len(used) == len(node.names):
            return None
        sources = self.closure.model.sources
        target = sources.get(module) if is_inside else None
        lines = []
        for alias in used:
            local = alias.asname or alias.name
            meaning = resolve(sources, target, alias.name) if target is not None else None
            if isinstance(node, ast.Import):
                lines.append(f"import {_renamed(alias.name, local)}")
            elif meaning is None or not meaning.name:
                if is_inside:
                    return None  # what it means is unknown, and said to be so
                lines.append(f"from {module} import {_renamed(alias.name, local)}")
            else:
                symbol = Symbol(meaning.module, meaning.name)
                need = Need(
                    symbol.module, symbol.name, symbol if symbol.module in self.layout else None
                )
                lines.append(self._import(local, need))
        return lines or ["pass"]


def _renamed(name: str, local: str) -> str:
    return name if name == local else f"{name} as {local}"


def _package_place(module: str) -> str:
    return f"{PACK}.{module.partition('.')[2]}"


def _group(line: str) -> int:
    """Imports from elsewhere first, then the pack's own."""
    return int(line.split()[1].partition(".")[0] == PACK)


def _header(source: Source) -> str:
    """What was above the first statement, and where the module comes from."""
    kept = list(_leading_comments(source))
    package = source.name.partition(".")[0]
    version = version_of(package) or "(not installed)"
    digest = hashlib.sha256(source.path.read_bytes()).hexdigest()
    path = "/".join(source.name.split(".")) + ("/__init__.py" if source.is_package else ".py")
    kept += [f"# From {package} {version}, {path}", f"# SHA-256 {digest}", ""]
    return "\n".join(kept)


def _leading_comments(source: Source) -> Iterator[str]:
    for line in source.text.lstrip().splitlines():
        if not line.startswith("#"):
            return
        yield line
