"""Patches from outside the package: entry points, modules and files.

Each offers ``PATCHES``, as a built-in patch file does.
"""

from __future__ import annotations

import os
import sys
from _frozen_importlib import _ModuleLockManager  # type: ignore[attr-defined]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType
    from typing import Any, Callable

    from mx_autopatch.engine.config import Config

GROUP = "mx_autopatch.patches"

#: Name of the module that a plugin file is loaded as -> its path, for workers that
#: unpickle something of it.
FILES: dict[str, str] = {}


def load_plugins(config: Config, problem: Callable[[str], None]) -> Iterator[Any]:
    """What entry points, modules and files offer, in this order; one item a patch.

    A plugin that fails is reported to ``problem`` and left out.
    """
    sources: list[tuple[str, Callable[[], Any]]] = []
    for entry_point in entry_points():
        sources.append((f"entry point {entry_point.name!r}", entry_point.load))
    for name in config.plugin_modules:
        sources.append((f"plugins.modules: {name!r}", lambda name=name: _import(name)))  # type: ignore[misc]
    for path in config.plugin_files:
        content = config.plugin_bytes.get(path)
        sources.append(
            (f"plugins.files: {path}", lambda path=path, content=content: load_file(path, content))  # type: ignore[misc]
        )
    for what, load in sources:
        try:
            offered = load()
            # An entry point may name the module or its PATCHES.
            offered = getattr(offered, "PATCHES", offered)
            if not isinstance(offered, (tuple, list)):
                raise TypeError("it offers no PATCHES (a tuple of mx_autopatch.Patch)")
        except Exception as error:
            problem(f"{what}: {type(error).__name__}: {error}")
            continue
        yield from offered


def entry_points() -> list[Any]:
    """The entry points of our group, read through importlib-metadata if there are any.

    Importing that library costs more than the rest of an activation together, so the
    metadata files are first searched for the group's name.
    """
    if not any(_names_group(folder) for folder in sys.path):
        return []
    import importlib_metadata

    return sorted(importlib_metadata.entry_points(group=GROUP), key=lambda point: point.name)


def _names_group(folder: str) -> bool:
    try:
        names = os.listdir(folder or ".")
    except NotADirectoryError:
        return os.path.exists(folder)  # an archive: only the library can look inside
    except OSError:
        return False
    marker = GROUP.encode()
    for name in names:
        if name.endswith((".dist-info", ".egg-info")):
            try:
                with open(os.path.join(folder, name, "entry_points.txt"), "rb") as file:
                    if marker in file.read():
                        return True
            except OSError:
                continue
    return False


def load_file(path: str, content: bytes | None = None) -> ModuleType:
    """Execute a plugin file as a module of its own, once a process.

    ``content`` is what the trust store vouched for; the file is read if it is None.
    """
    import hashlib

    stem = os.path.splitext(os.path.basename(path))[0]
    digest = hashlib.sha256(os.path.realpath(path).encode()).hexdigest()[:8]
    name = f"mx_autopatch_plugin_{stem if stem.isidentifier() else 'file'}_{digest}"
    # As an import does: another thread that prepares waits for the whole of the module.
    with _ModuleLockManager(name):
        if name not in sys.modules:
            _execute(name, path, content)
        return sys.modules[name]


def _execute(name: str, path: str, content: bytes | None) -> None:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = module_from_spec(spec)
    FILES[name] = path
    sys.modules[name] = module
    try:
        if content is None:
            spec.loader.exec_module(module)
        else:
            exec(compile(content, path, "exec", dont_inherit=True), vars(module))
    except BaseException:
        del sys.modules[name]
        raise


def _import(name: str) -> ModuleType:
    from importlib import import_module

    return import_module(name)
