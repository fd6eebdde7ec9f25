"""Where a registered name comes from: in this process, and in sources that nobody imported."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec

from mx_autopatch.registries.sources import Source
from mx_autopatch.registries.static import Entry, Model

__all__ = ["Finding", "Registered", "custom_imports", "find", "hindrance", "is_importable", "near"]

_NEAR = 5


@dataclass(frozen=True)
class Finding:
    """What the sources say about a name: the entries of that name, or else near names."""

    entries: tuple[Entry, ...] = ()
    near: tuple[Entry, ...] = ()


#: A class or function below a decorator ``@....register_module``, as text: to find near names
#: without the syntax tree of every file.
_REGISTERED = re.compile(
    r"^[ \t]*@[\w.]+\.register_module\b.*(?:\n[ \t]*(?:@.*|[^\n@]*\)))*\n"
    r"[ \t]*(?:class|def)[ \t]+(\w+)",
    re.MULTILINE,
)


class Registered:
    """Who registers a name, in some modules; a file is read when a name in it is asked for."""

    def __init__(self, model: Model, modules: Iterable[Source]) -> None:
        self._model = model
        self._sources = [source for source in modules if "register_module" in source.text]
        self._entries: dict[str, list[Entry]] = {}
        self._named: dict[str, list[Entry]] = {}

    def named(self, name: str) -> list[Entry]:
        """The entries of that name, in the order of the modules."""
        if name not in self._named:
            self._named[name] = [
                entry
                for source in self._sources
                if name in source.text
                for entry in self._of(source)
                if entry.name == name
            ]
        return self._named[name]

    def near(self, name: str) -> list[Entry]:
        """The entries of names that ``name`` may be a slip of."""
        names = {known for source in self._sources for known in _REGISTERED.findall(source.text)}
        return [entry for close in sorted(near(name, names)) for entry in self.named(close)]

    def _of(self, source: Source) -> list[Entry]:
        if source.name not in self._entries:
            self._entries[source.name] = list(self._model.entries([source]))
        return self._entries[source.name]


def find(model: Model, modules: Iterable[Source], key: str) -> Finding:
    """Who registers ``key``, which may be written with its scope (``mmdet.ResNet``).

    Only files that have the name in them are read, or a near name if none registers it.
    """
    scope, _, name = key.rpartition(".")
    registered = Registered(model, modules)
    found = registered.named(name)
    if scope:
        found = [entry for entry in found if entry.registry.scope == scope] or found
    return Finding(tuple(found)) if found else Finding(near=tuple(registered.near(name)))


def near(name: str, names: Iterable[str]) -> set[str]:
    """Those of ``names`` that ``name`` may be a slip of, upper and lower case aside."""
    folded: dict[str, set[str]] = {}
    for known in names:
        folded.setdefault(known.lower(), set()).add(known)
    close = difflib.get_close_matches(name.lower(), folded, n=_NEAR, cutoff=0.75)
    return {known for match in close for known in folded[match]}


def custom_imports(modules: Iterable[str]) -> str:
    """The line of a config that has the modules imported before anything is built."""
    listed = ", ".join(repr(module) for module in sorted(set(modules)))
    return f"custom_imports = dict(imports=[{listed}], allow_failed_imports=False)"


def hindrance(model: Model, module: str) -> str:
    """Why importing ``module`` fails, or has not come to its end; empty if nothing is seen.

    Follows the imports at the top of the sources, within the module's own package, to the
    first one that cannot be found. Imports nothing.
    """
    return _hindrance(model, module, module.partition(".")[0], set())


def _hindrance(model: Model, module: str, package: str, seen: set[str]) -> str:
    loaded = sys.modules.get(module)
    if getattr(getattr(loaded, "__spec__", None), "_initializing", False):
        return f"{module} is being imported at this moment: a circle of imports"
    source = model.sources.get(module)
    if loaded is not None or source is None or module in seen:
        return ""
    seen.add(module)
    for wanted in source.required:
        top, *rest = wanted.split(".")
        if top != package and not is_importable(top):
            return f"{module} imports {top}, which is not installed ({source.path})"
        # The packages above a module execute first.
        chain = [".".join([top, *rest[:end]]) for end in range(len(rest) + 1)]
        for name in chain if top == package else ():
            reason = _hindrance(model, name, package, seen)
            if reason:
                return reason
    return ""


def is_importable(top: str) -> bool:
    """Whether a top-level module is loaded, or would be found."""
    if top in sys.modules:
        return sys.modules[top] is not None
    try:
        return find_spec(top) is not None
    except (ImportError, ValueError):
        return False
