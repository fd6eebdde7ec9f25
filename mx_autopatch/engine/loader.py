"""A module's own loader, made to tell us when it has executed the module.

The loader that the import system gets to see is of the same type and state as the
real one; at the moment of execution the module gets the real one back. So
``__loader__``, ``__spec__``, ``get_code``, ``importlib.resources``, ``python -m`` and
reload never meet a foreign class (wrapt#221, dd-trace-py#8003 were that).
"""

from __future__ import annotations

import _frozen_importlib as _bootstrap
import sys
from _frozen_importlib import ModuleSpec
from _thread import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Callable, Protocol

    class Firing(Protocol):
        """What happens round the execution of one module. No method raises."""

        def before(self, module: ModuleType) -> Callable[[], None]:
            """Called before the module's code; the result is called after it, always."""

        def after(self, module: ModuleType) -> None:
            """Called when the module's code has run to its end."""

        def failed(self, module: ModuleType) -> None:
            """Called in place of ``after`` when the module's code has raised."""


def hook(spec: ModuleSpec, firing: Firing) -> None:
    """Make the execution of ``spec``'s module call ``firing``."""
    loader: Any = spec.loader
    if loader is None:  # a namespace package: it has no code, and no loader yet
        spec.loader = _shadow(_namespace_loader(spec), "exec_module", _Hook(spec, None, firing))
        return
    method = "exec_module" if hasattr(loader, "exec_module") else "load_module"
    # A finder may hand out one spec twice; never put a hook on a hook. But a proxy of
    # another's, put round our twin, shows the twin's dictionary as its own.
    earlier = getattr(getattr(loader, "__dict__", {}).get(method), "__self__", None)
    if isinstance(earlier, _Hook) and earlier.twin is loader:
        loader = earlier.loader
    hook = _Hook(spec, loader, firing)
    spec.loader = hook.twin = _shadow(loader, method, hook)


def hook_too(spec: ModuleSpec, firing: Firing) -> None:
    """As :func:`hook`, beside a hook that is there already: ours is the outer one."""
    own = getattr(spec.loader, "__dict__", {})
    inner = getattr(own.get("exec_module") or own.get("load_module"), "__self__", None)
    if isinstance(inner, _Hook) and inner.twin is spec.loader:
        inner.firing = _Both(inner.firing, firing)
    else:
        hook(spec, firing)


class _Both:
    """Two firings in one, the second outside the first."""

    def __init__(self, inner: Firing, outer: Firing) -> None:
        self._inner, self._outer = inner, outer

    def before(self, module: ModuleType) -> Callable[[], None]:
        end = self._outer.before(module)
        finish = self._inner.before(module)

        def both() -> None:
            finish()
            end()

        return both

    def after(self, module: ModuleType) -> None:
        try:
            self._inner.after(module)
        finally:
            self._outer.after(module)

    def failed(self, module: ModuleType) -> None:
        self._inner.failed(module)
        self._outer.failed(module)


def _namespace_loader(spec: ModuleSpec) -> Any:
    # The class became public in 3.11; the attribute is what importlib itself sets.
    external = sys.modules["_frozen_importlib_external"]
    cls = getattr(external, "NamespaceLoader", None) or getattr(external, "_NamespaceLoader")  # noqa: B009
    loader = cls.__new__(cls)
    loader._path = spec.submodule_search_locations
    return loader


def _shadow(loader: Any, method: str, hook: _Hook) -> Any:
    """A twin of ``loader`` whose ``method`` is the hook's.

    The loader itself stays untouched: one zipimporter, or one pytest rewriting hook,
    serves many modules at a time.
    """
    own = {method: getattr(hook, method)}
    if hasattr(loader, "create_module"):
        # exec_module looks on the loader itself for what create_module left there.
        own["create_module"] = loader.create_module
    cls = type(loader)
    slots = any(getattr(base, "__slots__", ()) for base in cls.__mro__)
    try:
        if isinstance(loader, type):  # BuiltinImporter and FrozenImporter are never made
            names = {"__module__": loader.__module__, "__qualname__": loader.__qualname__}
            return cls(loader.__name__, (loader,), {**names, **own})
        if not slots and hasattr(loader, "__dict__"):
            twin = object.__new__(cls)
            twin.__dict__.update(loader.__dict__, **own)
            return twin
    except TypeError:  # a type written in C with a constructor of its own
        pass
    return _Proxy(loader, own)


