"""Imported by scripts that run in a process of their own: what a program can see of a module."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import json
import pkgutil
import re
import sys
import traceback
from typing import Any, Callable


def attempt(function: Callable[[], Any]) -> Any:
    """What ``function`` returns, or what it raises in words."""
    try:
        return function()
    except Exception as error:
        return _without_addresses(f"{type(error).__name__}: {error}")


def _without_addresses(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+", "0x", text)


def show(**seen: Any) -> None:
    """Print the observations, as the last line of output."""
    print(json.dumps(seen, sort_keys=True, default=str))


def loader(value: Any) -> dict[str, Any]:
    """A loader's type and state."""
    return {
        "type": f"{type(value).__module__}.{type(value).__qualname__}",
        "class": value.__qualname__ if isinstance(value, type) else "",
        "state": sorted(getattr(value, "__dict__", {})),
        "repr": _without_addresses(repr(value)),
    }


def spec(value: Any, whole: bool = True) -> Any:
    """A spec's fields; without ``whole`` no state of the loader."""
    if value is None:
        return None
    locations = value.submodule_search_locations
    return {
        "type": type(value).__qualname__,
        "name": value.name,
        "origin": value.origin,
        "cached": value.cached,
        "parent": value.parent,
        "has_location": value.has_location,
        "locations": None if locations is None else list(locations),
        "locations type": type(locations).__qualname__,
        "loader_state": _without_addresses(repr(value.loader_state)),
        "initializing": getattr(value, "_initializing", None),
        "loader": loader(value.loader) if whole else value.loader.__class__.__qualname__,
    }


def before_import(name: str) -> Any:
    """What find_spec says of a module that has not been imported."""
    found = importlib.util.find_spec(name)
    assert name not in sys.modules
    return spec(found, whole=False)


_MISSING = "missing"


def module(value: Any) -> dict[str, Any]:
    """All that is to be seen of a module, its own names aside."""
    name = value.__name__
    ld = value.__loader__
    path = getattr(value, "__path__", None)
    return {
        "type": type(value).__qualname__,
        "repr": _without_addresses(repr(value)),
        "in sys.modules": sys.modules.get(name) is value,
        "loader": loader(ld),
        "one loader": ld is value.__spec__.loader,
        "spec": spec(value.__spec__),
        "file": getattr(value, "__file__", _MISSING),
        "cached": getattr(value, "__cached__", _MISSING),
        "package": value.__package__,
        "doc": value.__doc__,
        "path": None if path is None else [type(path).__qualname__, *path],
        "dunders": sorted(n for n in vars(value) if n.startswith("__")),
        "find_spec": attempt(lambda: importlib.util.find_spec(name) is value.__spec__),
        **_through_loader(name, ld, value),
        **_through_library(name, value),
    }


def _through_loader(name: str, ld: Any, value: Any) -> dict[str, Any]:
    def code() -> Any:
        found = ld.get_code(name)
        return found and [found.co_filename, hashlib.sha256(found.co_code).hexdigest()]

    def data() -> str:
        return hashlib.sha256(ld.get_data(value.__file__)).hexdigest()

    return {
        "get_code": attempt(code),
        "get_source": attempt(lambda: ld.get_source(name)),
        "get_data": attempt(data),
        "get_filename": attempt(lambda: ld.get_filename(name)),
        "is_package": attempt(lambda: ld.is_package(name)),
        "resource reader": attempt(lambda: type(ld.get_resource_reader(name)).__qualname__),
    }


def _through_library(name: str, value: Any) -> dict[str, Any]:
    from importlib import resources

    def resource() -> str:
        return resources.files(value).joinpath("data.txt").read_text(encoding="utf-8")

    return {
        "getsource": attempt(lambda: inspect.getsource(value)),
        "getsourcefile": attempt(lambda: inspect.getsourcefile(value)),
        "getfile": attempt(lambda: inspect.getfile(value)),
        "getmodule": attempt(lambda: inspect.getmodule(value) is value),
        "getmodulename": attempt(lambda: inspect.getmodulename(value.__file__)),
        "pkgutil.get_data": attempt(lambda: (pkgutil.get_data(name, "data.txt") or b"").decode()),
        "resources": attempt(resource),
        "iter_modules": attempt(
            lambda: [m.name for m in pkgutil.iter_modules(getattr(value, "__path__", []))]
        ),
    }


def frames(error: BaseException) -> list[list[str]]:
    """File and function of each frame of a traceback, a recursion counted once."""
    found = [[frame.filename, frame.name] for frame in traceback.extract_tb(error.__traceback__)]
    return [frame for index, frame in enumerate(found) if frame not in found[index - 1 : index]]


def raised(function: Callable[[], Any]) -> Any:
    """What ``function`` raises: type, text, frames and where it came from."""
    try:
        function()
    except BaseException as error:
        return {
            "type": type(error).__qualname__,
            "text": str(error),
            "args": repr(error.args),
            "frames": frames(error),
            "cause": repr(error.__cause__),
            "context": repr(error.__context__),
            "suppress": error.__suppress_context__,
            "attributes": sorted(vars(error)),
            "name": getattr(error, "name", None),
            "path": getattr(error, "path", None),
        }
    return "nothing"
