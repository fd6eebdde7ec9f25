"""Dotted paths, as the Patcher API writes targets, in the terms of the engine.

``mmcv.ops.roi_align.RoIAlign.forward`` does not say where the module ends. That is found
out without importing anything: a package is asked where it lies, not executed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any, NamedTuple

from mx_autopatch import bootstrap
from mx_autopatch.engine.late import namespace_of
from mx_autopatch.errors import TargetError
from mx_autopatch.model import parse_target

#: Mappings of the packages that are patched; what follows such a name is a key.
_MAPPINGS = ("_module_dict", "_module_dicts")


class Target(NamedTuple):
    """A path, split into a module and what lies in it."""

    module: str
    qualname: str
    #: Why the module cannot be imported; empty if it can be found.
    missing: str = ""

    @property
    def text(self) -> str:
        return f"{self.module}:{self.qualname}"


def split(path: Any) -> Target:
    """Where the module of ``path`` ends: its last name is always something in a module.

    If not even its package can be found, the first capitalised name is taken for a class.

    Raises:
        TargetError: it is no dotted path.
    """
    parts = path.split(".") if isinstance(path, str) else []
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise TargetError(f"invalid target path {path!r}: expected 'package.module.name'")
    known = _longest_module(parts[:-1])
    missing = ""
    if not known:
        missing = f"No module named {parts[0]!r}"
        capitals = (i for i, part in enumerate(parts) if i and part[:1].isupper())
        known = next(capitals, len(parts) - 1)
    target = Target(".".join(parts[:known]), _qualname(parts[known:]), missing)
    parse_target(target.text)
    return target


def missing_module(name: str) -> str:
    """Why a module cannot be imported, as far as looking for it tells; empty if it can."""
    parts = name.split(".")
    found = _longest_module(parts)
    return "" if found == len(parts) else f"No module named {'.'.join(parts[: found + 1])!r}"


def resolve(path: str) -> Any:
    """The object that ``path`` names; its module is imported.

    Raises:
        LookupError: there is none; the message says whether it is the module that cannot be
            imported or the object that is not in it.
    """
    target = split(path)
    try:
        found: Any = import_module(target.module)
    except ImportError as error:
        raise LookupError(f"{target.module} cannot be imported: {error}") from error
    for name in path.split(".")[target.module.count(".") + 1 :]:
        try:
            found = found[name] if isinstance(found, dict) else getattr(found, name)
        except (AttributeError, KeyError):
            raise LookupError(f"{path}: {target.module} has no {name!r} there") from None
    return found


def _qualname(parts: list[str]) -> str:
    text = parts[0]
    for above, part in zip(parts, parts[1:]):
        text += f"[{part}]" if above in _MAPPINGS else f".{part}"
    return text


def _longest_module(parts: list[str]) -> int:
    """How many of these names lead to a module that is loaded or can be found."""
    path: Iterable[str] | None = None
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        module = sys.modules.get(name)
        if module is not None:
            path = namespace_of(module).get("__path__")
        elif count > 1 and path is None and not _answered(name):
            return count - 1
        else:
            spec = _find(name, path)
            if spec is None:
                return count - 1
            path = spec.submodule_search_locations
    return len(parts)


def _answered(name: str) -> bool:
    """Whether the engine may answer for a module that has no file."""
    finder = bootstrap.active()
    session = finder.session if finder is not None else None
    return session is not None and (name in session.index or name.startswith(session.prefixes))


def _find(name: str, path: Iterable[str] | None) -> Any:
    """The spec of a module whose parent may not have been imported."""
    ours: Any = bootstrap.active()
    finders = [finder for finder in sys.meta_path if finder is not ours]
    if ours is not None and _answered(name):
        finders.append(ours)
    for finder in finders:
        find_spec = getattr(finder, "find_spec", None)
        # The path of a namespace package asks for its parent, which is not there: that it is
        # there itself can be seen by its last name as well.
        for wanted in (name, name.rpartition(".")[2]) if find_spec is not None else ():
            try:
                spec = find_spec(wanted, path)  # type: ignore[misc]
            except KeyError:
                continue
            except (ImportError, ValueError, AttributeError):
                spec = None
            if spec is not None:
                return spec
            break
    return None
