"""Modules that have no file: provided ones, redirected ones and stubs."""

from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Callable

from mx_autopatch.errors import StubError

Populate = Callable[[ModuleType], None]


class VirtualLoader(Loader):
    """Fills a fresh module in by calling ``populate``, then calls ``tell``."""

    def __init__(self, populate: Populate, tell: Callable[[], None]) -> None:
        self._populate, self._tell = populate, tell

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        self._populate(module)
        self._tell()


def virtual_spec(
    name: str, origin: str, populate: Populate, tell: Callable[[], None] = lambda: None
) -> ModuleSpec:
    """The spec of a module without a file; ``origin`` says in words where it comes from."""
    return ModuleSpec(name, VirtualLoader(populate, tell), origin=origin, is_package=True)


def provided(source: str) -> Populate:
    """Give a module the public namespace of the module ``source``."""

    def populate(module: ModuleType) -> None:
        namespace = vars(importlib.import_module(source))
        names = namespace.get("__all__") or [name for name in namespace if name[:1] != "_"]
        hooks = ("__getattr__", "__dir__", "__all__", "__doc__", "__version__")
        for name in (*names, *hooks):
            if name in namespace:
                vars(module)[name] = namespace[name]

    return populate


def redirected(to: str) -> Populate:
    """Let the module ``to`` stand in ``sys.modules`` under the other name as well."""

    def populate(module: ModuleType) -> None:
        # The import system takes from sys.modules what a module put there itself.
        sys.modules[module.__name__] = importlib.import_module(to)

    return populate


def parent_only(child: str) -> Populate:
    """An empty package, which exists for its module ``child`` alone."""

    def populate(module: ModuleType) -> None:
        def __getattr__(name: str) -> Any:
            raise AttributeError(
                f"module {module.__name__!r} has no attribute {name!r}: {module.__name__} is not "
                f"installed; mx_autopatch answers for {child} alone"
            )

        module.__doc__ = f"Not {module.__name__}, but the place of {child}."
        vars(module)["__getattr__"] = __getattr__
        vars(module)["_mx_autopatch_parent_only"] = True

    return populate


class WithFallback:
    """A real module's loader that turns to ``populate`` if the module cannot be loaded.

    Compiled extensions fail at creation (an undefined symbol of another torch),
    Python ones while they execute.
    """

    def __init__(
        self, spec: ModuleSpec, populate: Populate, tell: Callable[[BaseException], None]
    ) -> None:
        self._loader: Any = spec.loader
        self._populate, self._tell = populate, tell
        self._broken: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        try:
            module: ModuleType | None = self._loader.create_module(spec)
        except (ImportError, OSError) as error:
            self._broken = error
            return None
        return module

    def exec_module(self, module: ModuleType) -> None:
        real = module.__spec__
        if self._broken is None:
            if real is not None:
                real.loader = self._loader
            module.__loader__ = self._loader
            try:
                self._loader.exec_module(module)
                return
            except (ImportError, OSError) as error:
                self._broken = error
        self._tell(self._broken)
        spec = virtual_spec(module.__name__, "mx_autopatch", self._populate)
        for name in [name for name in vars(module) if name != "__name__"]:
            del vars(module)[name]
        module.__spec__, module.__loader__ = spec, spec.loader
        module.__package__, module.__path__ = module.__name__, []
        self._populate(module)


def stub_spec(name: str, rule: str, tell: Callable[[], None] = lambda: None) -> ModuleSpec:
    """The spec of a stub: it can be imported, and says ``rule`` when used."""

    def populate(module: ModuleType) -> None:
        module.__doc__ = f"A stub. {rule}"

    return virtual_spec(name, f"stub ({rule})", filled_up(populate, rule), tell)


def filled_up(populate: Populate, rule: str) -> Populate:
    """As ``populate``, with a placeholder for every name that the module then lacks."""

    def populate_and_fill(module: ModuleType) -> None:
        populate(module)
        namespace = vars(module)
        earlier = namespace.get("__getattr__")

        def __getattr__(attribute: str) -> Any:
            if earlier is not None:
                try:
                    return earlier(attribute)
                except AttributeError:
                    pass
            if attribute.startswith("__") and attribute.endswith("__"):
                raise AttributeError(f"module {module.__name__!r} has no attribute {attribute!r}")
            path = f"{module.__name__}.{attribute}"
            value = namespace[attribute] = _placeholder(path, rule)
            return value

        namespace["__getattr__"] = __getattr__

    return populate_and_fill


class _StubMeta(type):
    """The class of placeholders: they may be named, inherited from and imported.

    That much happens when a module is merely loaded. Everything else is use, and
    raises.
    """

    _mx_autopatch_stub: tuple[str, str]

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise _used(cls, "called")

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        path, rule = cls._mx_autopatch_stub
        value = _placeholder(f"{path}.{name}", rule)
        setattr(cls, name, value)
        return value

    def __repr__(cls) -> str:
        return f"<stub {cls._mx_autopatch_stub[0]}>"


def _used(cls: _StubMeta, how: str) -> StubError:
    path, rule = cls._mx_autopatch_stub
    return StubError(f"{path} was {how}, but its module is a stub: {rule}", name=path)


def _raising(how: str) -> Callable[..., Any]:
    def method(cls: _StubMeta, *args: Any) -> Any:
        raise _used(cls, how)

    return method


for _how, _names in {
    "compared": ("lt", "le", "gt", "ge"),
    "tested for truth": ("bool",),
    "converted": ("int", "float", "index", "complex"),
    "iterated over": ("iter", "next", "len", "contains", "reversed"),
    "indexed": ("getitem", "setitem", "delitem"),
    "used in an expression": (
        *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "or", "and", "xor"),
        *("radd", "rsub", "rmul", "rtruediv", "rmod", "rmatmul", "neg", "pos", "invert", "abs"),
    ),
    "entered": ("enter", "exit"),
}.items():
    for _name in _names:
        setattr(_StubMeta, f"__{_name}__", _raising(_how))


def _placeholder(path: str, rule: str) -> _StubMeta:
    name = path.rpartition(".")[2]
    module = path.rpartition(".")[0]
    namespace = {"_mx_autopatch_stub": (path, rule), "__module__": module, "__qualname__": name}
    return _StubMeta(name, (), namespace)
