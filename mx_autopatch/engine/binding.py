"""Where a target lives, and the layers that patches have put on it.

A :class:`Site` reads and writes one place without disturbing descriptors: a class
attribute is seen as it stands in the class's own dictionary. A :class:`Binding`
keeps what stood there first and the layers above it, so that any one patch can be
taken back, in any order, down to the identical object.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import MutableMapping
from typing import Any, Callable, NamedTuple

from mx_autopatch.errors import PatchError
from mx_autopatch.model import MISSING, parse_target

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
    container, path = module, name
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
        # Replacements lie below wrappers, whatever order they arrive in.
        position = len(self.layers)
        if layer.kind != "wrap":
            position = sum(other.kind != "wrap" for other in self.layers)
        self.layers.insert(position, layer)
        try:
            return self._rebuild()
        except BaseException:
            self.layers.remove(layer)
            raise

    def remove(self, layer: Layer) -> tuple[Any, Any]:
        """Take a layer off; return what was visible before and what is now."""
        self.layers.remove(layer)
        return self._rebuild()

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


class Bindings:
    """All bindings of one session, by site."""

    def __init__(self) -> None:
        self._by_site: dict[tuple[int, Any, bool], Binding] = {}
        # id of a bound object -> (the object, kept alive so that the id stays its own;
        # patch; the replacement or wrapper behind it)
        self._made: dict[int, tuple[Any, str, Any]] = {}

    def at(self, site: Site) -> Binding:
        """The binding of ``site``, a new one if there is none."""
        return self._by_site.setdefault(_key(site), Binding(site))

    def replaced_by(self, site: Site) -> str | None:
        """The patch that has replaced ``site``, if one has."""
        binding = self._by_site.get(_key(site))
        layers = binding.layers if binding is not None else []
        return next((layer.patch for layer in layers if layer.kind != "wrap"), None)

    def holds(self, site: Site, edit: Any) -> bool:
        """Whether this very edit has put a layer on ``site``."""
        binding = self._by_site.get(_key(site))
        return binding is not None and any(layer.edit is edit for layer in binding.layers)

    def release(self, binding: Binding) -> None:
        """Forget a binding without layers."""
        if not binding.layers:
            self._by_site.pop(_key(binding.site), None)

    def remember(self, bound: Any, patch: str, source: Any) -> None:
        """Note that ``patch`` made ``bound`` from ``source``."""
        self._made[id(bound)] = (bound, patch, source)

    def forget(self, bound: Any) -> None:
        """Take back :meth:`remember`."""
        self._made.pop(id(bound), None)

    def is_made_by(self, value: Any, patch: str, source: Any) -> bool:
        """Whether ``value`` is what that patch made from that source, wherever it is met."""
        made = self._made.get(id(value))
        return made is not None and made[1] == patch and made[2] is source


def _key(site: Site) -> tuple[int, Any, bool]:
    return id(site.container), site.key, site.is_attribute
