"""Where a target lives, and the layers that patches have put on it.

A :class:`Site` reads and writes one place without disturbing descriptors: a class
attribute is seen as it stands in the class's own dictionary. A :class:`Binding`
keeps what stood there first and the layers above it, so that any one patch can be
taken back, in any order, down to the identical object.
"""

from __future__ import annotations

import functools
import inspect
import warnings
import weakref
from collections.abc import MutableMapping
from typing import Any, Callable, NamedTuple

from mx_autopatch.errors import PatchError
from mx_autopatch.model import MISSING, RELATIVE, parse_target

Build = Callable[[Any], Any]


class Site(NamedTuple):
    """One attribute of ``container``, or one entry of it."""

    container: Any
    key: str | int
    is_attribute: bool

    def own(self) -> Any:
        """What the place itself holds, descriptors unbound; MISSING if nothing."""
        if self.is_attribute:
            namespace = getattr(self.container, "__dict__", None)
            if namespace is None:  # an instance with slots
                return getattr(self.container, str(self.key), MISSING)
            return namespace.get(self.key, MISSING)
        try:
            return self.container[self.key]
        except (KeyError, IndexError):
            return MISSING

    def visible(self) -> Any:
        """What a reader meets there: :meth:`own`, or what is inherited; or MISSING."""
        value = self.own()
        if value is MISSING and self.is_attribute:
            if isinstance(self.container, type):
                return inspect.getattr_static(self.container, str(self.key), MISSING)
            with warnings.catch_warnings():
                # A module's __getattr__ may have words to say about removed names.
                warnings.simplefilter("ignore")
                return getattr(self.container, str(self.key), MISSING)
        return value

    def put(self, value: Any) -> None:
        """Write ``value``, or take away what is there if it is MISSING."""
        if self.is_attribute and value is MISSING:
            delattr(self.container, str(self.key))
        elif self.is_attribute:
            setattr(self.container, str(self.key), value)
        elif value is MISSING:
            del self.container[self.key]
        else:
            self.container[self.key] = value

    @property
    def name(self) -> str:
        owner = getattr(self.container, "__qualname__", None) or getattr(
            self.container, "__name__", type(self.container).__name__
        )
        return f"{owner}.{self.key}" if self.is_attribute else f"{owner}[{self.key!r}]"


def find_site(target: str, module: Any, may_miss: bool = False) -> tuple[Site, Any]:
    """The site that ``target`` names within ``module``, and what is visible there.

    Raises:
        LookupError: a step is not there; the message names the step. The last one may
            be missing with ``may_miss``.
    """
    name, steps = parse_target(target)
    container, path = module, name if name != RELATIVE else module.__qualname__
    for index, (is_attribute, key) in enumerate(steps):
        last = index == len(steps) - 1
        site = Site(container, key, is_attribute)
        if not is_attribute and not isinstance(container, (MutableMapping, list)):
            raise LookupError(f"{path} is a {type(container).__name__}, which has no entries")
        if last:
            value = site.visible()
            if value is MISSING and not may_miss:
                raise LookupError(_lacks(path, is_attribute, key))
            return site, value
        value = getattr(container, str(key), MISSING) if is_attribute else site.own()
        if value is MISSING:
            raise LookupError(_lacks(path, is_attribute, key))
        container, path = value, f"{path}.{key}" if is_attribute else f"{path}[{key!r}]"
    raise AssertionError("parse_target returns at least one step")


def _lacks(path: str, is_attribute: bool, key: str | int) -> str:
    return f"{path} has no {'attribute' if is_attribute else 'entry'} {key!r}"


class Layer(NamedTuple):
    """What one patch puts on a site: ``build`` makes it from what lies below."""

    patch: str
    kind: str
    build: Build
    edit: Any = None


#: What lies lower comes first, whatever order layers arrive in.
_HEIGHT = {"rewrite": 0, "replace": 1, "define": 1, "guarded": 1, "wrap": 2}

#: Layers that a new one of this kind would hide, or be hidden by.
_EXCLUDES = {
    "rewrite": ("replace", "define"),
    "replace": ("replace", "define", "guarded", "rewrite"),
    "guarded": ("replace", "define", "guarded"),
}


