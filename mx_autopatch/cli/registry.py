"""``registry``: OpenMMLab's registries, read from sources; nothing is imported."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import click

from mx_autopatch.cli.terminal import Fault, console, print_json, table
from mx_autopatch.registries.explain import modules_in_reach
from mx_autopatch.registries.packages import with_registries
from mx_autopatch.registries.search import custom_imports, find, hindrance
from mx_autopatch.registries.sources import Source
from mx_autopatch.registries.static import Entry, Model, StaticRegistry

__all__ = ["command"]

_JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.group(
    "registry",
    short_help="OpenMMLab's registries: which there are, and who registers a name.",
    help="OpenMMLab's registries, found in the sources of packages without importing them.",
)
def command() -> None: ...


@command.command("tree", short_help="All registries, by root and scope.")
@click.argument("packages", nargs=-1, metavar="[PACKAGE]...")
@_JSON
def tree(packages: tuple[str, ...], as_json: bool) -> None:
    """The registries of PACKAGEs (all installed ones) below the roots that they belong to.

    The number is how many names the PACKAGEs register there.
    """
    from rich.text import Text
    from rich.tree import Tree

    model = Model()
    modules = _modules(model, packages or with_registries())
    made = dict.fromkeys(registry for _, registry, _ in model.names(modules))
    counts = Counter(entry.registry.place for entry in model.entries(modules))
    for registry in list(made):  # a parent may lie in a package that was not asked for
        while registry.parent is not None:
            registry = registry.parent
            made.setdefault(registry)
    ordered = sorted(made, key=lambda registry: (registry.name, registry.scope, registry.place))
    if as_json:
        print_json([{**_row(one), "entries": counts[one.place]} for one in ordered])
        return
    nodes: dict[str, Any] = {}

    def node(registry: StaticRegistry) -> Any:
        if registry.place not in nodes:
            text = Text(registry.scope if registry.parent else registry.name, style="bold")
            text.append(f"  {registry.place}", style="not bold")
            text.append(f"  {counts[registry.place]}", style="not bold dim")
            if registry.parent is None:
                nodes[registry.place] = Tree(text)
            else:
                nodes[registry.place] = node(registry.parent).add(text)
        return nodes[registry.place]

    for registry in ordered:
        node(registry)
    out = console()
    for registry in ordered:
        if registry.parent is None:
            out.print(nodes[registry.place])


@command.command("find", short_help="Who registers NAME, and what to write to have it.")
@click.argument("name")
@click.argument("packages", nargs=-1, metavar="[PACKAGE]...")
@_JSON
def find_command(name: str, packages: tuple[str, ...], as_json: bool) -> None:
    """Who registers NAME, in PACKAGEs or in all installed ones and in this folder.

    Ends with status 1 if nobody does; near names are shown then.
    """
    model = Model()
    given = _modules(model, packages)
    modules = given or modules_in_reach(model, Path(os.getcwd()))
    finding = find(model, modules, name)
    found = finding.entries or finding.near
    if as_json:
        print_json({"exact": bool(finding.entries), "entries": [_found(model, e) for e in found]})
    elif finding.entries:
        for entry in finding.entries:
            _tell(model, entry)
    else:
        near = ", ".join(sorted({f"{entry.name} ({entry.registry})" for entry in found}))
        click.echo(f"nobody registers {name!r}" + (f"; near names: {near}" if near else ""))
    if not finding.entries:
        click.get_current_context().exit(1)


@command.command("aliases", short_help="Further names of registries, and build functions.")
@click.argument("packages", nargs=-1, required=True, metavar="PACKAGE...")
@_JSON
def aliases(packages: tuple[str, ...], as_json: bool) -> None:
    """Which registry a variable of PACKAGEs is, by identity, and which one a build_* uses."""
    model = Model()
    modules = _modules(model, packages)
    rows = []
    for place, registry, meaning in model.names(modules):
        if place.rpartition(":")[2] != registry.place.rpartition(":")[2]:
            rows.append({"name": place, **_row(registry), "trail": list(meaning.trail)})
    for builder in model.builders(modules):
        rows.append({"name": f"{builder.place}()", **_row(builder.registry), "trail": []})
    if as_json:
        print_json(rows)
        return
    shown = table("name", "registry", "is")
    for row in rows:
        shown.add_row(str(row["name"]), f"{row['scope']}::{row['registry']}", str(row["place"]))
    console().print(shown)


def _modules(model: Model, packages: tuple[str, ...]) -> list[Source]:
    modules = []
    for package in packages:
        found = model.sources.of(package)
        if not found:
            raise Fault(f"{package!r}: no package of that name that is written in Python")
        modules += found
    return modules


def _row(registry: StaticRegistry) -> dict[str, Any]:
    return {
        "registry": registry.name,
        "scope": registry.scope,
        "place": registry.place,
        "root": registry.root.place,
        "locations": list(registry.locations),
        "file": registry.file,
        "line": registry.line,
    }


def _found(model: Model, entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        **_row(entry.registry),
        "module": entry.module,
        "qualname": entry.qualname,
        "file": entry.file,
        "line": entry.line,
        "trail": list(entry.trail),
        "custom_imports": custom_imports([entry.module]),
        "hindrance": hindrance(model, entry.module),
    }


def _tell(model: Model, entry: Entry) -> None:
    registry = entry.registry
    lines = [f"{registry.scope}.{entry.name}: {entry.module}:{entry.qualname}"]
    lines.append(f"  registry  {registry.name} of {registry.scope}, {registry.place}")
    if len(entry.trail) > 1:
        lines.append(f"  reached   {' -> '.join(entry.trail)}")
    lines.append(f"  source    {entry.file}:{entry.line}")
    lines.append(f"  config    {custom_imports([entry.module])}")
    if registry.locations:
        lines.append(f"            (the registry itself imports {', '.join(registry.locations)})")
    reason = hindrance(model, entry.module)
    if reason:
        lines.append(f"  but       {reason}")
    click.echo("\n".join(lines))
