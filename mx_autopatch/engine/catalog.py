"""The hierarchical registry of patches.

Its rules are those of the registry that OpenMMLab users know: ``register`` as a
decorator or a call, for functions, classes and objects; scopes in a tree; a look-up
goes from a scope to its parents; ``scope.name`` reaches any scope from anywhere;
``build(cfg)`` makes something of an entry; a duplicate key names both places.
"""

from __future__ import annotations

import _thread
import sys

from mx_autopatch.errors import CatalogError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, Callable

    BuildFunc = Callable[..., Any]


class _Entry:
    """An entry and where it was registered, as ``file:line``."""

    __slots__ = ("obj", "place")

    def __init__(self, obj: Any, place: str) -> None:
        self.obj, self.place = obj, place


def build_from_cfg(cfg: Mapping[str, Any], catalog: Catalog, **kwargs: Any) -> Any:
    """Call the entry that ``cfg["type"]`` names with the rest of ``cfg``.

    An entry that is no function and no class is returned as it is, and takes no
    arguments. ``kwargs`` are defaults that ``cfg`` overrides.

    Raises:
        CatalogError: no ``type``, an unknown one, or arguments that it does not take.
    """
    import inspect

    if not hasattr(cfg, "keys") or "type" not in cfg:
        raise CatalogError(f"{catalog.path}: build needs a dict with a key 'type', got {cfg!r}")
    arguments = {**kwargs, **cfg}
    kind = arguments.pop("type")
    made = catalog.get(kind) if isinstance(kind, str) else kind
    if not callable(made):
        if arguments:
            raise CatalogError(f"{catalog.path}: {kind!r} takes no arguments, got {arguments!r}")
        return made
    try:
        inspect.signature(made).bind(**arguments)
    except TypeError as error:
        raise CatalogError(f"{catalog.path}: {kind!r}: {error}") from None
    except ValueError:  # a builtin without a signature
        pass
    return made(**arguments)