class Binding:
    """A site with the layers on it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        #: What the place itself held before us; MISSING if it was inherited or absent.
        self.base = site.own()
        self._below = site.visible()
        self.layers: list[Layer] = []
        self.bound = self.base

    def push(self, layer: Layer) -> tuple[Any, Any]:
        """Add a layer; return what was visible before and what is now."""
        self.layers.insert(self._position(layer.kind), layer)
        try:
            return self._rebuild()
        except BaseException:
            self.layers.remove(layer)
            raise

    def remove(self, layer: Layer) -> tuple[Any, Any]:
        """Take a layer off; return what was visible before and what is now."""
        self.layers.remove(layer)
        return self._rebuild()

    def below(self, kind: str) -> Any:
        """What a new layer of this kind would be made from."""
        value = self._below
        for layer in self.layers[: self._position(kind)]:
            value = layer.build(value)
        return value

    def _position(self, kind: str) -> int:
        return sum(_HEIGHT[other.kind] <= _HEIGHT[kind] for other in self.layers)

    def _rebuild(self) -> tuple[Any, Any]:
        before = self.bound if self.bound is not MISSING else self._below
        if self.site.own() is not self.bound:
            raise PatchError(f"{self.site.name} was changed by other code since; left as it is")
        value = self._below
        for layer in self.layers:
            value = layer.build(value)
        if not self.layers:
            value = self.base
        if value is not self.bound:
            self.site.put(value)
            # Read back: a metaclass or a module class may store something else.
            self.bound = self.site.own()
        return before, value if value is not MISSING else self._below


_HELD = "__mx_autopatch__"


class Held:
    """What was done to a class that may be collected: kept by the class itself.

    Elsewhere it would keep the class alive, since methods refer to their class.
    """

    def __init__(self) -> None:
        self.bindings: dict[Any, Binding] = {}
        #: For each watch (see engine.subclasses), what it has done.
        self.done: dict[Any, list[Any]] = {}

    def let_go(self, cls: type) -> None:
        """Leave the class if there is nothing left to keep."""
        if not self.bindings and not self.done and _HELD in vars(cls):
            delattr(cls, _HELD)


def held(cls: type) -> Held:
    """What ``cls`` keeps for us."""
    found: Held | None = vars(cls).get(_HELD)
    if found is None:
        found = Held()
        setattr(cls, _HELD, found)
    return found


class Bindings:
    """All bindings of one session, by site."""

    def __init__(self) -> None:
        self._by_site: dict[tuple[int, Any, bool], Binding] = {}
        # id of a bound object -> (the object, weakly, so that the id stays its own;
        # patch; the replacement or wrapper behind it, weakly)
        self._made: dict[int, tuple[Any, str, Callable[[], Any]]] = {}

    def at(self, site: Site, weakly: bool = False) -> Binding:
        """The binding of ``site``, a new one if there is none.

        With ``weakly`` a new one is kept by the class that it is of.
        """
        binding = self._find(site)
        if binding is None:
            binding = Binding(site)
            if weakly:
                held(site.container).bindings[site.key] = binding
            else:
                self._by_site[_key(site)] = binding
        return binding

    def _find(self, site: Site) -> Binding | None:
        binding = self._by_site.get(_key(site))
        if binding is None and isinstance(site.container, type) and site.is_attribute:
            keeps: Held | None = vars(site.container).get(_HELD)
            binding = keeps.bindings.get(site.key) if keeps is not None else None
        return binding

    def excluding(self, site: Site, kind: str) -> Layer | None:
        """A layer on ``site`` beside which there can be none of this kind."""
        binding = self._find(site)
        layers = binding.layers if binding is not None else []
        return next((layer for layer in layers if layer.kind in _EXCLUDES.get(kind, ())), None)

    def below(self, site: Site, kind: str) -> Any:
        """What a new layer of this kind would be made from."""
        binding = self._find(site)
        return binding.below(kind) if binding is not None else site.visible()

    def holds(self, site: Site, edit: Any) -> bool:
        """Whether this very edit has put a layer on ``site``."""
        binding = self._find(site)
        return binding is not None and any(layer.edit is edit for layer in binding.layers)

    def release(self, binding: Binding) -> None:
        """Forget a binding without layers."""
        if binding.layers:
            return
        site = binding.site
        self._by_site.pop(_key(site), None)
        if isinstance(site.container, type) and _HELD in vars(site.container):
            keeps = held(site.container)
            if keeps.bindings.get(site.key) is binding:
                del keeps.bindings[site.key]
                keeps.let_go(site.container)

    def remember(self, bound: Any, patch: str, source: Any) -> None:
        """Note that ``patch`` made ``bound`` from ``source``."""
        bound = _function(bound)
        key = id(bound)
        self._made[key] = (
            _weakly(bound, lambda _: self._made.pop(key, None)),
            patch,
            _weakly(source),
        )

    def forget(self, bound: Any) -> None:
        """Take back :meth:`remember`."""
        self._made.pop(id(_function(bound)), None)

    def is_made_by(self, value: Any, patch: str, source: Any) -> bool:
        """Whether ``value`` is what that patch made from that source, wherever it is met."""
        made = self._made.get(id(_function(value)))
        return made is not None and made[1] == patch and made[2]() is source


def _function(value: Any) -> Any:
    """The function in a descriptor, which itself cannot be referred to weakly."""
    if isinstance(value, (staticmethod, classmethod)):
        return value.__func__
    if isinstance(value, property):
        return value.fget
    return value.func if isinstance(value, functools.cached_property) else value


def _weakly(value: Any, gone: Callable[[Any], Any] | None = None) -> Callable[[], Any]:
    try:
        return weakref.ref(value, gone)
    except TypeError:
        return lambda: value


def _key(site: Site) -> tuple[int, Any, bool]:
    return id(site.container), site.key, site.is_attribute
