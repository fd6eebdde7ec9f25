"""The ``sys.meta_path`` entry.

Until the first import from outside the standard library it knows nothing but a few
names to wait for; that import prepares the session, and from then on a name that is
no trigger costs one dictionary look-up, or two where some trigger stands for a module of
any package, without a lock.

Only modules that every interpreter has loaded are imported here: this is start-up.
"""

from __future__ import annotations

import _imp
import os
import sys
from _frozen_importlib import _DeadlockError, _ModuleLockManager  # type: ignore[attr-defined]
from _thread import _local

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Callable, Optional

    from mx_autopatch.engine.session import Session

    FindSpec = Callable[..., Optional[ModuleSpec]]

# Imported by `site` in every process, before anybody has asked for anything; `org` is
# Jython's, for which the standard library's copy and pickle look.
_START_UP = ("mx_autopatch", "sitecustomize", "usercustomize", "_distutils_hack", "org")


def _stdlib_names() -> frozenset[str]:
    names = getattr(sys, "stdlib_module_names", None)
    if names is None:  # Python 3.9
        # What the standard library looks for on another platform is in no folder here.
        names = {*sys.builtin_module_names, "msvcrt", "nt", "winreg", "_winapi", "_scproxy"}
        library = os.path.dirname(os.__file__)
        for folder in (library, os.path.join(library, "lib-dynload")):
            try:
                names.update(name.partition(".")[0] for name in os.listdir(folder))
            except OSError:
                continue
        names.discard("site-packages")
    return frozenset(names)


class _WithoutImportLock:
    """Gives the global import lock up for as long as our own code runs.

    importlib holds it while it asks a finder. What we import meanwhile may be in
    execution in another thread, which needs this lock for its own next import: both
    would wait for ever, since importlib's detection of deadlocks does not know it.
    """

    def __enter__(self) -> None:
        self._times = 0
        while True:
            try:
                _imp.release_lock()
            except RuntimeError:  # this thread does not hold it, or not any more
                return
            self._times += 1

    def __exit__(self, *error: object) -> None:
        for _ in range(self._times):
            _imp.acquire_lock()