class Catalog:
    """One scope of the tree.

    Args:
        scope: The scope's name within its parent; empty for the root.
        parent: The scope above.
        build_func: ``f(cfg, catalog, **kwargs)`` used by :meth:`build`; by default the
            parent's, at the root :func:`build_from_cfg`.
    """

    def __init__(
        self,
        scope: str = "",
        parent: Catalog | None = None,
        build_func: BuildFunc | None = None,
    ) -> None:
        self.scope = scope
        self.parent = parent
        self.children: dict[str, Catalog] = {}
        self._build_func = build_func
        self._entries: dict[str, _Entry] = {}
        self._lock: Any = _thread.allocate_lock() if parent is None else parent._lock
        if parent is not None:
            if not scope or "." in scope:
                raise CatalogError(f"{parent.path}: {scope!r} cannot name a scope")
            if scope in parent.children:
                raise CatalogError(f"{parent.path}: scope {scope!r} is there already")
            parent.children[scope] = self

    # -- the tree --------------------------------------------------------------

    @property
    def path(self) -> str:
        """The dotted path from the root, for messages; ``patches`` for the root itself."""
        above = self.parent.path if self.parent is not None else ""
        return f"{above}.{self.scope}" if self.scope else "patches"

    @property
    def root(self) -> Catalog:
        return self if self.parent is None else self.parent.root

    def child(self, scope: str) -> Catalog:
        """The scope of that name below this one, made if it is not there."""
        found = self.children.get(scope)
        return found if found is not None else Catalog(scope, parent=self)

    # -- entries ---------------------------------------------------------------

    def register(self, obj: Any = None, *, name: str | None = None, force: bool = False) -> Any:
        """Register a function, a class or any object with a name; returns it.

        ``@catalog.register``, ``@catalog.register(name=...)`` and
        ``catalog.register(obj)`` are the same. The key is ``name``, or the object's own
        (``name`` of a Patch, ``__name__`` of a function or class); dots in it lead
        into scopes, which are made.

        Raises:
            CatalogError: nothing to name it by, or a key that is taken (without ``force``).
        """
        if obj is None:
            return lambda later: self.register(later, name=name, force=force)
        key = name or getattr(obj, "name", None) or getattr(obj, "__name__", None)
        if not isinstance(key, str) or not key:
            raise CatalogError(f"{self.path}: {obj!r} has no name; pass name=...")
        scopes = key.split(".")
        catalog = self
        if len(scopes) > 1 and scopes[0] == self.scope:
            del scopes[0]
        with self._lock:
            for scope in scopes[:-1]:
                catalog = catalog.child(scope)
            catalog._put(scopes[-1], _Entry(obj, _place(obj)), force)
        return obj

    def _put(self, key: str, entry: _Entry, force: bool) -> None:
        known = self._entries.get(key)
        if known is not None and known.obj is not entry.obj and not force:
            raise CatalogError(
                f"{self.path}: {key!r} is registered already at {known.place}; "
                f"second at {entry.place}. Give one of them another name, or pass force=True"
            )
        self._entries[key] = entry

    def remove(self, key: str) -> None:
        """Take an entry away; ``key`` as in :meth:`get`."""
        catalog, name = self._locate(key)
        del catalog._entries[name]

    def get(self, key: str) -> Any:
        """The entry that ``key`` names: here, else in the parents, else ``scope.name``.

        Raises:
            CatalogError: there is none; the message has the nearest names.
        """
        catalog, name = self._locate(key)
        return catalog._entries[name].obj

    def place(self, key: str) -> str:
        """Where the entry was registered, as ``file:line``."""
        catalog, name = self._locate(key)
        return catalog._entries[name].place

    def _locate(self, key: str) -> tuple[Catalog, str]:
        catalog: Catalog | None = self
        while catalog is not None:
            found = catalog._below(key)
            if found is not None:
                return found
            catalog = catalog.parent
        import difflib

        known = [name for name, _ in self.root.items()]
        last = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
        near = last[:3] or difflib.get_close_matches(key, known, n=3)
        hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
        raise CatalogError(f"{self.path}: no entry {key!r}{hint}")

    def _below(self, key: str) -> tuple[Catalog, str] | None:
        scope, dot, rest = key.partition(".")
        if not dot:
            return (self, key) if key in self._entries else None
        if scope in self.children:
            return self.children[scope]._below(rest)
        return self._below(rest) if scope == self.scope else None

    def build(self, cfg: Mapping[str, Any], **kwargs: Any) -> Any:
        """Make something of an entry: ``build(dict(type="mmcv.nms", ...))``."""
        catalog: Catalog | None = self
        while catalog is not None:
            if catalog._build_func is not None:
                return catalog._build_func(cfg, self, **kwargs)
            catalog = catalog.parent
        return build_from_cfg(cfg, self, **kwargs)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Dotted name (from here) and object of all entries here and below, in order."""
        for key, entry in list(self._entries.items()):
            yield key, entry.obj
        for scope, child in list(self.children.items()):
            for key, obj in child.items():
                yield f"{scope}.{key}", obj

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.items())

    def __len__(self) -> int:
        return sum(1 for _ in self.items())

    def __contains__(self, key: object) -> bool:
        try:
            self._locate(str(key))
        except CatalogError:
            return False
        return True

    def __getitem__(self, key: str) -> Any:
        return self.get(key)

    def __repr__(self) -> str:
        return f"<Catalog {self.path}: {len(self)} entries>"


def _place(obj: Any) -> str:
    """Where ``obj`` was written, or where the caller outside this package stands."""
    code = getattr(obj, "__code__", None)
    if code is not None:
        return f"{code.co_filename}:{code.co_firstlineno}"
    file = getattr(obj, "file", "")
    if file:
        return str(file)
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("mx_autopatch."):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "?"
