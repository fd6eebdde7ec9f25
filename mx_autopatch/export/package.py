"""The exported package as a whole: from a config to files."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mx_autopatch.export import config as configs
from mx_autopatch.export.bake import bake
from mx_autopatch.export.closure import Closure, Symbol, closure
from mx_autopatch.export.config import ExportError, Types
from mx_autopatch.export.emit import PACK, Emitter, Layout
from mx_autopatch.registries.packages import with_registries
from mx_autopatch.registries.search import Registered
from mx_autopatch.registries.static import Entry, Model, StaticRegistry

__all__ = ["Package", "build"]

#: What an exported package goes on importing.
_BASES = frozenset({"mmengine", "mmcv"})


@dataclass
class Package:
    """What is to be written.

    Attributes:
        name: Of the config, as a module's.
        original: The config that it was made of, and ``scope`` its default scope.
        left: The packages that it does without.
        files: Path below the output folder -> content.
    """

    name: str
    original: Path
    scope: str
    left: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> str:
        """The path of the exported config."""
        return f"{PACK}/configs/{self.name}.py"

    def write(self, folder: Path) -> None:
        """Write all files below ``folder``, which is made."""
        for name, text in sorted(self.files.items()):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def build(config: str, model_only: bool = False, with_operators: bool = True) -> Package:
    """The package for one config; see the issue's layout. Imports none of what it exports.

    Raises:
        ExportError: the config cannot be read, or names what is not there.
    """
    path = configs.locate(config)
    content = configs.load(path)
    scope = configs.scope_of(content, path)
    if model_only:
        content = configs.of_model(content)
    model = Model()
    registered = _registered(model, scope, content)
    roots = _roots(content, Types(model, registered, scope), path)
    inside = {symbol.module.partition(".")[0] for symbol in roots} | {scope}
    found = closure(model, inside - _BASES, roots, registered)
    modules = {name: model.sources.get(name) for name in found.statements}
    layout = Layout({n: s for n, s in modules.items() if s is not None}, scope)
    left = [each for each in with_registries() if each not in _BASES]
    package = Package(re.sub(r"\W", "_", path.stem), path.resolve(), scope, left)
    emitter = Emitter(found, layout)
    for module in sorted(found.statements):
        package.files[_file(layout[module])] = emitter.module(module)
    package.files[f"{PACK}/registry.py"] = _registry_module(found)
    operators = bake(found) if with_operators else {}
    package.files.update(operators)
    _add_inits(package, _registering(found, layout), bool(operators))
    package.files[package.config] = _config_text(content)
    package.files["manifest.json"] = _manifest(found, layout)
    for tool in ("train", "test"):
        package.files[f"tools/{tool}.py"] = _tool(tool)
    return package


def _registered(model: Model, scope: str, content: dict[str, Any]) -> Registered:
    """Who registers what, in the packages that the config names."""
    named = {each["type"].partition(".")[0] for _, each in configs.walk(content)}
    packages = [scope, *sorted(named & {*with_registries()} - {scope})]
    return Registered(model, [s for package in packages for s in model.sources.of(package)])


def _registering(found: Closure, layout: Layout) -> list[str]:
    """The modules of the pack that register something, when they are imported."""
    return sorted(
        layout[name]
        for name, taken in found.statements.items()
        if any("register_module" in statement.text for statement in taken.values())
    )


def _roots(content: dict[str, Any], types: Types, path: Path) -> set[Symbol | Entry]:
    """What the config's types mean; each type is rewritten to the name that the pack has."""
    roots: set[Symbol | Entry] = set()
    for keys, each in configs.walk(content):
        value = each["type"]
        found = types.find(value, keys)
        for one in found:
            place = one.module.partition(".")[0]
            if place in _BASES:
                continue
            roots.add(one)
            each["type"] = value.rpartition(".")[2]
        if not found and "." in value and value.partition(".")[0] not in (*_BASES, "torch"):
            raise ExportError(f"{path}: {'.'.join(keys)}: type {value!r}: nothing registers it")
    if not roots:
        raise ExportError(f"{path}: nothing in it comes from a package that could be exported")
    content["default_scope"] = PACK
    content["custom_imports"] = {"imports": [PACK], "allow_failed_imports": False}
    return roots


def _file(module: str) -> str:
    return module.replace(".", "/") + ".py"


def _registry_module(found: Closure) -> str:
    lines = ['"""The registries of this package, children of mmengine\'s."""', ""]
    made: dict[str, StaticRegistry] = {}
    for registry in sorted(found.registries.values(), key=lambda registry: registry.place):
        made.setdefault(registry.place.partition(":")[2], registry)
    lines.append("from mmengine import registry as root")
    lines.append("from mmengine.registry import Registry")
    lines.append("")
    for name, registry in sorted(made.items()):
        top = registry.root.place.partition(":")[2] if registry.parent else ""
        parent = f", parent=root.{top}" if top else ""
        lines.append(f"{name} = Registry({registry.name!r}{parent}, scope={PACK!r})")
    return "\n".join(lines) + "\n"


def _add_inits(package: Package, registering: list[str], has_operators: bool) -> None:
    folders = {str(PurePosixPath(file).parent) for file in package.files}
    for folder in {*folders, f"{PACK}/configs"}:
        parts = folder.split("/")
        for end in range(1, len(parts) + 1):
            package.files.setdefault("/".join([*parts[:end], "__init__.py"]), "")
    lines = ['"""Whatever is registered, when this package is imported."""', ""]
    if has_operators:
        lines += [f"from {PACK}.mmcv_ext.install import install", "", "install()", ""]
    # After the operators: mmcv.ops asks for them when it is imported.
    lines += [f"import {module}  # noqa: E402, F401" for module in registering]
    package.files[f"{PACK}/__init__.py"] = "\n".join(lines) + "\n"


def _tool(name: str) -> str:
    return Path(__file__).with_name("tools").joinpath(f"{name}.py").read_text(encoding="utf-8")


def _config_text(content: dict[str, Any]) -> str:
    from mmengine.config import Config

    text: str = Config(content).pretty_text
    return text


def _manifest(found: Closure, layout: Layout) -> str:
    content = {
        "modules": {
            layout[name]: {
                "from": name,
                "symbols": sorted({n for s in taken.values() for n in s.binds}),
            }
            for name, taken in sorted(found.statements.items())
        },
        "unresolved": found.unresolved,
    }
    return json.dumps(content, indent=1, sort_keys=True) + "\n"