class _Proxy:
    """Stands for a loader whose state cannot be copied, in all but its ``type()``."""

    def __init__(self, loader: Any, own: dict[str, Any]) -> None:
        self.__dict__.update(own, _loader=loader)

    @property  # type: ignore[misc]  # mypy takes it for an attribute
    def __class__(self) -> Any:
        return self.__dict__["_loader"].__class__

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_loader"], name)


class _Hook:
    """Gives the module its loader back, executes it, then calls the firing."""

    def __init__(self, spec: ModuleSpec, loader: Any, firing: Firing) -> None:
        self.spec, self.loader, self.firing = spec, loader, firing
        self.twin: Any = None

    def _give_back(self, module: ModuleType) -> None:
        """Undo what creating the module under the twin left behind."""
        twin = self.spec.loader
        self.spec.loader = self.loader
        if self.loader is None:
            # importlib fills a namespace package in from a spec without a loader.
            _bootstrap._init_module_attrs(self.spec, module, override=True)
            return
        spec = getattr(module, "__spec__", None)
        if spec is not None and spec is not self.spec and spec.loader is twin:
            spec.loader = self.loader
        if getattr(module, "__loader__", None) is not self.loader:
            module.__loader__ = self.loader

    def exec_module(self, module: ModuleType) -> None:
        self._give_back(module)
        name = self.spec.name
        registered = sys.modules.get(name) is module
        finish = self.firing.before(module)
        try:
            try:
                if self.loader is not None:
                    self.loader.exec_module(module)
            finally:
                finish()
        except BaseException as error:
            _take_this_frame_off(error)
            self.firing.failed(module)
            raise
        # Some packages put another object in their place (a lazy module). A module that
        # is executed by hand, beside the registered one, is itself what is meant.
        self.firing.after(sys.modules.get(name, module) if registered else module)

    def load_module(self, fullname: str) -> ModuleType:
        """As exec_module, for a loader of the time before PEP 451."""
        self.spec.loader = self.loader
        earlier = sys.modules.get(fullname) or type(sys)(fullname)
        finish = self.firing.before(earlier)
        try:
            try:
                module: ModuleType = self.loader.load_module(fullname)
            finally:
                finish()
        except BaseException as error:
            _take_this_frame_off(error)
            self.firing.failed(earlier)
            raise
        self.firing.after(sys.modules.get(fullname, module))
        return module


def loaded_spec(name: str) -> ModuleSpec | None:
    """A spec for the module that stands in sys.modules since its finder was asked.

    importlib would execute that one a second time: it takes the module's own spec in
    place of any other that it is given, and loads that.
    """
    module = sys.modules[name]
    real: ModuleSpec | None = getattr(module, "__spec__", None)
    locks: dict[str, Any] = vars(_bootstrap)["_module_locks"]
    reference = locks.get(name)
    lock = reference() if reference is not None else None
    if real is None or lock is None or lock.owner != get_ident():
        return real  # somebody only asks for the spec
    module.__spec__ = None
    loader: Any = _Loaded(module, real)
    return ModuleSpec(name, loader)


class _Loaded:
    """Loads a module that is there already: gives it its own spec back."""

    def __init__(self, module: ModuleType, spec: ModuleSpec) -> None:
        self.module, self.spec = module, spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


def _take_this_frame_off(error: BaseException) -> None:
    """Let the user's exception not show the frame that has caught it.

    Python 3.11 and later honour that in a bare raise; before, see _part_of_importlib.
    """
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next


def _part_of_importlib(function: Callable[..., Any]) -> None:
    """Let the import statement trim this frame from tracebacks with importlib's own.

    It removes the frames between itself and the module by their file name, and does
    so for importlib's alone.
    """
    function.__code__ = function.__code__.replace(co_filename="<frozen importlib._bootstrap>")


_part_of_importlib(_Hook.exec_module)
_part_of_importlib(_Hook.load_module)
