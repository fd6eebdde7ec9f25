"""What a free function changes in a package and below it, submodules that are not loaded yet
included.

While the function runs, the package imports a submodule the moment it is asked for one that
is not there, and everything that is executed meanwhile is told from what the function did
itself: registering its classes is a module's own doing, and stays.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Callable

from mx_autopatch.engine.late import namespace_of
from mx_autopatch.engine.loader import hook_too
from mx_autopatch.engine.snapshot import Changes, Snapshot, changes_since, restore, snapshot


class Below:
    """A context in which ``module`` and its submodules are watched.

    Attributes:
        changes: What was changed, complete once the context is left.
    """

    def __init__(self, module: ModuleType) -> None:
        self.changes: Changes = []
        self._root = module
        self._thread = get_ident()
        self._opened: list[tuple[dict[str, Any], Any, Any]] = []
        self._depth = 0
        self._baseline: Snapshot = []

    def __enter__(self) -> Below:
        sys.meta_path.insert(0, self)
        self._start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for namespace, handler, earlier in self._opened:
            if namespace.get("__getattr__") is handler:
                del namespace["__getattr__"]
                if earlier is not None:
                    namespace["__getattr__"] = earlier

    def take_back(self) -> None:
        """Take back what has been changed so far."""
        self._stop()
        restore(self.changes)
        self.changes = []

    # -- what is compared ------------------------------------------------------

    def _modules(self) -> list[Any]:
        name = self._root.__name__
        below = [m for n, m in list(sys.modules.items()) if n.startswith(name + ".")]
        return [self._root, *(module for module in below if isinstance(module, ModuleType))]

    def _start(self) -> None:
        """Take the modules as they are now for what the function has not changed."""
        modules = self._modules()
        for module in modules:
            self._open(module)
        seen: set[int] = set()
        self._baseline = [place for module in modules for place in snapshot(module, seen)]

    def _stop(self) -> None:
        """Note what has been changed since."""
        self.changes += [
            change for change in changes_since(self._baseline) if not _is_child(change)
        ]
        self._baseline = []

    # -- submodules on demand --------------------------------------------------

    def _open(self, package: ModuleType) -> None:
        namespace = namespace_of(package)
        if "__path__" not in namespace or any(n is namespace for n, _, _ in self._opened):
            return
        earlier = namespace.get("__getattr__")
        handler = _asking(package, earlier)
        namespace["__getattr__"] = handler
        self._opened.append((namespace, handler, earlier))

    # -- imports meanwhile -----------------------------------------------------

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Have the module that is imported now tell us before and after it executes."""
        if get_ident() != self._thread or self not in sys.meta_path:
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            find_spec = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find_spec(name, path, target) if find_spec else None
            if spec is not None:
                hook_too(spec, self)
                return spec
        return None

    def before(self, module: ModuleType) -> Callable[[], None]:
        if self._depth == 0 and get_ident() == self._thread:
            self._stop()
        self._depth += 1
        return lambda: None

    def after(self, module: ModuleType) -> None:
        self._depth -= 1
        if self._depth == 0 and self in sys.meta_path:
            self._start()

    failed = after


def _asking(package: ModuleType, earlier: Any) -> Callable[[str], Any]:
    def __getattr__(name: str) -> Any:
        if earlier is not None:
            try:
                return earlier(name)
            except AttributeError:
                pass
        child = f"{package.__name__}.{name}"
        if not name.startswith("__"):
            try:
                return import_module(child)
            except ModuleNotFoundError as error:
                if error.name != child:
                    raise
        raise AttributeError(
            f"module {package.__name__!r} has no attribute {name!r}, nor a submodule of that name"
        )

    return __getattr__


def _is_child(change: Any) -> bool:
    """Whether a package has merely been given a submodule that was imported."""
    site, _, value = change
    return (
        site.is_attribute
        and isinstance(value, ModuleType)
        and value is sys.modules.get(f"{getattr(site.container, '__name__', '')}.{site.key}")
    )