class Finder:
    """Wraps the loader of every trigger; leaves every other import alone.

    Args:
        prepare: Builds the session, or returns None if it cannot; called at the first
            import of a module outside the standard library, possibly by several
            threads at once.
        waiting: Modules of the standard library whose patches only define names.
            They are loaded in nearly every process, so importing one fires nothing:
            the first attribute that it turns out to lack does.
        ready: Called once, with the session that counts.
    """

    session: Session | None = None

    def __init__(
        self,
        prepare: Callable[[], Session | None],
        waiting: Iterable[str] = (),
        ready: Callable[[Session], None] | None = None,
    ) -> None:
        self._prepare, self._ready = prepare, ready
        self._waiting = frozenset(waiting)
        self._thread = _local()
        self._stdlib: frozenset[str] | None = None
        self._firing: set[str] = set()
        self._handlers: list[tuple[dict[str, object], object]] = []
        # The import system looks find_spec up on the instance each time, so changing
        # phase is one assignment and the steady phase pays for no test of it.
        self.find_spec: FindSpec = self._before_preparation

    # -- phases ----------------------------------------------------------------

    def _before_preparation(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        top = fullname.partition(".")[0]
        if self._stdlib is None:
            self._stdlib = _stdlib_names()
        if top in self._stdlib:
            return self._wait_for(fullname, path, target) if fullname in self._waiting else None
        if top in _START_UP or top.startswith("__editable__"):
            return None
        loaded = fullname in sys.modules
        with _WithoutImportLock():
            if not self.prepared():
                return None  # this thread is preparing: what that imports is not a trigger
        session = self.session
        assert session is not None
        if not loaded and fullname in sys.modules:  # by a plugin
            return _turned_up(fullname)
        if (
            fullname in session.index
            or fullname.rpartition(".")[2] in session.last_names
            or fullname.startswith(session.prefixes)
        ):
            return self._trigger(fullname, path, target)
        return None

    def _steady(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname not in self._index:
            return None
        return self._trigger(fullname, path, target)

    def _steady_with_last_names(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname not in self._index and fullname.rpartition(".")[2] not in self._last_names:
            return None
        return self._trigger(fullname, path, target)

    def _steady_with_prefixes(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if (
            fullname not in self._index
            and fullname.rpartition(".")[2] not in self._last_names
            and not fullname.startswith(self._prefixes)
        ):
            return None
        return self._trigger(fullname, path, target)

    def prepared(self) -> bool:
        """Prepare the session if nobody has; False if it fails or this thread is at it."""
        if self.session is not None:
            return True
        if getattr(self._thread, "preparing", False):
            return False
        self._thread.preparing = True
        try:
            # No lock: another thread may hold the import lock of a module that the
            # preparation imports. Several threads may prepare; the first one counts,
            # and setdefault is a single step.
            session = self._prepare()
            if session is None:
                if self.session is None:  # nor has another thread succeeded
                    self._prepare = lambda: None  # it has said why, and need not again
                    self.find_spec = _find_nothing
                return self.session is not None
            if self.__dict__.setdefault("session", session) is session:
                session.changed = self._refresh
                self._refresh()
                if self._ready is not None:
                    self._ready(session)
                session.apply_to_loaded(self._waiting)
        finally:
            self._thread.preparing = False
        return True

    def _refresh(self) -> None:
        """Take over the session's triggers, after they changed."""
        assert self.session is not None
        self._index = self.session.index
        self._prefixes = self.session.prefixes
        self._last_names = self.session.last_names
        if self._prefixes:
            self.find_spec = self._steady_with_prefixes
        elif self._last_names:
            self.find_spec = self._steady_with_last_names
        else:
            self.find_spec = self._steady

    # -- triggers --------------------------------------------------------------

    def _trigger(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        if fullname in self._waiting:
            return self._wait_for(fullname, path, target)
        # Another hook, asked by us, may ask the whole of sys.meta_path again. What it
        # gets is hooked too, so that we come before it once the module has executed.
        asking = self._thread.__dict__.setdefault("asking", {})
        depth = asking.get(fullname, 0)
        if depth > 1:
            return None
        asking[fullname] = depth + 1
        loaded = fullname in sys.modules
        try:
            assert self.session is not None
            with _WithoutImportLock():
                spec = self.session.find_spec(
                    fullname, lambda: self._ask_others(fullname, path, target), depth > 0
                )
        finally:
            asking[fullname] = depth
        if not loaded and fullname in sys.modules:  # by a requirement, or a patch file
            return _turned_up(fullname)
        return spec

    def _ask_others(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        """Ask the entries behind this one; those before it have been asked already."""
        finders = list(sys.meta_path)
        if self in finders:
            del finders[: finders.index(self) + 1]
        for finder in finders:
            find_spec = getattr(finder, "find_spec", None)
            if find_spec is not None:
                _imp.acquire_lock()  # as importlib does: finders rely on it for their caches
                try:
                    spec: ModuleSpec | None = find_spec(fullname, path, target)
                finally:
                    _imp.release_lock()
                if spec is not None:
                    return spec
        return None

    # -- modules of the standard library ---------------------------------------

    def _wait_for(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        spec = self._ask_others(fullname, path, target)
        if spec is not None:
            from mx_autopatch.engine.loader import hook

            hook(spec, _Waiting(self))
        return spec

    def wait_for_loaded(self) -> None:
        """Put the same handler on waited-for modules that were loaded before us."""
        for name in self._waiting:
            module = sys.modules.get(name)
            if module is not None:
                self.fire_on_miss(module)

    def fire_on_miss(self, module: ModuleType) -> None:
        """Give ``module`` a ``__getattr__`` that applies its patches once (PEP 562)."""
        namespace = vars(module)
        if "__getattr__" in namespace:
            return

        def __getattr__(name: str) -> object:
            # inspect, doctest and pickle probe dunders everywhere; no patch defines one.
            if not (name.startswith("__") and name.endswith("__")) and self.prepared():
                self._fire_once(module)
                if name in namespace:
                    return namespace[name]
            message = f"module {module.__name__!r} has no attribute {name!r}"
            if sys.version_info >= (3, 10):
                raise AttributeError(message, name=name, obj=module)
            raise AttributeError(message)

        namespace["__getattr__"] = __getattr__
        self._handlers.append((namespace, __getattr__))

    def _fire_once(self, module: ModuleType) -> None:
        """Apply the patches of a waited-for module, or wait until another thread has."""
        assert self.session is not None
        try:
            # The module's own import lock, since importlib can tell when waiting for it
            # would never end.
            with _ModuleLockManager(module.__name__):
                # Applying asks for the names too, in this thread. The handler stays until
                # they are there: without it other threads would not even wait.
                if "__getattr__" in vars(module) and module.__name__ not in self._firing:
                    self._firing.add(module.__name__)
                    try:
                        self.session.fire(module.__name__, module)
                    finally:
                        self._firing.discard(module.__name__)
                        vars(module).pop("__getattr__", None)
        except _DeadlockError:
            return

    def stop_waiting(self) -> None:
        """Take the handlers of modules off that never lacked anything."""
        for namespace, handler in self._handlers:
            if namespace.get("__getattr__") is handler:
                del namespace["__getattr__"]
        self._handlers.clear()


def _turned_up(fullname: str) -> ModuleSpec | None:
    """The spec of a module that our own code has imported while it was looked for."""
    from mx_autopatch.engine.loader import loaded_spec

    return loaded_spec(fullname)


def _find_nothing(
    fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
) -> None:
    """The find_spec of an engine that could not be prepared."""


class _Waiting:
    """The firing of a waited-for module: nothing before, the miss handler after."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    def before(self, module: ModuleType) -> Callable[[], None]:
        return lambda: None

    def after(self, module: ModuleType) -> None:
        self._finder.fire_on_miss(module)

    def failed(self, module: ModuleType) -> None:
        pass
