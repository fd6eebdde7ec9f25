"""Edits of what a module holds: functions, classes, their members, registries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from mx_autopatch.errors import PatchError, TargetError
from mx_autopatch.model.base import MISSING, Edit, Factory, check_callable, exactly_one
from mx_autopatch.model.targets import RELATIVE, parse_target


@dataclass(frozen=True)
class Replace(Edit):
    """Bind ``replacement`` where the target stood.

    A replacement function takes the original's parameters under the same names,
    and is put into the same kind of descriptor (static method, class method,
    property). It is bound as it is and costs nothing per call; its ``__module__``
    and ``__qualname__`` become the original's while it is bound, so that a pickle
    made under the patch can be read without it.

    With a ``guard``, ``guard(*args, **kwargs)`` picks the replacement (true) or the
    original for each call. Only the guard decides: what the replacement raises
    reaches the caller. A guard that itself raises counts as false and is reported
    once.

    A class given for a class is applied in place, attribute by attribute, so that
    isinstance, super() and pickles keep working; a *subclass* of the original is
    bound in its place instead, since it calls its base.

    ``factory(context)`` may be given in place of ``replacement``, for what can only
    be made once the module is there.
    """

    replacement: Any = MISSING
    guard: Callable[..., bool] | None = None
    factory: Factory | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        exactly_one(self, replacement=self.replacement, factory=self.factory)
        check_callable(self, "guard", self.guard)
        check_callable(self, "factory", self.factory)


@dataclass(frozen=True)
class Wrap(Edit):
    """Call ``wrapper(wrapped, instance, args, kwargs)`` in place of the target.

    wrapt's convention: for a method ``wrapped`` is bound and ``instance`` is the
    object (the class for a class method), else ``instance`` is None. For a class the
    wrapper is called where the class is, and returns what ``wrapped(...)`` returned.

    In place of a wrapper a ``decorator`` may be given: ``decorator(function)`` makes what is
    bound of what stands there, out of its descriptor. With a ``guard`` each call goes to
    the one or to the other, as in :class:`Replace`.
    """

    wrapper: Any = None
    decorator: Callable[[Any], Any] | None = None
    guard: Callable[..., bool] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        given = {"wrapper": self.wrapper, "decorator": self.decorator}
        exactly_one(self, **{k: MISSING if v is None else v for k, v in given.items()})
        for name in ("wrapper", "decorator", "guard"):
            check_callable(self, name, getattr(self, name))
        if self.guard is not None and self.decorator is None:
            raise PatchError(f"Wrap({self.target!r}): a guard goes with a decorator")


@dataclass(frozen=True)
class Rewrite(Edit):
    """Change statements or expressions inside the function ``target``, by its syntax tree.

    ``find`` and ``replace`` are Python source: an expression, or statements. In ``find``
    each ``$name`` stands for any expression (or, where Python wants a bare name, as after
    a dot, for any name), the same one wherever it is written again; ``replace`` writes
    what was found. Statements match a run of neighbours in one block, nested functions
    included. How it is laid out, and whether it is read or assigned to, is no matter::

        Rewrite(
            "mmdet.models.backbones.resnet:BasicBlock.forward",
            find="out += $x; out = self.relu(out)",   # or on two lines
            replace="out = add_relu(out, $x)",
            names={"add_relu": add_relu},
        )

    An empty ``replace`` takes statements out. ``names`` are given to the function beside
    its globals, for what ``replace`` calls; none may have a meaning in it already.

    ``find`` has to be there exactly ``count`` times (matches do not overlap; of nested ones
    the outer counts), else the outcome is MISSING and shows the most similar code.

    The function is compiled anew when it is patched, from its own source with those places
    changed: parameters, defaults, annotations, closure, ``super()``, globals, name and
    attributes are the original's, and its decorators are not run again: around what they
    have made, the same is made with the new function in it. Where the source is not there,
    is not that of the running code, or a decorator hides the function, the outcome is
    FAILED and says so.

    Line numbers are those of the original file. The file name of the new code has
    ``<qualname rewritten by patch>`` behind it, under which linecache holds the new
    source, so that tracebacks, ``inspect.getsource`` and TorchScript show what runs.
    Where ``replace`` needs more lines than what it replaces, the rest of them share the
    number of the last.
    """

    find: str = ""
    replace: str = ""
    count: int = 1
    names: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        what = f"Rewrite({self.target!r})"
        for name in ("find", "replace"):
            if not isinstance(getattr(self, name), str):
                raise PatchError(f"{what}: {name} must be source code, as a string")
        if not self.find.strip():
            raise PatchError(f"{what}: find must not be empty")
        if type(self.count) is not int or self.count < 1:
            raise PatchError(f"{what}: count must be a positive integer, not {self.count!r}")
        for name in self.names:
            if not (isinstance(name, str) and name.isidentifier()):
                raise PatchError(f"{what}: names: {name!r} is no name of a variable")


@dataclass(frozen=True)
class Define(Edit):
    """Give the target a value only if it has none."""

    value: Any = MISSING
    factory: Factory | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        exactly_one(self, value=self.value, factory=self.factory)
        check_callable(self, "factory", self.factory)


@dataclass(frozen=True)
class Register(Edit):
    """Put a class or function into the mmcv/mmengine Registry that the target names.

    ``name`` defaults to the object's own; an entry that exists already is a
    CONFLICT unless ``force`` is true.
    """

    obj: Any = MISSING
    factory: Factory | None = None
    name: str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        exactly_one(self, obj=self.obj, factory=self.factory)
        check_callable(self, "factory", self.factory)


@dataclass(frozen=True)
class Subclasses(Edit):
    """Apply ``edits`` to each class derived from the class ``target`` that ``match`` accepts.

    For what every project keeps a copy of, wherever that is: ``match(cls)`` is called once
    for each existing class that derives from the target, at whatever distance, and for each
    later one as its class statement ends (before its decorators run and its name is bound).
    What is true is a match; a string says why, and is told in the outcome. A ``match``
    that raises counts as false and is reported once.

    ``edits`` are Replace, Wrap, Define and Rewrite; their targets are members of the class,
    written ``*:member``. They are applied in place, all or none to a class, and a factory's
    ``context.module`` is the class. A class that inherits the patched member from another
    match is left at that.

    The outcome names every matched class and why it is one. A class to which the edits
    cannot be applied is named with the reason, and makes the outcome the fault that it is;
    its class statement is not disturbed. A class escapes whose ``__init_subclass__`` comes
    from a class that is not derived from the target and does not call ``super()``: it is
    named in the outcome too.
    """

    match: Any = None
    edits: tuple[Edit, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        what = f"Subclasses({self.target!r})"
        exactly_one(self, match=MISSING if self.match is None else self.match)
        check_callable(self, "match", self.match)
        object.__setattr__(self, "edits", tuple(self.edits))
        if not self.edits:
            raise PatchError(f"{what}: edits must hold at least one edit")
        for edit in self.edits:
            if not isinstance(edit, (Replace, Wrap, Define, Rewrite)):
                raise PatchError(f"{what}: {edit!r} is no Replace, Wrap, Define or Rewrite")
            module, steps = parse_target(edit.target)
            if module != RELATIVE or len(steps) != 1:
                raise TargetError(f"{what}: target {edit.target!r}: expected '*:member'")
