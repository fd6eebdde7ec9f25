"""What to say when a name is not in a registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mx_autopatch.registries.live import LiveRegistry, registries
from mx_autopatch.registries.packages import copies_of, with_registries
from mx_autopatch.registries.search import custom_imports, find, hindrance, near
from mx_autopatch.registries.sources import Source
from mx_autopatch.registries.static import Entry, Model

__all__ = ["absence", "modules_in_reach"]


def modules_in_reach(model: Model, project: Path | None) -> list[Source]:
    """The modules of all installed packages with registries, and of the user's project."""
    found = [source for package in with_registries() for source in model.sources.of(package)]
    if project is not None:
        known = {source.name for source in found}
        found += [s for s in model.sources.project(project) if s.name not in known]
    return found


def absence(registry: Any, key: str, project: Path | None = None) -> list[str]:
    """Why ``registry`` has no ``key``, and what to do about it: a line for each thing known.

    Looks at the registries of this process first, then at the sources of the installed
    packages and of ``project``; imports nothing.
    """
    here, name = LiveRegistry(registry, ()), key.rpartition(".")[2]
    others = [other for other in registries() if other.registry is not registry]
    lines = list(_holders(here, others, name))
    model = Model()
    finding = find(model, modules_in_reach(model, project), key)
    told = {str(other) for other in others if name in other.registry._module_dict}
    unknown = [entry for entry in finding.entries if str(entry.registry) not in told]
    lines += _registrars(model, here, unknown)
    if not lines:
        lines += _near(here, name, finding.near)
    for package in sorted({entry.module.partition(".")[0] for entry in finding.entries}):
        copies = copies_of(package)
        if len(copies) > 1:
            paths = ", ".join(map(str, copies))
            lines.append(f"{package} is on the path more than once; the first one counts: {paths}")
    return lines or [f"no installed package, and no file of the project, registers {name!r}"]


def _holders(here: LiveRegistry, others: list[LiveRegistry], name: str) -> Iterator[str]:
    """Other registries of this process that hold the name."""
    for other in others:
        for entry in other.entries:
            if entry.name == name:
                alike = other.root is here.root
                yield f"{other} has it, from {entry.place}; {_advice(here, other, name, alike)}"


def _registrars(model: Model, here: LiveRegistry, entries: list[Entry]) -> Iterator[str]:
    """Modules that would register the name, and have not been imported."""
    to_import = []
    for entry in entries:
        where = f"{entry.module} ({entry.file}:{entry.line}) registers it in {entry.registry}"
        alike = entry.registry.root.name == here.root._name
        if alike and entry.registry.scope == here.scope:
            to_import.append(entry.module)
            yield f"{where}, and has not been imported"
        else:
            yield f"{where}; {_advice(here, entry.registry, entry.name, alike)}"
        reason = hindrance(model, entry.module) if alike else ""
        if reason:
            yield f"it cannot be imported: {reason}"
    if to_import:
        yield f"in the config: {custom_imports(to_import)}"


def _advice(here: LiveRegistry, other: Any, name: str, alike: bool) -> str:
    if not alike:
        return f"that is a {other.root.name!r}, and what was asked for a {here.root._name!r}"
    return f"write type='{other.scope}.{name}', or default_scope = '{other.scope}'"


def _near(here: LiveRegistry, name: str, entries: tuple[Entry, ...]) -> list[str]:
    known: dict[str, str] = {}
    registry = here.registry
    while registry is not None:
        for close in near(name, registry._module_dict):
            known.setdefault(close, str(LiveRegistry(registry, ())))
        registry = registry.parent
    alike = [entry for entry in entries if entry.registry.root.name == here.root._name]
    for entry in alike:
        known.setdefault(entry.name, str(entry.registry))
    said = ", ".join(f"{close!r} ({where})" for close, where in known.items())
    return [f"did you mean {said}?"] if said else []
